"""The labels of a task: examples go in, a `LabelSet` in a fixed order comes out, checked against what was declared."""

from collections.abc import Iterable, Sequence

from ptune.data.example import Example, LabelSet
from ptune.data.names import did_you_mean, listed
from ptune.errors import DataError

__all__ = ["check_labels", "label_set", "label_text"]


def label_text(label: object) -> str:
    """A label's name as it is read from data files: True is `true`, 1.0 is `1`."""
    if isinstance(label, bool):
        return str(label).lower()
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def label_set(examples: Iterable[Example], declared: Sequence[str] | None = None) -> LabelSet:
    """The labels that occur, sorted, or the declared ones in their own order.

    Args:
        examples: rows; those without a label do not count.
        declared: all labels of the task; some may not occur (`check_labels` is stricter).

    Returns:
        The label set.

    Raises:
        DataError: no row has a label, a declared label stands twice, or a row has an undeclared label.
    """
    if declared is None:
        names = tuple(sorted({example.label for example in examples if example.label is not None}))
        if not names:
            raise DataError("no row has a label", fix="name the column that holds it: label: ...")
        return LabelSet(names)
    labels = LabelSet(tuple(declared))
    if not labels.names:
        raise DataError("the list of declared labels is empty", fix="name the labels, or leave the list out")
    twice = next((name for name in labels.names if labels.names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"label '{twice}' is declared twice", fix="name each label once")
    check_labels(examples, labels, every_class=False)
    return labels


def check_labels(examples: Iterable[Example], labels: LabelSet, every_class: bool) -> None:
    """Checks that rows carry known labels only and, for training data, that every label occurs.

    Args:
        examples: rows; those without a label do not count.
        labels: the labels of the task.
        every_class: whether each label must occur at least once.

    Raises:
        DataError: at the first row with an unknown label, or naming the labels that never occur.
    """
    known = set(labels.names)
    seen: set[str] = set()
    for example in examples:
        if example.label is None:
            continue
        if example.label not in known:
            otherwise = f"correct the row or declare the label; declared are {listed(labels.names)}"
            fix = did_you_mean(example.label, labels.names, otherwise)
            raise DataError(f"unknown label '{example.label}'", where=example.where, fix=fix)
        seen.add(example.label)
    absent = [name for name in labels.names if name not in seen]
    if every_class and absent:
        fix = "add rows for each of them or take them out of the labels"
        raise DataError(f"no row has the label {listed(absent)}", fix=fix)
