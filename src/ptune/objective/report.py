"""What predictions are worth: accuracy with its interval, macro-F1, per class figures, confusion.

In: true and predicted class numbers. Out: `Report`, which prints itself and turns into JSON. The interval is Wilson's at 95 %,
which stays inside [0, 1] and is right for small tests.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

__all__ = ["ClassFigures", "Report", "report", "wilson"]

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one label, and how many rows truly have it."""

    precision: float
    recall: float
    f1: float
    num_rows: int


@dataclass(frozen=True)
class Report:
    """Figures of one evaluation.

    Args:
        accuracy: share of rows that are right.
        interval: 95 % interval of the accuracy.
        macro_f1: mean F1 over the labels that occur or are predicted.
        num_rows: rows judged.
        labels: names in order.
        classes: figures per label.
        confusion: [C][C] counts, true label by predicted label.
        loss: mean negative log-likelihood of the true label, or None.
    """

    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    num_rows: int
    labels: tuple[str, ...]
    classes: dict[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    loss: float | None = None

    @property
    def metric(self) -> str:
        """Name of the main figure."""
        return "accuracy"

    @property
    def score(self) -> float:
        """The main figure."""
        return self.accuracy

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.interval
        width = max(map(len, self.labels), default=5)
        lines = [
            f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}), "
            f"macro-F1 {self.macro_f1:.3f}, {self.num_rows} rows"
        ]
        for name, figures in self.classes.items():
            lines.append(
                f"  {name:<{width}}  precision {figures.precision:.3f}  recall {figures.recall:.3f}  "
                f"F1 {figures.f1:.3f}  rows {figures.num_rows}"
            )
        return "\n".join(lines)


def report(true: Sequence[int], predicted: Sequence[int], labels: Sequence[str], *, loss: float | None = None) -> Report:
    """Judges predictions.

    Args:
        true: class numbers.
        predicted: class numbers.
        labels: names by class number.
        loss: mean negative log-likelihood, to be passed on.
    """
    num_classes = len(labels)
    confusion = [[0] * num_classes for _ in range(num_classes)]
    for right, guess in zip(true, predicted, strict=True):
        confusion[right][guess] += 1
    num_right = sum(confusion[i][i] for i in range(num_classes))
    classes = {name: _figures(confusion, i) for i, name in enumerate(labels)}
    seen = [classes[name].f1 for i, name in enumerate(labels) if sum(confusion[i]) or any(row[i] for row in confusion)]
    num_rows = len(true)
    return Report(
        accuracy=num_right / num_rows if num_rows else 0.0,
        interval=wilson(num_right, num_rows),
        macro_f1=sum(seen) / len(seen) if seen else 0.0,
        num_rows=num_rows,
        labels=tuple(labels),
        classes=classes,
        confusion=tuple(map(tuple, confusion)),
        loss=loss,
    )


def wilson(num_right: int, num_rows: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927)."""
    if num_rows == 0:
        return 0.0, 1.0
    share, z2 = num_right / num_rows, _Z95**2
    centre = (share + z2 / (2 * num_rows)) / (1 + z2 / num_rows)
    half = _Z95 / (1 + z2 / num_rows) * sqrt(share * (1 - share) / num_rows + z2 / (4 * num_rows**2))
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def _figures(confusion: Sequence[Sequence[int]], index: int) -> ClassFigures:
    hit = confusion[index][index]
    predicted, actual = sum(row[index] for row in confusion), sum(confusion[index])
    precision, recall = hit / predicted if predicted else 0.0, hit / actual if actual else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
    return ClassFigures(precision, recall, f1, actual)
