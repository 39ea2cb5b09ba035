"""Calibration and confidence of a run: the model's own preference taken out before training, the rest settled after it.

In: a recipe, its model, prepared rows. Out: the same model with `prior`, `temperature` and a threshold, and figures of what the
threshold costs.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch

from ptune.data import Example, has_splits, read_examples
from ptune.model import Prepared, PromptModel, TaskModel
from ptune.objective import abstention
from ptune.readout import CONTENT_FREE, CalibrationName, best_temperature
from ptune.recipe.recipe import Recipe

__all__ = ["abstention_facts", "calibrate", "calibration_rows", "settle_confidence"]


def calibration_rows(recipe: Recipe) -> tuple[Example, ...] | None:
    """Rows to calibrate by, read and checked; None where the training rows serve.

    Raises:
        DataError: rows that cannot be read, or that lack a field.
    """
    name, texts = recipe.calibration_name, recipe.calibration_texts
    names = recipe.parsed_template().field_names
    if name in ("prior", "none") or (name == "batch" and texts is None):
        return None
    if texts is None:
        texts = CONTENT_FREE if name == "contextual" else ("",)
    if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) for text in texts):
        return tuple(Example(dict.fromkeys(names, text), where=f"calibration text {n}") for n, text in enumerate(texts, 1))
    split = "train" if has_splits(texts) else None
    return read_examples(texts, fields=names, label=None, columns=recipe.columns, encoding=recipe.encoding, split=split)


def calibrate(model: TaskModel, recipe: Recipe, rows: Prepared, own: Sequence[Example] | None) -> None:
    """Takes the model's own preference out, before training.

    Args:
        model: not yet trained.
        recipe: says by which rule.
        rows: training rows.
        own: what `calibration_rows` read.
    """
    if recipe.prior == "keep" or recipe.calibration_name == "none":
        return
    if not isinstance(model, PromptModel):
        model.take_out_prior(rows)
        return
    by = rows if own is None else model.prepare(own)
    model.take_out_prior(by, cast(CalibrationName, recipe.calibration_name))


def settle_confidence(model: TaskModel, recipe: Recipe, validation: Prepared | None) -> None:
    """After training: temperature by the validation rows, and the threshold."""
    if not isinstance(model, PromptModel):
        return
    if recipe.temperature and validation is not None:
        model.temperature = best_temperature(model.scores(validation), torch.tensor(validation.labels))
    model.abstain_below, model.out_of_scope = recipe.abstain_below, recipe.out_of_scope


def abstention_facts(model: TaskModel, judged: Sequence[Example]) -> dict[str, Any]:
    """How often the task answers the rows that were judged, and how often it is then right."""
    if not isinstance(model, PromptModel) or model.abstain_below is None or not judged:
        return {}
    probabilities = torch.softmax(model.scores(model.prepare(judged)), 1)
    best = probabilities.max(1)
    names = model.labels.names
    is_right = [names[number] == example.label for number, example in zip(best.indices.tolist(), judged, strict=True)]
    return {"abstention": abstention(best.values.tolist(), is_right, below=model.abstain_below).to_dict()}
