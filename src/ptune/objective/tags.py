"""What predicted tags are worth: precision, recall and F1 of the spans that they stand for, as conlleval counts them.

In: rows of true and predicted tags in any scheme. Out: `TagReport`. A span is right where type, start and end are; figures are
over all rows at once (micro), and for each type. The accuracy of single tokens stands beside them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ptune.data import tag_spans
from ptune.errors import DataError

__all__ = ["SpanFigures", "TagReport", "tag_report"]


@dataclass(frozen=True)
class SpanFigures:
    """Precision, recall and F1 of the spans of one type, how many there truly are, and how many were predicted."""

    precision: float
    recall: float
    f1: float
    num_true: int
    num_predicted: int


@dataclass(frozen=True)
class TagReport:
    """Figures of one evaluation of tags.

    Args:
        score: micro F1 of the spans.
        precision, recall: of the spans, micro.
        accuracy: share of tokens whose tag is right.
        macro_f1: mean F1 over the types that occur or are predicted.
        num_rows, num_tokens, num_true, num_predicted: rows and tokens judged, true and predicted spans.
        types: figures per type, in order of name.
        metric: what `score` is.
    """

    score: float
    precision: float
    recall: float
    accuracy: float
    macro_f1: float
    num_rows: int
    num_tokens: int
    num_true: int
    num_predicted: int
    types: dict[str, SpanFigures]
    metric: str = "f1"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for people: the main ones, then one line for each type."""
        width = max(map(len, self.types), default=0)
        lines = [
            f"F1 {self.score:.3f} of {self.num_true} spans (precision {self.precision:.3f}, recall {self.recall:.3f}), "
            f"token accuracy {self.accuracy:.3f}, {self.num_rows} rows"
        ]
        for name, figures in self.types.items():
            lines.append(
                f"  {name:<{width}}  precision {figures.precision:.3f}  recall {figures.recall:.3f}  "
                f"F1 {figures.f1:.3f}  spans {figures.num_true}"
            )
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def tag_report(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> TagReport:
    """Judges predicted tags.

    Args:
        true: the tags of each row.
        predicted: as many rows with as many tags; the scheme may be another one, which then costs token accuracy only.

    Raises:
        DataError: the numbers of rows or of a row's tags differ.
    """
    _check_lengths(true, predicted)
    hits, actual, guessed = Counter[str](), Counter[str](), Counter[str]()
    num_tokens = num_same = 0
    for right, guess in zip(true, predicted, strict=True):
        spans, found = set(tag_spans(right)), set(tag_spans(guess))
        actual.update(span.type for span in spans)
        guessed.update(span.type for span in found)
        hits.update(span.type for span in spans & found)
        num_tokens += len(right)
        num_same += sum(map(str.__eq__, right, guess))
    types = {name: _figures(hits[name], actual[name], guessed[name]) for name in sorted(actual | guessed)}
    total = _figures(hits.total(), actual.total(), guessed.total())
    return TagReport(
        score=total.f1,
        precision=total.precision,
        recall=total.recall,
        accuracy=num_same / num_tokens if num_tokens else 0.0,
        macro_f1=sum(figures.f1 for figures in types.values()) / len(types) if types else 0.0,
        num_rows=len(true),
        num_tokens=num_tokens,
        num_true=total.num_true,
        num_predicted=total.num_predicted,
        types=types,
    )


def _check_lengths(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    if len(true) != len(predicted):
        raise DataError(f"{len(predicted)} rows of predicted tags for {len(true)} rows", fix="predict each row once")
    for number, (right, guess) in enumerate(zip(true, predicted, strict=True), 1):
        if len(right) != len(guess):
            what = f"{len(guess)} predicted tags for {len(right)} tokens"
            raise DataError(what, where=f"row {number}", fix="predict one tag for each token")


def _figures(num_hits: int, num_true: int, num_predicted: int) -> SpanFigures:
    precision, recall = num_hits / num_predicted if num_predicted else 0.0, num_hits / num_true if num_true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if num_hits else 0.0
    return SpanFigures(precision, recall, f1, num_true, num_predicted)
