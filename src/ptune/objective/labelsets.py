"""What predicted sets of labels are worth, where a row may have any number of them: micro and macro F1, whole sets, per label.

In: true and predicted labels of each row. Out: `MultiLabelReport`. Micro figures count all decisions at once, so that frequent
labels weigh more; macro F1 is the mean over the labels.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ptune.data import did_you_mean, listed
from ptune.errors import DataError
from ptune.objective.report import ClassFigures, wilson

__all__ = ["MultiLabelReport", "label_set_report"]


@dataclass(frozen=True)
class MultiLabelReport:
    """Figures of one evaluation of sets of labels.

    Args:
        score: micro F1.
        precision, recall: micro.
        macro_f1: mean F1 over the labels that occur or are predicted.
        exact: share of rows whose whole set is right.
        interval: 95 % interval of `exact`.
        num_rows: rows judged.
        labels: names in order.
        classes: figures per label.
        metric: what `score` is.
    """

    score: float
    precision: float
    recall: float
    macro_f1: float
    exact: float
    interval: tuple[float, float]
    num_rows: int
    labels: tuple[str, ...]
    classes: dict[str, ClassFigures]
    metric: str = "micro_f1"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for people: the main ones, then one line for each label."""
        low, high = self.interval
        width = max(map(len, self.labels), default=5)
        lines = [
            f"micro-F1 {self.score:.3f} (precision {self.precision:.3f}, recall {self.recall:.3f}), "
            f"macro-F1 {self.macro_f1:.3f}, whole set right {self.exact:.3f} (95 % interval {low:.3f} to {high:.3f}), "
            f"{self.num_rows} rows"
        ]
        for name, figures in self.classes.items():
            lines.append(
                f"  {name:<{width}}  precision {figures.precision:.3f}  recall {figures.recall:.3f}  "
                f"F1 {figures.f1:.3f}  rows {figures.num_rows}"
            )
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def label_set_report(
    true: Sequence[Collection[str]], predicted: Sequence[Collection[str]], labels: Sequence[str]
) -> MultiLabelReport:
    """Judges predicted sets of labels.

    Args:
        true: the labels of each row; none is a set like any other.
        predicted: as many.
        labels: all labels in order.

    Raises:
        DataError: the numbers of rows differ, or a label is unknown.
    """
    if len(true) != len(predicted):
        raise DataError(f"{len(predicted)} predicted sets of labels for {len(true)} rows", fix="predict each row once")
    rights, guesses = _sets(true, labels), _sets(predicted, labels)
    classes: dict[str, ClassFigures] = {}
    num_hits = num_true = num_guessed = 0
    for name in labels:
        actual, guessed = sum(name in row for row in rights), sum(name in row for row in guesses)
        hits = sum(name in right and name in guess for right, guess in zip(rights, guesses, strict=True))
        classes[name] = ClassFigures(*_figures(hits, actual, guessed), actual)
        num_hits, num_true, num_guessed = num_hits + hits, num_true + actual, num_guessed + guessed
    occur = {name for row in (*rights, *guesses) for name in row}
    seen = [classes[name].f1 for name in labels if name in occur]
    num_exact = sum(right == guess for right, guess in zip(rights, guesses, strict=True))
    precision, recall, f1 = _figures(num_hits, num_true, num_guessed)
    return MultiLabelReport(
        score=f1,
        precision=precision,
        recall=recall,
        macro_f1=sum(seen) / len(seen) if seen else 0.0,
        exact=num_exact / len(rights) if rights else 0.0,
        interval=wilson(num_exact, len(rights)),
        num_rows=len(rights),
        labels=tuple(labels),
        classes=classes,
    )


def _sets(rows: Sequence[Collection[str]], labels: Sequence[str]) -> list[frozenset[str]]:
    known = set(labels)
    sets = [frozenset(row) for row in rows]
    for number, names in enumerate(sets, 1):
        strange = sorted(names - known)
        if strange:
            fix = did_you_mean(strange[0], labels, f"the labels are {listed(labels)}")
            raise DataError(f"unknown label '{strange[0]}'", where=f"row {number}", fix=fix)
    return sets


def _figures(num_hits: int, num_true: int, num_guessed: int) -> tuple[float, float, float]:
    precision, recall = num_hits / num_guessed if num_guessed else 0.0, num_hits / num_true if num_true else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if num_hits else 0.0
