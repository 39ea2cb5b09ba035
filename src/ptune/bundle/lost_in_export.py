"""What of a task another format cannot hold, and what that means: a sentence to the user, or a refusal.

In: a `TaskModel`. Out: `Loss`es. Those that would give a text other scores stop an export, unless it is forced.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ptune.errors import BundleError
from ptune.model import TaskModel
from ptune.template import Sep

__all__ = ["Exported", "Loss", "base_name", "has_segments", "learned_rows", "prompt_losses", "refuse_changes"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        path: where.
        what: its kind and size in a few words.
        lost: what of the task is not in it.
    """

    path: Path
    what: str
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Loss:
    """Something of a task that another format cannot hold.

    Args:
        what: a phrase.
        changes_scores: whether the same text gets other scores there.
    """

    what: str
    changes_scores: bool = False


def prompt_losses(model: TaskModel, *, holds_model: bool = False, holds_head: bool = False) -> list[Loss]:
    """What no other format holds: label words, calibration, and where it has none in it a head and the model's own weights."""
    losses = []
    verbalizer = getattr(model, "verbalizer", None)
    if verbalizer is not None:
        words = "; ".join(f"{label}: {', '.join(listed)}" for label, listed in verbalizer.words.items())
        losses.append(Loss(f"the label words ({words})"))
    if any(bool((value != 0).any()) for name, value in model.tensors().items() if name == "prior"):
        losses.append(Loss("the calibration, which is taken off the label scores"))
    if model.head is not None and not holds_head:
        losses.append(Loss(f"the head ({type(model.head).__name__}), which is not one of transformers' own", True))
    if model.tune in ("lm", "lm-head") and not holds_model:
        losses.append(Loss("the language model's own weights, which this run trained", True))
    return losses


def refuse_changes(losses: list[Loss], target: str, *, force: bool) -> None:
    """Stops where scores would change.

    Raises:
        BundleError: with the reasons.
    """
    changes = [loss.what for loss in losses if loss.changes_scores]
    if changes and not force:
        raise BundleError(
            f"{target} would give other scores, since it does not hold {'; nor '.join(changes)}",
            where="export",
            fix="use --force to write the learned tokens alone",
        )


def learned_rows(model: TaskModel, target: str) -> Tensor:
    """[P, E] of a task that has one prompt of rows.

    Raises:
        BundleError: no rows, keys and values in their place, or rows of several prompts.
    """
    with torch.no_grad():
        state = model.prompt()
    if state.prefixes:
        raise BundleError(
            f"{model.method.name} learns keys and values in every layer, which are no tokens, so {target} cannot hold them",
            where="export",
            fix="use --to peft",
        )
    rows: Tensor | None = state.rows
    if rows is None:
        raise BundleError("nothing is learned in this prompt, so there is nothing to export", where="export")
    if rows.dim() == 3:
        raise BundleError(
            f"the task is an ensemble of {len(rows)} prompts, and {target} holds one",
            where="export",
            fix="train with ensemble: false",
        )
    return rows


def base_name(model: TaskModel) -> str:
    """The model's folder or hub id, by which other tools find it."""
    path = getattr(model.backbone.model.config, "_name_or_path", "")
    return str(path) if path else model.backbone.spec.name


def has_segments(model: TaskModel) -> bool:
    """Whether a text's segment ids change behind a separator of the template, as BERT's do."""
    takes_types = model.backbone.kind == "encoder" and getattr(model.backbone.model.config, "type_vocab_size", 0) > 1
    return takes_types and any(isinstance(node, Sep) for node in model.template.nodes)
