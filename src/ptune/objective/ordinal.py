"""What predicted numbers are worth: rank and linear correlation, errors, and how many steps of the scale they are off.

In: true and predicted numbers, such as ratings and their expected values. Out: `OrdinalReport`. Spearman's correlation is
Pearson's of the ranks, where equal values share their mean rank.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptune.errors import DataError

__all__ = ["OrdinalReport", "ordinal_report"]

_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class OrdinalReport:
    """Figures of one evaluation of numbers.

    Args:
        score: Spearman's correlation, -1 to 1; 0 where all true or all predicted numbers are equal.
        pearson: linear correlation; 0 in the same cases.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        accuracy: share of rows whose nearest level is the true one; None without levels.
        within_one: share of rows whose nearest level is the true one or beside it; None without levels.
        num_rows: rows judged.
        metric: what `score` is.
    """

    score: float
    pearson: float
    mae: float
    rmse: float
    accuracy: float | None
    within_one: float | None
    num_rows: int
    metric: str = "spearman"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for people."""
        lines = [
            f"Spearman {self.score:.3f}, Pearson {self.pearson:.3f}, mean error {self.mae:.3f}, "
            f"root mean square {self.rmse:.3f}, {self.num_rows} rows"
        ]
        if self.accuracy is not None and self.within_one is not None:
            lines.append(f"  nearest level right {self.accuracy:.3f}, at most one step off {self.within_one:.3f}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def ordinal_report(
    true: Sequence[float], predicted: Sequence[float], *, levels: Sequence[float] | None = None
) -> OrdinalReport:
    """Judges predicted numbers.

    Args:
        true: numbers.
        predicted: as many numbers.
        levels: the steps of the scale, where it has steps; each true number is one of them.

    Raises:
        DataError: the counts differ, a number is not finite, or a true number is no level.
    """
    if len(true) != len(predicted):
        raise DataError(f"{len(predicted)} predicted numbers for {len(true)} rows", fix="predict each row once")
    right, guess = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    for name, numbers in (("true", right), ("predicted", guess)):
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise DataError(f"the {name} number is {numbers[row]}", where=f"row {row + 1}", fix="give finite numbers")
    error = guess - right
    accuracy, within_one = _steps(right, guess, levels)
    return OrdinalReport(
        score=_correlation(_ranks(right), _ranks(guess)),
        pearson=_correlation(right, guess),
        mae=float(np.abs(error).mean()) if len(error) else 0.0,
        rmse=float(np.sqrt((error**2).mean())) if len(error) else 0.0,
        accuracy=accuracy,
        within_one=within_one,
        num_rows=len(error),
    )


def _steps(right: _Numbers, guess: _Numbers, levels: Sequence[float] | None) -> tuple[float | None, float | None]:
    """Shares of rows with the true level, and with that or one beside it; of two levels as near, the lower one counts."""
    if levels is None or not len(right):
        return None, None
    scale = np.unique(np.asarray(levels, dtype=np.float64))
    true_step, step = (np.abs(numbers[:, None] - scale).argmin(1) for numbers in (right, guess))
    off = np.flatnonzero(scale[true_step] != right)
    if len(off):
        what = f"the true number {right[off[0]]:g} is none of the levels {', '.join(f'{level:g}' for level in scale)}"
        raise DataError(what, where=f"row {off[0] + 1}", fix="correct the row or add the level")
    distance = np.abs(step - true_step)
    return float((distance == 0).mean()), float((distance <= 1).mean())


def _ranks(numbers: _Numbers) -> _Numbers:
    """Ranks from 1; equal numbers share the mean of theirs."""
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: _Numbers = (ends - (counts - 1) / 2)[place]
    return ranks


def _correlation(left: _Numbers, right: _Numbers) -> float:
    if len(left) < 2 or (left == left[0]).all() or (right == right[0]).all():
        return 0.0
    x, y = left - left.mean(), right - right.mean()
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / scale, -1, 1)) if scale > 0 else 0.0
