"""Training as a person watches it: a progress bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptune.train.loop import Listener, TrainEvent

__all__ = ["progress"]

_NUM_PLAIN_LINES = 10


def progress(*, enabled: bool = True) -> Listener:
    """A listener that shows loss, metric, speed and time left on standard error.

    Args:
        enabled: False gives a listener that says nothing.
    """
    if not enabled:
        return lambda event: None
    return _Bar() if sys.stderr.isatty() else _Lines()


def _seconds_left(event: TrainEvent, first_step: int) -> float:
    done = max(1, event.step - first_step)
    return event.seconds / done * (event.num_steps - event.step)


def _figure(event: TrainEvent) -> str:
    return f"{event.metric.replace('_', ' ')} {event.score:.3f}"


class _Lines:
    """About ten lines over a run."""

    def __init__(self) -> None:
        self.first_step: int | None = None

    def __call__(self, event: TrainEvent) -> None:
        if self.first_step is None:
            self.first_step = event.step - 1
        every = max(1, event.num_steps // _NUM_PLAIN_LINES)
        if event.kind == "validation":
            print(f"step {event.step}/{event.num_steps}  validation {_figure(event)}", file=sys.stderr)
        elif event.kind == "step" and (event.step % every == 0 or event.step == event.num_steps):
            speed = (event.step - self.first_step) / max(event.seconds, 1e-9)
            left = _seconds_left(event, self.first_step)
            print(
                f"step {event.step}/{event.num_steps}  loss {event.loss:.3f}  {speed:.1f} steps/s  {left:.0f} s left",
                file=sys.stderr,
            )


class _Bar:
    """rich's progress bar."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._validation = ""

    def __call__(self, event: TrainEvent) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("training", total=event.num_steps)
        if event.kind == "validation":
            self._validation = f"  validation {_figure(event)}"
        if event.kind == "end":
            self._bar.stop()
            return
        speed = event.step / max(event.seconds, 1e-9)
        self._bar.update(
            self._task, completed=event.step, description=f"loss {event.loss:.3f}  {speed:.1f}/s{self._validation}"
        )
