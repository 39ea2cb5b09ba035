"""What a bundle shows people of its making: a few training texts for each label, and how the loss went.

In: training rows and the result of the training. Out: plain values for the bundle's card, from which its model card is made.
"""

from collections.abc import Mapping, Sequence
from math import ceil

from ptune.data import Example, FieldValue, tag_spans
from ptune.train import TrainResult

__all__ = ["shown_examples", "training_log"]

_NUM_CHARACTERS = 100
_NUM_LOG_LINES = 10


def shown_examples(
    rows: Sequence[Example],
    fields: Sequence[str],
    count: int,
    *,
    labels: Sequence[str],
    columns: Mapping[str, str],
    targets: Sequence[str] = (),
) -> dict[str, list[str]]:
    """The first rows of each label, or the first spans of each type where rows are tagged; nothing of other kinds of task.

    Args:
        rows: training rows.
        fields: the template's, of which a text is made.
        count: of texts for a label.
        labels: of the task; rows of other ones (numbers of a regression) show nothing.
        columns: the columns of `tokens` and `tags`, where they are called otherwise.
        targets: columns with what is learned; where they hold names of labels, the row shows each of them.

    Returns:
        Label to texts of at most 100 characters, all different.
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        names = [row.label] if row.label is not None else [name for key in targets for name in _items(row.fields.get(key, ()))]
        text = " | ".join(_joined(row.fields[name]) for name in fields if name in row.fields)
        labelled = [(name, text) for name in dict.fromkeys(names) if name in labels]
        for label, text in labelled or (_spans(row, columns) if row.label is None else []):
            short = text if len(text) <= _NUM_CHARACTERS else text[: _NUM_CHARACTERS - 1] + "…"
            texts = found.setdefault(label, [])
            if len(texts) < count and short not in texts:
                texts.append(short)
    return {label: texts for label, texts in sorted(found.items()) if texts}


def _spans(row: Example, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """Types and texts of a tagged row's spans."""
    tokens, tags = (row.fields.get(columns.get(key, key), ()) for key in ("tokens", "tags"))
    if isinstance(tokens, str) or isinstance(tags, str):
        return []
    between = "" if all(len(token) == 1 for token in tokens) else " "
    return [(span.type, between.join(tokens[span.start : span.end])) for span in tag_spans(tags)]


def _items(value: FieldValue) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _joined(value: FieldValue) -> str:
    return value if isinstance(value, str) else " ".join(value)


def training_log(result: TrainResult) -> list[dict[str, int | float]]:
    """About ten lines: the mean loss since the line before, and the last look at the validation rows in that time."""
    every = max(1, ceil(len(result.losses) / _NUM_LOG_LINES))
    lines: list[dict[str, int | float]] = []
    for start in range(0, len(result.losses), every):
        part = result.losses[start : start + every]
        step = start + len(part)
        line: dict[str, int | float] = {"step": step, "loss": round(sum(part) / len(part), 5)}
        looks = [look for look in result.validations if start < look[0] <= step]
        if looks:
            line |= {"validation": round(looks[-1][1], 5), "validation loss": round(looks[-1][2], 5)}
        lines.append(line)
    return lines
