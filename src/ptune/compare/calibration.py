"""Whether probabilities mean what they say: expected calibration error and the bins of a reliability diagram.

In: probabilities [R, C] and true classes. Out: for ten bins of the top probability, how many rows, how sure, how often right.
Source: Guo et al. 2017.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bin", "calibration_error", "reliability"]

_NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows whose top probability lies in one tenth.

    Args:
        low, high: of the tenth.
        num_rows: how many.
        confidence: their mean top probability.
        accuracy: their share of right answers.
    """

    low: float
    high: float
    num_rows: int
    confidence: float
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def reliability(probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> tuple[Bin, ...]:
    """The bins that have rows."""
    top, right = probabilities.max(1), probabilities.argmax(1) == classes
    number = np.minimum((top * _NUM_BINS).astype(int), _NUM_BINS - 1)
    found = []
    for at in range(_NUM_BINS):
        mine = number == at
        if mine.any():
            edges = at / _NUM_BINS, (at + 1) / _NUM_BINS
            found.append(Bin(*edges, int(mine.sum()), float(top[mine].mean()), float(right[mine].mean())))
    return tuple(found)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean distance between how sure and how right, weighted by rows."""
    total = sum(one.num_rows for one in bins)
    return sum(one.num_rows * abs(one.confidence - one.accuracy) for one in bins) / total if total else 0.0
