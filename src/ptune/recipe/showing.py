"""What a bundle shows people of its making: a few training texts for each label, how the loss went, how candidates did.

In: training rows and the result of the training. Out: plain values for the bundle's card, from which its model card is made.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import mean
from typing import Any

from ptune.data import Example, FieldValue, tag_spans
from ptune.train import TrainResult

__all__ = ["candidate_facts", "candidate_line", "shown_examples", "training_log"]

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


def candidate_facts(result: TrainResult) -> dict[str, Any]:
    """Each candidate's learning rate and best score on validation, else its mean loss in the last tenth of the steps.

    Returns:
        `candidates`, numbered from 1, and `chosen`, the number of the one that was kept; nothing without candidates, or of a
        run that was finished by a version which did not note them.
    """
    if not result.candidate_rates or not (result.candidate_scores or result.candidate_losses):
        return {}
    last = result.candidate_losses[-ceil(len(result.candidate_losses) / 10) :]
    name = "score" if result.candidate_scores else "loss"
    figures = result.candidate_scores or [mean(losses) for losses in zip(*last, strict=True)]
    candidates = [
        {"number": number, "learning_rate": rate, name: round(figure, 5)}
        for number, (rate, figure) in enumerate(zip(result.candidate_rates, figures, strict=True), 1)
    ]
    return {"candidates": candidates, "chosen": None if result.chosen is None else result.chosen + 1}


def candidate_line(training: Mapping[str, Any]) -> str:
    """As in `candidate 3 of 8 kept (learning rate 0.06): validation 0.830; others 0.710 to 0.820`.

    Args:
        training: with what `candidate_facts` gave.
    """
    candidates, chosen = training["candidates"], training["chosen"]
    what = "validation" if "score" in candidates[0] else "training loss"
    figures = {one["number"]: one.get("score", one.get("loss")) for one in candidates}
    kept = figures.pop(chosen, None)
    span = " to ".join(dict.fromkeys(f"{end(figures.values()):.3f}" for end in (min, max)))
    if kept is None:
        return f"all {len(candidates)} candidates kept: {what} {span}"
    rate = candidates[chosen - 1]["learning_rate"]
    return f"candidate {chosen} of {len(candidates)} kept (learning rate {rate:g}): {what} {kept:.3f}; others {span}"
