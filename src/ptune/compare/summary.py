"""From cells to the rows of a report: means, intervals, differences, calibration, cost; one row for a method on a model.

In: an `Outcome`. Out: `Summary`, whose `to_dict` is `results.json`. Differences are paired over the seeds that both rows have
and all test rows. The best row of each number of shots is the one with the highest mean accuracy over all seeds.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptune.compare.calibration import Bin, calibration_error, reliability
from ptune.compare.cells import Cell
from ptune.compare.run import Outcome
from ptune.compare.statistics import Difference, Estimate, compare, estimate
from ptune.data import Example, fingerprint
from ptune.objective import report
from ptune.template import resolve

__all__ = ["Row", "Summary", "TextRow", "summarise"]

Right = NDArray[np.float64]


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
        from_best: paired difference to the best row of these shots; None for the best itself.
        from_majority: paired difference to the majority label.
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
    from_best: Difference | None = None
    from_majority: Difference | None = None
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
    reason: str = ""

    @property
    def name(self) -> str:
        """Method and model."""
        return f"{self.title}, {self.backbone}" if self.backbone else self.title

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values |= {"settings": dict(self.settings), "facts": dict(self.facts)}
        values["others"] = {name: one.to_dict() for name, one in self.others}
        values["from_best"] = None if self.from_best is None else self.from_best.to_dict()
        values["from_majority"] = None if self.from_majority is None else self.from_majority.to_dict()
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

    def of_shots(self, shots: int) -> list[Row]:
        """Rows with figures, the best first."""
        rows = [row for row in self.rows if row.shots == shots and row.accuracy is not None]
        return sorted(rows, key=lambda row: -_mean(row))

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


def summarise(outcome: Outcome, language: str) -> Summary:
    """Figures of all rows.

    Args:
        outcome: of the run.
        language: of the texts.
    """
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in outcome.cells:
        groups.setdefault((cell.method, cell.backbone, cell.shots), []).append(cell)
    classes = np.array([outcome.labels.index(row.label or "") for row in outcome.pools.test])
    right = {at: {cell.seed: _right(cell, classes) for cell in cells if cell.fit} for at, cells in groups.items()}
    rows = []
    for at, cells in groups.items():
        best = _best(right, at[2])
        majority = next((other for other in groups if other[0] == "majority" and other[2] == at[2]), None)
        rows.append(_row(cells, outcome, classes, right, at, best, majority))
    return Summary(
        outcome.spec.name,
        outcome.spec.to_dict(),
        outcome.labels,
        language,
        tuple(rows),
        _texts(rows, groups, outcome),
        _data(outcome),
        outcome.pools.remarks,
        sum(_seconds(cell, len(outcome.pools.test)) for cell in outcome.cells),
        _machine(),
    )


def _mean(row: Row) -> float:
    return row.accuracy.mean if row.accuracy is not None else 0.0


def _right(cell: Cell, classes: NDArray[np.int64]) -> Right:
    answers = next(iter(cell.probabilities.values())).argmax(1)
    found: Right = (answers == classes).astype(np.float64)
    return found


def _best(right: dict[tuple[str, str, int], dict[int, Right]], shots: int) -> tuple[str, str, int] | None:
    """The row with the highest mean, among those with the most seeds."""
    have = {at: seeds for at, seeds in right.items() if at[2] == shots and seeds}
    most = max(map(len, have.values()), default=0)
    whole = {at: float(np.mean(list(seeds.values()))) for at, seeds in have.items() if len(seeds) == most}
    return max(whole, key=lambda at: whole[at]) if whole else None


def _paired(first: dict[int, Right], second: dict[int, Right]) -> Difference | None:
    common = [seed for seed in first if seed in second]
    if not common:
        return None
    return compare(np.stack([first[seed] for seed in common]), np.stack([second[seed] for seed in common]))


def _row(
    cells: Sequence[Cell],
    outcome: Outcome,
    classes: NDArray[np.int64],
    right: dict[tuple[str, str, int], dict[int, Right]],
    at: tuple[str, str, int],
    best: tuple[str, str, int] | None,
    majority: tuple[str, str, int] | None,
) -> Row:
    contender = next(one for one in outcome.spec.contenders if one.name == at[0])
    head: dict[str, Any] = {"method": at[0], "title": contender.title, "paradigm": contender.paradigm}
    head |= {"backbone": _short(at[1]), "shots": at[2]}
    reasons = list(dict.fromkeys(f"seed {cell.seed}: {cell.reason}" for cell in cells if cell.reason))
    same = len({cell.reason for cell in cells}) == 1
    reason = cells[0].reason if same else "; ".join(reasons)
    done = [cell for cell in cells if cell.fit is not None]
    if not done:
        return Row(**head, reason=reason)
    probabilities = [next(iter(cell.probabilities.values())) for cell in done]
    reports = [report(classes.tolist(), one.argmax(1).tolist(), outcome.labels) for one in probabilities]
    f1 = [one.macro_f1 for one in reports]
    fits = [cell.fit for cell in done if cell.fit is not None]
    return Row(
        **head,
        seeds=tuple(cell.seed for cell in done),
        accuracy=estimate(np.stack(list(right[at].values()))),
        macro_f1=mean(f1),
        macro_f1_deviation=stdev(f1) if len(f1) > 1 else None,
        calibration_error=mean(calibration_error(reliability(one, classes)) for one in probabilities),
        loss=mean(_loss(one, classes) for one in probabilities),
        others=tuple(_others(done, outcome)),
        from_best=None if best is None or best == at else _paired(right[at], right[best]),
        from_majority=None if majority is None or majority == at else _paired(right[at], right[majority]),
        validation=mean(fit.accuracy for fit in fits),
        num_trials=max(cell.num_trials for cell in done),
        settings=tuple(fits[0].settings.items()),
        num_trained=fits[0].num_trained,
        num_bytes=int(median(fit.num_bytes for fit in fits)),
        train_seconds=median(fit.train_seconds for fit in fits),
        predict_seconds=median(cell.predict_seconds or 0.0 for cell in done),
        memory_mb=max(fit.memory_mb for fit in fits),
        num_unlabelled=max(cell.num_unlabelled for cell in done),
        curve=_curve([[(int(point["step"]), point["accuracy"]) for point in fit.curve] for fit in fits]),
        confusion=tuple(map(tuple, np.sum([one.confusion for one in reports], 0).tolist())),
        bins=reliability(np.concatenate(probabilities), np.tile(classes, len(done))),
        facts=tuple(fits[0].facts.items()),
        reason=reason,
    )


def _loss(probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    return float(-np.log(probabilities[np.arange(len(classes)), classes].clip(1e-12)).mean())


def _others(cells: Sequence[Cell], outcome: Outcome) -> list[tuple[str, Estimate]]:
    """Accuracy on each further test set."""
    found = []
    for name, rows in list(outcome.pools.tests.items())[1:]:
        classes = np.array([outcome.labels.index(row.label or "") for row in rows])
        right = np.stack([(cell.probabilities[name].argmax(1) == classes).astype(np.float64) for cell in cells])
        found.append((name, estimate(right)))
    return found


def _curve(curves: Sequence[Sequence[tuple[int, float]]]) -> tuple[tuple[int, float], ...]:
    """Mean over seeds at the steps that all have."""
    maps = [dict(curve) for curve in curves]
    steps = [step for step in maps[0] if all(step in other for other in maps)] if maps else []
    return tuple((step, mean(one[step] for one in maps)) for step in steps)


def _texts(rows: Sequence[Row], groups: dict[tuple[str, str, int], list[Cell]], outcome: Outcome) -> tuple[TextRow, ...]:
    """Texts on which the rows of the largest number of shots are most divided, on the first seed."""
    shots = max(outcome.spec.shots)
    first = outcome.spec.settings.seeds[0]
    answers: dict[int, NDArray[np.int64]] = {}
    for number, cells in enumerate(groups.values()):
        cell = next((one for one in cells if one.seed == first and one.fit is not None and one.shots == shots), None)
        if cell is not None and rows[number].paradigm != "no learning":
            answers[number] = next(iter(cell.probabilities.values())).argmax(1)
    if len(answers) < 2:
        return ()
    true = [outcome.labels.index(row.label or "") for row in outcome.pools.test]
    wrong = [mean(float(given[text] != label) for given in answers.values()) for text, label in enumerate(true)]
    divided = sorted((text for text in range(len(true)) if 0 < wrong[text] < 1), key=lambda text: abs(wrong[text] - 0.5))
    names = resolve(outcome.spec.recipe["template"]).field_names
    return tuple(
        TextRow(
            _as_text(outcome.pools.test[text], names),
            outcome.labels[true[text]],
            tuple((row, outcome.labels[int(given[text])]) for row, given in answers.items()),
        )
        for text in divided[: outcome.spec.settings.examples]
    )


def _as_text(row: Example, names: Sequence[str]) -> str:
    values = (row.fields[name] for name in names)
    return " | ".join(value if isinstance(value, str) else " ".join(value) for value in values)


def _data(outcome: Outcome) -> dict[str, Any]:
    pools = outcome.pools
    return {
        "train_rows": len(pools.train),
        "validation_rows": len(pools.validation),
        "test_rows": {name: len(rows) for name, rows in pools.tests.items()},
        "train_fingerprint": fingerprint(pools.train),
        "test_fingerprint": fingerprint(pools.test),
        "test_labels": {name: sum(row.label == name for row in pools.test) for name in outcome.labels},
    }


def _seconds(cell: Cell, num_rows: int) -> float:
    if cell.fit is None:
        return 0.0
    return cell.fit.train_seconds + (cell.predict_seconds or 0.0) * num_rows / 1000


def _machine() -> dict[str, Any]:
    import torch

    versions = {package: version(package) for package in ("ptune", "torch", "transformers", "numpy")}
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        "python": platform.python_version(),
        **versions,
    }


def _short(backbone: str) -> str:
    """A folder by its last part."""
    return backbone.rstrip("/").rpartition("/")[2] if backbone.startswith(("/", ".", "~")) else backbone
