"""From cells to the rows of a report: means, intervals, differences, calibration, cost; one row for a method on a model.

In: an `Outcome`. Out: `Summary`, whose `to_dict` is `results.json`. Differences are paired over the seeds that both rows have
and all test rows. The best row of each number of shots is the one with the highest mean accuracy over all seeds.
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptune.compare.calibration import calibration_error, reliability
from ptune.compare.cells import Cell
from ptune.compare.results import Row, Summary, TextRow
from ptune.compare.run import Outcome
from ptune.compare.samples import digest
from ptune.compare.statistics import Difference, Estimate, compare, estimate
from ptune.data import Example, fingerprint
from ptune.objective import report
from ptune.template import resolve

__all__ = ["summarise"]

Right = NDArray[np.float64]


def summarise(outcome: Outcome) -> Summary:
    """Figures of all rows."""
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
        outcome.language,
        tuple(rows),
        _texts(rows, groups, outcome),
        _data(outcome),
        outcome.pools.remarks,
        _seconds(outcome),
        _machine(),
    )


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


def _from_fewer(right: dict[tuple[str, str, int], dict[int, Right]], at: tuple[str, str, int]) -> Difference | None:
    fewer = [other for other in right if other[:2] == at[:2] and other[2] < at[2] and right[other]]
    return _paired(right[at], right[max(fewer, key=lambda other: other[2])]) if fewer else None


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
        is_best=best == at,
        from_best=None if best is None or best == at else _paired(right[at], right[best]),
        from_majority=None if majority is None or majority == at else _paired(right[at], right[majority]),
        from_fewer=_from_fewer(right, at),
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
        right=tuple((seed, "".join(str(int(one)) for one in answers)) for seed, answers in right[at].items()),
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


def _seconds(outcome: Outcome) -> float:
    """Of all trials, and of answering each text of all test sets once."""
    num_texts = len({digest(row) for rows in outcome.pools.tests.values() for row in rows})
    return sum(cell.learn_seconds + (cell.predict_seconds or 0.0) * num_texts / 1000 for cell in outcome.cells)


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
