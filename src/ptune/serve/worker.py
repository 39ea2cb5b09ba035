"""The one thread that owns the model: it runs jobs (a task is built), and steps of each kind of work by their share of time.

In: jobs, and kinds of work that say whether they have something to do. Out: whatever those hand to the ones who asked. A step
is small (one batch of texts, or one token for each text that is being written): no kind of work keeps another waiting, and
a text of many small steps is not held up by a large step between any two of them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

import torch

from ptune.serve.logs import log
from ptune.serve.memory import give_back
from ptune.serve.refusals import Refusal, fault, not_ready

__all__ = ["Work", "Worker"]

T = TypeVar("T")

_JOBS_BETWEEN_STEPS = 4
_IDLE_SECONDS = 1.0
_BUSY_SECONDS = 60.0


class Work(Protocol):
    """One kind of work.

    `weight` is its share of the time where several have something to do.
    """

    weight: float

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""

    def step(self) -> None:
        """Does a little; never raises for what a client sent."""

    def give_up(self, refusal: Refusal) -> None:
        """Refuses all that waits or runs: the server stops (then from another thread), or a step failed."""


class Worker:
    """See the module's docstring.

    Args:
        threads: torch's threads; None leaves its own number.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._works: Sequence[Work] = ()
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._is_stopping = False
        self._gave_back_at = time.monotonic()
        self._spent: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="ptune-worker", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self, works: Sequence[Work]) -> None:
        """Begins.

        Args:
            works: kinds of work, stepped in turn.
        """
        self._works = works
        self._spent = {id(work): 0.0 for work in works}
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        with self._wake:
            self._wake.notify()

    def call(self, job: Callable[[], T]) -> "Future[T]":
        """Runs a job on the thread, between two steps."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)

        with self._wake:
            if self._is_stopping:
                future.cancel()
                return future
            self._jobs.append(run)
            self._wake.notify()
        return future

    def stop(self, grace_seconds: float) -> bool:
        """Finishes what was taken on, for so long at most; then refuses the rest.

        Returns:
            Whether everything was finished.
        """
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._thread.join(grace_seconds)
        is_finished = not self._thread.is_alive()
        self.give_up(not_ready("the server is stopping"))
        return is_finished

    def give_up(self, refusal: Refusal) -> None:
        """Refuses all that waits or runs; from any thread."""
        for work in self._works:
            work.give_up(refusal)

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while True:
            self._wait()
            with self._wake:
                jobs = [self._jobs.popleft() for _ in range(min(_JOBS_BETWEEN_STEPS, len(self._jobs)))]
                if self._is_stopping and not jobs and not any(work.has_work for work in self._works):
                    return
            for job in jobs:
                job()
            work = self._next()
            if work is not None:
                started = time.monotonic()
                self._step(work)
                self._spent[id(work)] += (time.monotonic() - started) / work.weight

    def _next(self) -> Work | None:
        """Of the kinds with something to do, the one that had least time for its weight; time without work earns nothing."""
        ready = [work for work in self._works if work.has_work]
        if not ready:
            return None
        chosen = min(ready, key=lambda work: self._spent[id(work)])
        for work in self._works:
            self._spent[id(work)] = max(self._spent[id(work)], self._spent[id(chosen)])
        return chosen

    def _wait(self) -> None:
        """Until there is something to do; gives memory back once when nothing comes, and now and then under load."""

        def is_called() -> bool:
            return bool(self._jobs) or self._is_stopping or any(work.has_work for work in self._works)

        with self._wake:
            is_busy = self._wake.wait_for(is_called, _IDLE_SECONDS)
        if not is_busy or time.monotonic() - self._gave_back_at > _BUSY_SECONDS:
            give_back()
            self._gave_back_at = time.monotonic()
        with self._wake:
            self._wake.wait_for(is_called)

    def _step(self, work: Work) -> None:
        try:
            with torch.no_grad():
                work.step()
        except Exception as error:  # a fault of ptune's own must not end the server
            log("step_failed", level="error", error=f"{type(error).__name__}: {error}")
            work.give_up(fault())
