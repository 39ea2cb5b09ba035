"""What words found for gaps are worth, out of the whole vocabulary: precision at 1 and at 10, mean reciprocal rank.

In: the rank of each row's right word among all words, or None where no single token of the model is that word. Out:
`ClozeReport`. Rows that a model cannot get right count as wrong, and the report says how many there were: scores of models with
different vocabularies can be compared. Source: Petroni et al. 2019 (LAMA), section 4.2; they leave such rows out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ptune.errors import DataError
from ptune.objective.report import wilson

__all__ = ["ClozeReport", "cloze_report"]


@dataclass(frozen=True)
class ClozeReport:
    """Figures of one evaluation of gaps.

    Args:
        score: precision at 1: share of rows whose most probable word is the right one.
        interval: 95 % interval of it.
        at_10: share of rows whose right word is among the ten most probable.
        mrr: mean of 1 / rank.
        reachable: share of rows whose right word is one token of the model.
        num_rows: rows judged, the others included.
        metric: what `score` is.
    """

    score: float
    interval: tuple[float, float]
    at_10: float
    mrr: float
    reachable: float
    num_rows: int
    metric: str = "precision_at_1"

    @property
    def score_of_reachable(self) -> float:
        """Precision at 1 among rows whose right word is one token: LAMA's own figure."""
        return self.score / self.reachable if self.reachable else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {**asdict(self), "score_of_reachable": self.score_of_reachable}

    def lines(self) -> list[str]:
        """The figures for people."""
        low, high = self.interval
        return [
            f"precision at 1 {self.score:.3f} (95 % interval {low:.3f} to {high:.3f}), at 10 {self.at_10:.3f}, "
            f"mean reciprocal rank {self.mrr:.3f}, {self.num_rows} rows",
            f"  one token of the model {self.reachable:.3f}, of those right {self.score_of_reachable:.3f}",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def cloze_report(ranks: Sequence[int | None]) -> ClozeReport:
    """Judges words by the ranks of the right ones.

    Args:
        ranks: from 1; None where the right word is not one token.

    Raises:
        DataError: a rank below 1.
    """
    known = [rank for rank in ranks if rank is not None]
    if any(rank < 1 for rank in known):
        raise DataError(f"a rank is {min(known)}", fix="count ranks from 1")
    num_rows = len(ranks)
    num_first = sum(rank == 1 for rank in known)
    return ClozeReport(
        score=num_first / num_rows if num_rows else 0.0,
        interval=wilson(num_first, num_rows),
        at_10=sum(rank <= 10 for rank in known) / num_rows if num_rows else 0.0,
        mrr=sum(1 / rank for rank in known) / num_rows if num_rows else 0.0,
        reachable=len(known) / num_rows if num_rows else 0.0,
        num_rows=num_rows,
    )
