"""The one thread that owns the model: it runs jobs (a task is built) and, in turn, a step of each kind of work.

In: jobs, and kinds of work that say whether they have something to do. Out: whatever those hand to the ones who asked. A step
is small (one batch of texts, or one token for each text that is being written): no kind of work keeps another waiting.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

import torch

from ptune.errors import notice

__all__ = ["Work", "Worker"]

T = TypeVar("T")

_JOBS_BETWEEN_STEPS = 4


class Work(Protocol):
    """One kind of work."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""

    def step(self) -> None:
        """Does a little; never raises for what a client sent."""

    def give_up(self) -> None:
        """The server stops: refuses what is left."""


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
        self._is_idle = threading.Event()
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
        for work in self._works:
            work.give_up()
        return is_finished

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._jobs or self._is_stopping or any(work.has_work for work in self._works))
                jobs = [self._jobs.popleft() for _ in range(min(_JOBS_BETWEEN_STEPS, len(self._jobs)))]
                if self._is_stopping and not jobs and not any(work.has_work for work in self._works):
                    return
            for job in jobs:
                job()
            for work in self._works:
                if work.has_work:
                    self._step(work)

    def _step(self, work: Work) -> None:
        try:
            with torch.no_grad():
                work.step()
        except Exception as error:  # a fault of ptune's own must not end the server
            notice(f"a step failed: {type(error).__name__}: {error}")
            work.give_up()
