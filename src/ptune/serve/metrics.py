"""Figures of a running server in the Prometheus text format.

In: what happens. Out: `/metrics`. Each server has a registry of its own. Labels are task names, routes and statuses, never
anything that a client made up: a request for a task that is not there counts under no name.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.5)
_NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """All figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered.", "route", "task", "status")
        self.seconds = self._histogram("request_seconds", "From the first byte of a request to its answer.", _SECONDS, "route")
        self.refused = self._counter("refused", "Texts that were not taken on, or given up.", "why")
        self.waiting = self._gauge("queue_texts", "Texts that wait.", "work")
        self.wait_seconds = self._histogram("queue_seconds", "How long texts waited.", _SECONDS)
        self.step_seconds = self._histogram("step_seconds", "How long a step took.", _SECONDS, "work")
        self.step_texts = self._histogram("step_texts", "Texts of a step.", _NUMBERS, "work")
        self.step_tasks = self._histogram("step_tasks", "Tasks of a step.", _NUMBERS, "work")
        self.step_fill = self._histogram("step_fill", "Tokens of a step, as a share of what it may hold.", _SHARES, "work")
        self.tokens = self._counter("tokens", "Live tokens computed, or written.", "kind")
        self.texts = self._counter("texts", "Texts answered.", "task")
        self.running = self._gauge("running_texts", "Texts that are being written.")
        self.resident = self._gauge("task_resident", "1 where a task is in memory.", "task")
        self.bytes = self._gauge("task_bytes", "Memory that a task takes.", "task")
        self.loads = self._counter("task_loads", "How often a task was put into memory.", "task")
        self.evictions = self._counter("task_evictions", "How often a task was put out of memory.", "task")
        self.load_seconds = self._histogram("task_load_seconds", "How long that took.", _SECONDS)
        self.tasks = self._gauge("tasks", "Bundles in the folder.", "state")

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)

    def forget(self, task: str) -> None:
        """Drops a task's figures when its bundle is gone, so that names that come and go never fill the memory."""
        for figure in (self.resident, self.bytes, self.loads, self.evictions, self.texts, self.requests):
            figure.remove_by_labels({"task": task})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ptune_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ptune_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"ptune_{name}", text, labels, buckets=buckets, registry=self.registry)
