"""What the reports of all kinds of task have in common, so that one table and one command line show them all."""

from typing import Any, Protocol, runtime_checkable

__all__ = ["TaskReport"]


@runtime_checkable
class TaskReport(Protocol):
    """Figures of one evaluation; its text is what people read.

    Attributes:
        metric: name of the main figure.
        score: its value; higher is better.
        num_rows: rows judged.
    """

    @property
    def metric(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def num_rows(self) -> int: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
