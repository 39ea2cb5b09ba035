"""Rows of extractive question answering: contexts and their tokens, windows, batches, and what a task says of a row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Int
from torch import Tensor

from ptune.data import Answer, Example, read_answers
from ptune.inputs import Batch, Window
from ptune.model.outcome import Prepared

__all__ = ["BatchSpans", "FoundAnswer", "PreparedSpans", "QaPrediction", "QaRow", "given_answers"]


@dataclass(frozen=True)
class FoundAnswer:
    """A span of the context.

    Args:
        text: as it stands there.
        start, end: its characters.
        score: by how much its two ends beat "no answer" in their window (log odds).
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class QaPrediction:
    """What the task says about one question.

    Args:
        text: the answer as it stands in the context; "" for none.
        start, end: its characters in the context; None for none.
        probability: among all that is in `n_best`.
        n_best: the best spans, whether an answer is given or not; each with its probability.
    """

    text: str
    start: int | None
    end: int | None
    probability: float
    n_best: tuple[tuple[FoundAnswer, float], ...]

    @classmethod
    def of(cls, found: Sequence[FoundAnswer], n_best: int, threshold: float | None) -> "QaPrediction":
        """From a row's spans, best first.

        Args:
            found: the spans.
            n_best: how many to list.
            threshold: score that the best one must reach; None gives an answer wherever there is one.
        """
        kept = list(found[:n_best])
        if not kept:
            return cls("", None, None, 1.0, ())
        none = [] if threshold is None else [threshold]
        most = max(kept[0].score, *none) if none else kept[0].score
        weights = [math.exp(score - most) for score in (*(one.score for one in kept), *none)]
        shares = [weight / sum(weights) for weight in weights]
        listed = tuple(zip(kept, shares, strict=False))
        if threshold is not None and kept[0].score < threshold:
            return cls("", None, None, shares[-1], listed)
        return cls(kept[0].text, kept[0].start, kept[0].end, shares[0], listed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        n_best = [{**vars(one), "score": round(one.score, 6), "probability": round(share, 6)} for one, share in self.n_best]
        answer = {"answer": self.text, "start": self.start, "end": self.end, "probability": self.probability}
        return {**answer, "n_best": n_best}

    def __str__(self) -> str:
        return f"{self.text or '(no answer)'}  {self.probability:.2f}"


@dataclass(frozen=True)
class QaRow:
    """A row as it is read.

    Args:
        context: its text.
        spans: the characters of each of the context's tokens.
        answers: all right ones; None where they are not known.
    """

    context: str
    spans: tuple[tuple[int, int], ...]
    answers: tuple[str, ...] | None


@dataclass(frozen=True)
class PreparedSpans(Prepared):
    """Windows of rows.

    Args:
        tokens: of each window, the context's tokens that may begin or end an answer.
        places: of each window, its null place and then where these tokens stand.
        windows: which part of the context each one holds.
        row_of: of each window, the number of its row.
        targets: of each window, the columns of the answer's first and last token, 0 for the null place; None if not known.
        rows: the rows themselves (a list, so that it is not taken for an entry a window).
    """

    tokens: tuple[tuple[int, ...], ...] = ()
    places: tuple[tuple[int, ...], ...] = ()
    windows: tuple[Window, ...] = ()
    row_of: tuple[int, ...] = ()
    targets: tuple[tuple[int, int] | None, ...] = ()
    rows: list[QaRow] = field(default_factory=list)


@dataclass(frozen=True)
class BatchSpans(Batch):
    """A batch with the column of each place, and the columns [B, 2] of the answers; None where one is not known."""

    column: Int[Tensor, " U"] | None = None
    targets: Int[Tensor, "B 2"] | None = None


def given_answers(example: Example, column: str) -> tuple[Answer, ...]:
    """A row's answers, those without a text left out.

    Raises:
        DataError: they cannot be read.
    """
    return tuple(answer for answer in read_answers(example.fields[column], example.where) if answer[0].strip())
