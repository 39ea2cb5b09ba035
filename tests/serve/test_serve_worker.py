"""The thread that owns the model: shares of time, faults, and memory that goes back to the system."""

import sys
import time
from collections.abc import Callable

import pytest

from ptune.serve import worker as worker_module
from ptune.serve.memory import give_back
from ptune.serve.refusals import Refusal
from ptune.serve.worker import Worker


class Count:
    """Work of so many steps; a step may fail."""

    def __init__(self, num_steps: int, *, fails: bool = False, weight: float = 1.0, seconds: float = 0.0) -> None:
        self.weight, self.seconds = weight, seconds
        self.left, self.fails, self.refusals = num_steps, fails, list[Refusal]()

    @property
    def has_work(self) -> bool:
        return self.left > 0

    def step(self) -> None:
        self.left -= 1
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("a fault")

    def give_up(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)


def waits(until: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 10
    while not until() and time.monotonic() < ends:
        time.sleep(0.01)
    return until()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc_trim")
def test_freed_memory_can_be_given_back() -> None:
    assert give_back()


def test_an_idle_worker_gives_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    monkeypatch.setattr(worker_module, "give_back", lambda: times.append(time.monotonic()))
    monkeypatch.setattr(worker_module, "_IDLE_SECONDS", 0.05)
    worker = Worker()
    worker.start([Count(0)])
    assert waits(lambda: len(times) == 1)
    time.sleep(0.3)
    assert len(times) == 1  # not again before there was something to do
    assert worker.call(lambda: 7).result(5) == 7
    assert waits(lambda: len(times) == 2)
    assert worker.stop(5)


def test_a_busy_worker_gives_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    monkeypatch.setattr(worker_module, "give_back", lambda: times.append(time.monotonic()))
    monkeypatch.setattr(worker_module, "_BUSY_SECONDS", 0.0)
    worker, work = Worker(), Count(20)
    worker.start([work])
    assert waits(lambda: not work.has_work)
    assert worker.stop(5) and len(times) >= 10


def test_a_step_that_fails_refuses_as_a_fault_and_the_end_as_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    worker, work = Worker(), Count(1, fails=True)
    worker.start([work])
    assert waits(lambda: bool(work.refusals))
    assert worker.stop(5)
    assert [one.status for one in work.refusals] == [500, 503]
    faults = [record.facts for record in caplog.records if getattr(record, "event", "") == "step_failed"]  # type: ignore[attr-defined]
    assert faults == [{"error": "RuntimeError: a fault"}]


def test_time_is_shared_by_weight_not_by_steps() -> None:
    """Ten small steps go beside one large one; twice as many with twice the weight."""
    worker, large, small = Worker(), Count(10**6, seconds=0.05), Count(10**6, seconds=0.005, weight=2.0)
    worker.start([large, small])
    assert waits(lambda: large.left <= 10**6 - 8)
    num_large, num_small = 10**6 - large.left, 10**6 - small.left
    large.left = small.left = 0
    assert worker.stop(5)
    assert 10 <= num_small / num_large <= 24


def test_work_that_comes_late_has_saved_up_nothing() -> None:
    worker, early, late = Worker(), Count(10**6, seconds=0.01), Count(0, seconds=0.01)
    worker.start([early, late])
    assert waits(lambda: early.left <= 10**6 - 20)
    late.left, before = 10**6, early.left
    assert waits(lambda: late.left <= 10**6 - 10)
    num_early, num_late = before - early.left, 10**6 - late.left
    early.left = late.left = 0
    assert worker.stop(5)
    assert num_early >= num_late / 2
