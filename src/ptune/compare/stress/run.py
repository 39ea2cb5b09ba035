"""Stress tests a classification: the same rows written otherwise, asked otherwise, cut into slices, and another domain's rows.

In: a `Task` and labelled rows. Out: `StressReport`: for each trial the accuracy before and after on the rows that changed, the
paired difference with its interval, and examples of answers that turned. Random numbers follow seed and text, so that a second
run gives the same figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptune.compare.statistics import Difference, Estimate, compare, estimate
from ptune.compare.stress import chinese, negation, writing  # noqa: F401  # which register themselves
from ptune.compare.stress.demo_orders import demo_orders
from ptune.compare.stress.perturbation import Perturbation, Perturbations, generator
from ptune.compare.stress.wordings import label_variants, synonyms, template_variants
from ptune.compare.wording import Both
from ptune.data import Example
from ptune.errors import DataError
from ptune.task import Task, as_classifier
from ptune.template import dominant_script

__all__ = ["Slice", "StressReport", "Trial", "Turned", "stress"]

Kind = Literal["writing", "wording", "order", "domain"]
_NUM_EXAMPLES = 5
_MOST_VALUES = 12
_FEWEST_ROWS = 5


@dataclass(frozen=True)
class Turned:
    """An answer that changed.

    Args:
        before, after: the text as it was and as it was written otherwise.
        label: the true one.
        answers: before and after.
    """

    before: str
    after: str
    label: str
    answers: tuple[str, str]


@dataclass(frozen=True)
class Trial:
    """One way of asking or writing otherwise.

    Args:
        name, title: which.
        kind: of the texts (`writing`), of the template and label words (`wording`), of the demonstrations (`order`), or another
            test set (`domain`).
        num_changed: rows that changed at all; figures are of these.
        before, after: accuracy; of a `domain`, on the task's own rows and on the other ones.
        difference: paired, after minus before; None where rows are not the same or the right answer may change.
        turned: share of answers that changed; None for a `domain`.
        keeps_label: whether the right answer stays.
        examples: of answers that changed.
    """

    name: str
    title: Both
    kind: Kind
    num_changed: int
    before: float
    after: float
    difference: Difference | None
    turned: float | None
    keeps_label: bool = True
    examples: tuple[Turned, ...] = ()

    @property
    def drop(self) -> float:
        """How much accuracy was lost."""
        return self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        difference = None if self.difference is None else self.difference.to_dict()
        return {**asdict(self), "title": list(self.title), "drop": self.drop, "difference": difference}


@dataclass(frozen=True)
class Slice:
    """Rows that have something in common.

    Args:
        by: `length`, `label`, or the name of a column.
        value: which.
        accuracy: on them.
    """

    by: str
    value: str
    accuracy: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"by": self.by, "value": self.value, "accuracy": self.accuracy.to_dict()}


@dataclass(frozen=True)
class StressReport:
    """What a task stands.

    Args:
        accuracy: on the rows as they are.
        language: of the texts.
        trials: the largest loss first.
        slices: of the rows as they are.
        not_tried: what makes no sense for this task, and why.
    """

    accuracy: Estimate
    language: str
    trials: tuple[Trial, ...]
    slices: tuple[Slice, ...]
    not_tried: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "language": self.language,
            "trials": [trial.to_dict() for trial in self.trials],
            "slices": [one.to_dict() for one in self.slices],
            "not_tried": list(self.not_tried),
        }


def stress(
    task: Task, rows: Sequence[Example], *, others: Mapping[str, Sequence[Example]] | None = None, seed: int = 0
) -> StressReport:
    """Tries everything that makes sense for the task's texts.

    Args:
        task: a classification.
        rows: labelled.
        others: test sets of other domains, by name.
        seed: of the random changes.

    Raises:
        TrainError: the task is of another kind.
        DataError: no rows, or a row without a known label.
    """
    model = as_classifier(task)
    if not rows:
        raise DataError("there are no rows to test on", fix="pass at least one")
    task.judge(rows)  # which checks the labels
    fields = model.template.field_names
    sample = "\n".join(_text(row, name) for row in rows[:100] for name in fields)
    language = "zh" if dominant_script(sample) == "unspaced" else "en"
    answers = _answers(task, rows)
    changes = [*Perturbations.of(language), *([synonyms(task)] if language == "en" else [])]
    found = [_written(task, rows, answers, one, fields, seed) for one in changes]
    trials = [trial for trial in found if trial is not None]
    missing = [f"{one.name}: no text changes" for one, trial in zip(changes, found, strict=True) if trial is None]
    wordings = list(_asked_otherwise(task, rows, answers))
    if not wordings:
        missing.append("template and label words: the tables of paraphrases have none of these words")
    orders = list(_in_other_orders(task, rows, answers, seed))
    if not orders:
        missing.append("demonstration order: the task notes no demonstrations in front of its texts, or a single one")
    missing.append("generation diversity: for tasks that write texts")
    domains = [_domain(task, name, other, rows, answers) for name, other in (others or {}).items()]
    ordered = sorted([*trials, *wordings, *orders, *domains], key=lambda trial: (not trial.keeps_label, -trial.drop))
    right = _right(rows, answers)
    return StressReport(estimate(right[None]), language, tuple(ordered), tuple(_slices(rows, right, fields)), tuple(missing))


def _answers(task: Task, rows: Sequence[Example]) -> list[str]:
    labels = as_classifier(task).labels.names
    return [labels[number] for number in task.scores([Example(row.fields) for row in rows]).argmax(1).tolist()]


def _right(rows: Sequence[Example], answers: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(row.label == answer) for row, answer in zip(rows, answers, strict=True)])


def _text(row: Example, name: str) -> str:
    value = row.fields[name]
    return value if isinstance(value, str) else " ".join(value)


def _written(
    task: Task, rows: Sequence[Example], answers: Sequence[str], how: Perturbation, fields: Sequence[str], seed: int
) -> Trial | None:
    """The rows that a perturbation changes, asked again; None where there are none."""
    changed: list[tuple[int, Example]] = []
    for number, row in enumerate(rows):
        values = {name: _text(row, name) for name in fields}
        new = {name: how.change(value, generator(how.name, value, seed)) for name, value in values.items()}
        if new != values:
            changed.append((number, replace(row, fields={**row.fields, **new})))
    if not changed:
        return None
    numbers, texts = [number for number, _ in changed], [row for _, row in changed]
    own, before = [rows[number] for number in numbers], [answers[number] for number in numbers]
    after = _answers(task, texts)
    return _trial(how.name, how.title, "writing", own, texts, before, after, fields, keeps_label=how.keeps_label)


def _asked_otherwise(task: Task, rows: Sequence[Example], answers: Sequence[str]) -> Iterator[Trial]:
    fields = as_classifier(task).template.field_names
    for title, variants in (
        (("template", "模板"), template_variants(task)),
        (("label word", "标签词"), label_variants(task)),
    ):
        for name, variant in variants:
            both = (f"{title[0]}: {name}", f"{title[1]}：{name}")
            yield _trial(both[0], both, "wording", rows, rows, answers, _answers(variant, rows), fields)


def _in_other_orders(task: Task, rows: Sequence[Example], answers: Sequence[str], seed: int) -> Iterator[Trial]:
    """The same demonstrations in other orders."""
    fields = as_classifier(task).template.field_names
    for title, other, shown in demo_orders(task, rows, seed):
        both = (f"demonstration order: {title[0]}", f"示例顺序：{title[1]}")
        yield _trial(both[0], both, "order", rows, rows, answers, _answers(other, shown), fields)


def _trial(
    name: str,
    title: Both,
    kind: Kind,
    rows: Sequence[Example],
    texts: Sequence[Example],
    before: Sequence[str],
    after: Sequence[str],
    fields: Sequence[str],
    *,
    keeps_label: bool = True,
) -> Trial:
    one, other = _right(rows, before), _right(rows, after)
    turned = [at for at in range(len(rows)) if before[at] != after[at]]
    examples = tuple(
        Turned(
            " | ".join(_text(rows[at], field) for field in fields),
            " | ".join(_text(texts[at], field) for field in fields),
            rows[at].label or "",
            (before[at], after[at]),
        )
        for at in turned[:_NUM_EXAMPLES]
    )
    difference = compare(other[None], one[None]) if keeps_label else None
    share = len(turned) / len(rows)
    return Trial(name, title, kind, len(rows), one.mean(), other.mean(), difference, share, keeps_label, examples)


def _domain(task: Task, name: str, other: Sequence[Example], rows: Sequence[Example], answers: Sequence[str]) -> Trial:
    """Accuracy on other rows beside that on the task's own."""
    task.judge(other)
    found = _right(other, _answers(task, other)).mean()
    title = (f"other test set: {name}", f"其他测试集：{name}")
    return Trial(name, title, "domain", len(other), _right(rows, answers).mean(), found, None, None)


def _slices(rows: Sequence[Example], right: NDArray[np.float64], fields: Sequence[str]) -> Iterator[Slice]:
    """By quarters of length, by label, and by each other column of few values."""
    lengths = np.array([sum(len(_text(row, name)) for name in fields) for row in rows])
    edges = np.quantile(lengths, (0.25, 0.5, 0.75))
    quarter = np.searchsorted(edges, lengths, side="left")
    groups: dict[str, list[str]] = {"length": [], "label": [row.label or "" for row in rows]}
    for number in quarter:
        mine = lengths[quarter == number]
        groups["length"].append(f"{mine.min()} to {mine.max()} characters")
    columns = dict.fromkeys(name for row in rows for name in row.fields if name not in fields)
    for column in columns:
        values = [_text(row, column) if column in row.fields else "" for row in rows]
        if 2 <= len(set(values)) <= _MOST_VALUES:
            groups[column] = values
    for by, values in groups.items():
        for value in sorted(set(values), key=lambda one: (len(one), one)):
            mine = right[np.array([one == value for one in values])]
            if len(mine) >= _FEWEST_ROWS:
                yield Slice(by, value, estimate(mine[None]))
