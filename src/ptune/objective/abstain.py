"""What a classifier is worth that may decline to answer: how often it answers, and how often it is then right.

In: the highest probability of each row, whether the label is right, a threshold. Out: `Abstention`.
Source: El-Yaniv & Wiener 2010 (risk and coverage of selective classification).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Abstention", "abstention"]


@dataclass(frozen=True)
class Abstention:
    """Figures at one threshold.

    Args:
        below: rows whose highest probability is lower are not answered.
        coverage: share of rows that are answered.
        accuracy: share of the answered rows that are right; None where none is answered.
        num_rows: rows judged.
    """

    below: float
    coverage: float
    accuracy: float | None
    num_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        right = "none" if self.accuracy is None else f"{self.accuracy:.3f}"
        return f"answered {self.coverage:.3f} of {self.num_rows} rows, of these right {right}"


def abstention(confidences: Sequence[float], is_right: Sequence[bool], *, below: float) -> Abstention:
    """Judges a threshold.

    Args:
        confidences: highest probability of each row.
        is_right: whether that label is the true one.
        below: the threshold.
    """
    answered = [right for confidence, right in zip(confidences, is_right, strict=True) if confidence >= below]
    coverage = len(answered) / len(confidences) if confidences else 0.0
    return Abstention(below, coverage, sum(answered) / len(answered) if answered else None, len(confidences))
