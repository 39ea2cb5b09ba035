"""What chosen answers are worth where each row has choices of its own: accuracy with its interval, beside that of guessing.

In: the number of the right and of the chosen one in each row, and how many there were. Out: `ChoiceReport`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ptune.errors import DataError
from ptune.objective.report import wilson

__all__ = ["ChoiceReport", "choice_report"]


@dataclass(frozen=True)
class ChoiceReport:
    """Figures of one evaluation of choices.

    Args:
        score: accuracy: share of rows whose right choice was chosen.
        interval: 95 % interval of it.
        chance: expected accuracy of guessing.
        num_rows: rows judged.
        loss: mean negative log-probability of the right choice among the row's, or None.
        metric: what `score` is.
    """

    score: float
    interval: tuple[float, float]
    chance: float
    num_rows: int
    loss: float | None = None
    metric: str = "accuracy"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for people."""
        low, high = self.interval
        interval = f"95 % interval {low:.3f} to {high:.3f}"
        return [f"accuracy {self.score:.3f} ({interval}), guessing {self.chance:.3f}, {self.num_rows} rows"]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def choice_report(
    true: Sequence[int], chosen: Sequence[int], num_choices: Sequence[int], *, loss: float | None = None
) -> ChoiceReport:
    """Judges chosen answers.

    Args:
        true: number of the right choice of each row, from 0.
        chosen: number of the chosen one.
        num_choices: how many choices each row had.
        loss: mean negative log-probability of the right ones, to be passed on.

    Raises:
        DataError: the counts differ, or a number is no choice of its row.
    """
    if not len(true) == len(chosen) == len(num_choices):
        raise DataError(f"{len(chosen)} answers, {len(num_choices)} counts, {len(true)} rows", fix="give one for each row")
    for row, (right, guess, count) in enumerate(zip(true, chosen, num_choices, strict=True), 1):
        if not (0 <= right < count and 0 <= guess < count):
            raise DataError(f"answer {guess} for {right} of {count} choices", where=f"row {row}", fix="number choices from 0")
    num_right = sum(right == guess for right, guess in zip(true, chosen, strict=True))
    num_rows = len(true)
    return ChoiceReport(
        score=num_right / num_rows if num_rows else 0.0,
        interval=wilson(num_right, num_rows),
        chance=sum(1 / count for count in num_choices) / num_rows if num_rows else 0.0,
        num_rows=num_rows,
        loss=loss,
    )
