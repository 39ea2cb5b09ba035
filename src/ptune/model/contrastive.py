"""Contrastive loss: the hidden states in the answer slot point the same way for texts of one label, and apart for others.

In: the states that a batch's scores are read from, and its labels. Out: with u_i the state of text i (last layer, before the
output layer), the mean over all pairs i < j of the batch of (cos(u_i, u_j) - [y_i = y_j])^2, which is learned beside the loss
of the labels. Nothing is read a second time.
Source: Tunstall et al. 2022 (SetFit), section 3.1, with the loss of their code: sentence-transformers' CosineSimilarityLoss.
Deviations: all pairs within a batch, each once, where theirs are drawn from all rows, as many of one label as of two; a prompt
learns and the model is frozen; the state in the answer slot stands for the text, where theirs is a mean over its tokens; label
words or the head learn at the same time, where theirs is a classifier fitted afterwards.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.errors import RecipeError
from ptune.inputs import Batch
from ptune.model.label_model import LabelModel
from ptune.model.targets import TargetBatch
from ptune.prompt import DeepConfig

__all__ = ["check_contrastive", "contrastive_losses", "pair_loss", "slot_places"]

_ONE_STATE = "it compares one hidden state of each text, that at its {mask}"


def check_contrastive(model: LabelModel) -> None:
    """Nothing, where each text has one state in its answer slot, and what learns has a say in it.

    Raises:
        RecipeError: several masks, masks filled one by one, a head that reads elsewhere, or nothing that reaches the slot.
    """
    if model.template.num_masks > 1:
        what = f"{_ONE_STATE}; the template has {model.template.num_masks}"
        raise RecipeError(what, where="contrastive", fix="keep one {mask}, or leave contrastive out")
    if model.fill == "pet":
        raise RecipeError(f"{_ONE_STATE}; fill: pet reads several", where="contrastive", fix="use fill: parallel")
    if model.pool not in (None, "mask"):
        what = f"{_ONE_STATE}; the head reads elsewhere (pool: {model.pool})"
        raise RecipeError(what, where="contrastive", fix="set pool: mask, or leave contrastive out")
    if not _reaches_slot(model):
        what, fix = "nothing that learns changes it", "use a method that learns a prompt, or leave contrastive out"
        if model.template.has_soft:
            what = "the learned tokens stand behind it, where a causal model has not read them"
            fix = "write {soft:8} in front of {mask}"
        raise RecipeError(f"{_ONE_STATE}; {what}", where="contrastive", fix=fix)


def contrastive_losses(model: LabelModel, batch: Batch, states: Float[Tensor, "*J U D"]) -> Float[Tensor, " J"]:
    """The loss of each candidate prompt (one, without candidates) over the rows that it learns from.

    Args:
        model: see `check_contrastive`.
        batch: B rows; those without a label are in no pair.
        states: hidden states at the U places that the batch reads.
    """
    places = slot_places(batch).to(states.device)
    each = (states if model.has_candidates else states[None])[:, places]
    losses = []
    for candidate, one in enumerate(each):
        known = batch.labels >= 0
        seen = known & batch.seen_by(candidate) if isinstance(batch, TargetBatch) else known
        losses.append(pair_loss(one[seen.to(one.device)], batch.labels[seen]))
    return torch.stack(losses)


def slot_places(batch: Batch) -> Int[Tensor, " B"]:
    """Which of a batch's reads is each text's answer slot: the first of its own.

    That is where the first token of the label words is scored; a masked model that fills words of different lengths into rows
    of their own reads it in the row of the first word.
    """
    rows = batch.reads.row if batch.decoder is None else batch.decoder.source[batch.reads.row]
    return torch.searchsorted(batch.row_example[rows], torch.arange(batch.num_examples))  # texts are read in their order


def pair_loss(states: Float[Tensor, "B D"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Mean over pairs i < j of (cos(u_i, u_j) - [y_i = y_j])^2; 0 where there is no pair.

    Args:
        states: u, one for each text.
        labels: y, class numbers.
    """
    first, second = torch.triu_indices(len(labels), len(labels), offset=1)
    if not len(first):
        return states.sum() * 0
    precise = states if states.dtype == torch.float64 else states.float()
    points, labels = torch.nn.functional.normalize(precise, dim=-1), labels.to(states.device)
    target = (labels[:, None] == labels[None, :]).to(points)
    return (points @ points.T - target)[first, second].square().mean()


def _reaches_slot(model: LabelModel) -> bool:
    """Whether the state in the answer slot depends on what learns; a causal model has read what stands in front of it."""
    if model.tune == "lm" or isinstance(model.method, DeepConfig):
        return True
    front = len(model.template.before_mask()) if model.backbone.kind == "decoder" else len(model.template.nodes)
    return any(at < front for at, _ in model.template.soft_nodes)
