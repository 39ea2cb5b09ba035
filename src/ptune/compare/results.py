"""The figures of a comparison: one row for a method on a model with so many shots, and the texts on which rows differ.

`Summary.to_dict` is `results.json`, and `read_summary` reads it again: for reports, recommendations and later comparisons.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ptune.compare.calibration import Bin
from ptune.compare.statistics import Difference, Estimate

__all__ = ["Row", "Summary", "TextRow", "read_summary"]


@dataclass(frozen=True)
class Row:
    """A method on a model with so many shots.

    Args:
        method, title, paradigm, backbone, shots: which.
        seeds: those that gave figures.
        accuracy: with its interval; None where there are no figures.
        macro_f1, macro_f1_deviation: mean F1 over labels.
        calibration_error, loss: of probabilities, mean over seeds.
        others: accuracy on further test sets, by name.
        is_best: whether it is the best row of these shots.
        from_best: paired difference to the best row; None for the best itself, and for one that shares no seed with it.
        from_majority: paired difference to the majority label.
        from_fewer: paired difference to the same method and model with the next smaller number of shots.
        validation: mean accuracy on the rows that choices were made on.
        num_trials: settings tried for the choice.
        settings: the chosen ones.
        num_trained, num_bytes: parameters that learned; what a task stores.
        train_seconds, predict_seconds: medians over seeds; the latter for a thousand texts.
        memory_mb: largest of the seeds.
        num_unlabelled: texts without labels that it was given.
        curve: step -> mean accuracy on validation over seeds.
        confusion: [C][C] true by predicted, summed over seeds.
        bins: of the reliability diagram, all seeds together.
        facts: what the contender adds.
        right: seed -> a digit for each test row, 1 where the answer was right.
        reason: why there are no figures, or fewer seeds than asked for.
    """

    method: str
    title: str
    paradigm: str
    backbone: str
    shots: int
    seeds: tuple[int, ...] = ()
    accuracy: Estimate | None = None
    macro_f1: float = 0.0
    macro_f1_deviation: float | None = None
    calibration_error: float = 0.0
    loss: float = 0.0
    others: tuple[tuple[str, Estimate], ...] = ()
    is_best: bool = False
    from_best: Difference | None = None
    from_majority: Difference | None = None
    from_fewer: Difference | None = None
    validation: float = 0.0
    num_trials: int = 0
    settings: tuple[tuple[str, Any], ...] = ()
    num_trained: int = 0
    num_bytes: int = 0
    train_seconds: float = 0.0
    predict_seconds: float = 0.0
    memory_mb: int = 0
    num_unlabelled: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    bins: tuple[Bin, ...] = ()
    facts: tuple[tuple[str, Any], ...] = ()
    right: tuple[tuple[int, str], ...] = ()
    reason: str = ""

    @property
    def name(self) -> str:
        """Method and model."""
        return f"{self.title}, {self.backbone}" if self.backbone else self.title

    @property
    def mean(self) -> float:
        """Mean accuracy, 0 where there are no figures."""
        return self.accuracy.mean if self.accuracy is not None else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values |= {"settings": dict(self.settings), "facts": dict(self.facts)}
        values["others"] = {name: one.to_dict() for name, one in self.others}
        for key in ("from_best", "from_majority", "from_fewer"):
            difference = getattr(self, key)
            values[key] = None if difference is None else difference.to_dict()
        values["right"] = {str(seed): digits for seed, digits in self.right}
        return values


@dataclass(frozen=True)
class TextRow:
    """A test text and what each row of the largest number of shots says about it, on the first seed.

    Args:
        text: its fields as one text.
        label: the true one.
        answers: row number -> label, of the rows with figures.
    """

    text: str
    label: str
    answers: tuple[tuple[int, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"text": self.text, "label": self.label, "answers": {str(row): label for row, label in self.answers}}


@dataclass(frozen=True)
class Summary:
    """All of a comparison's figures.

    Args:
        name: of the comparison.
        spec: what was asked for.
        labels: names in order.
        language: of the texts.
        rows: in the order of the spec.
        texts: those on which rows differ most.
        data: numbers and fingerprints of the rows.
        remarks: what was done to the data.
        seconds: of all cells together: learning and predicting.
        machine: where it ran.
    """

    name: str
    spec: dict[str, Any]
    labels: tuple[str, ...]
    language: str
    rows: tuple[Row, ...]
    texts: tuple[TextRow, ...]
    data: dict[str, Any]
    remarks: tuple[str, ...]
    seconds: float
    machine: dict[str, Any]

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, the smallest first."""
        return tuple(sorted({row.shots for row in self.rows}))

    @property
    def main_shots(self) -> int:
        """The number of shots that all methods have: the largest one asked for, those of some methods aside."""
        return max([shots for shots in self.spec.get("shots", ()) if shots in self.shots] or self.shots)

    def of_shots(self, shots: int) -> list[Row]:
        """Rows with figures, the best first."""
        rows = [row for row in self.rows if row.shots == shots and row.accuracy is not None]
        return sorted(rows, key=lambda row: -row.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: getattr(self, name) for name in ("name", "spec", "language", "data", "seconds", "machine")}
        return {
            **values,
            "labels": list(self.labels),
            "remarks": list(self.remarks),
            "rows": [row.to_dict() for row in self.rows],
            "texts": [text.to_dict() for text in self.texts],
        }


def read_summary(values: Mapping[str, Any]) -> Summary:
    """The reverse of `Summary.to_dict`.

    Raises:
        KeyError, TypeError: it is none.
    """
    texts = [
        TextRow(one["text"], one["label"], tuple((int(row), label) for row, label in one["answers"].items()))
        for one in values["texts"]
    ]
    own = {name: values[name] for name in ("name", "spec", "language", "data", "seconds", "machine")}
    rows = tuple(_read_row(row) for row in values["rows"])
    return Summary(labels=tuple(values["labels"]), remarks=tuple(values["remarks"]), rows=rows, texts=tuple(texts), **own)


def _read_row(values: Mapping[str, Any]) -> Row:
    read: dict[str, Any] = dict(values)
    read["accuracy"] = None if values["accuracy"] is None else Estimate(**values["accuracy"])
    read.setdefault("is_best", read["accuracy"] is not None and values["from_best"] is None)  # of results without the flag
    for key in ("from_best", "from_majority", "from_fewer"):
        if values[key] is not None:
            read[key] = Difference(**{name: value for name, value in values[key].items() if name != "verdict"})
    read["others"] = tuple((name, Estimate(**one)) for name, one in values["others"].items())
    read["bins"] = tuple(Bin(**one) for one in values["bins"])
    read["right"] = tuple((int(seed), digits) for seed, digits in values["right"].items())
    for key in ("settings", "facts"):
        read[key] = tuple(values[key].items())
    for key in ("curve", "confusion"):
        read[key] = tuple(tuple(one) for one in values[key])
    return Row(**{**read, "seeds": tuple(values["seeds"])})
