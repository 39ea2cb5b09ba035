"""Teaching one model by others: their scores become soft labels, and a student learns them on unlabelled texts.

In: label scores of several teachers [M, U, C]. Out: targets [U, C], and a student trained towards them by the usual loop.
Source: Schick & Schütze 2021 (Exploiting Cloze Questions), sections 3.3 and 3.4; Hinton et al. 2015.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import notice
from ptune.model import PromptModel, target_rows
from ptune.recipe import ContextKeeper, Recipe, Splits, build_model, settle_confidence, trainable_copy
from ptune.train import Listener, TrainResult, train

__all__ = ["pattern_weights", "soft_labels", "teach"]


def pattern_weights(accuracies: Sequence[float]) -> list[float]:
    """Each teacher's share: its accuracy on the labelled rows before training, over the sum; equal shares where all are 0."""
    total = sum(accuracies)
    return [accuracy / total for accuracy in accuracies] if total else [1 / len(accuracies)] * len(accuracies)


def soft_labels(scores: Float[Tensor, "M U C"], weights: Sequence[float], *, temperature: float) -> Float[Tensor, "U C"]:
    """softmax(sum_m w_m s_m(l | x) / T), with the weights summing to 1.

    Args:
        scores: each teacher's label scores.
        weights: each teacher's share.
        temperature: T; above 1, what is not the best label counts for more.

    Source: Schick & Schütze 2021, equation in section 3.3 (s_M) and 3.4 (T = 2).
    """
    share = torch.tensor(list(weights)).to(scores)
    return torch.softmax((share[:, None, None] * scores).sum(0) / share.sum() / temperature, 1)


def teach(
    recipe: Recipe,
    backbone: Backbone,
    examples: Sequence[Example],
    targets: Float[Tensor, "U C"],
    *,
    temperature: float,
    listeners: Sequence[Listener] = (),
) -> tuple[PromptModel, TrainResult]:
    """Trains a recipe's model towards distributions over labels, the labels of the rows not looked at.

    Args:
        recipe: of the student.
        backbone: loaded.
        examples: unlabelled texts.
        targets: probabilities of the labels of each.
        temperature: T, by which the student's scores are divided too while it learns. The factor T^2 on the loss is left out:
            it only scales the gradient, which AdamW does not feel.
        listeners: called after every step.
    """
    if recipe.tune == "lm":
        backbone = trainable_copy(recipe.backbone, backbone)
    model = build_model(recipe, backbone, Splits(tuple(examples)))
    assert isinstance(model, PromptModel)
    rows = ContextKeeper(recipe).training(model, model.prepare(examples))
    if recipe.prior == "correct":
        model.take_out_prior(rows)
    model.temperature = temperature
    if rows.num_cut:
        notice(f"{rows.num_cut} of {len(rows)} unlabelled texts were cut to {model.max_length} tokens (max_length)")
    settings = recipe.train_settings()
    result = train(model, target_rows(rows, targets=targets), settings, seed=recipe.seed, listeners=listeners)
    model.temperature = 1.0
    settle_confidence(model, recipe, None)
    return model, result
