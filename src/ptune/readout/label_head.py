"""Labels that learn: what scores each label from the hidden state in the answer slot, and is trained together with the prompt.

In: `LabelSetup`, what a task has before training. Out: a `LabelHead`: `score` gives [U, C]. One file for each way beside this
one, registered by name (`head:` in a recipe).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptune.backbone import Backbone
from ptune.errors import BackboneError, TemplateError
from ptune.inputs import AnswerWords
from ptune.readout.verbalizer import Verbalizer
from ptune.template import Template

__all__ = ["LabelHead", "LabelSetup", "build_label_head", "label_head", "label_heads", "needs_words", "register"]


@dataclass(frozen=True)
class LabelSetup:
    """What a label head is built from.

    Args:
        backbone: the frozen model.
        template: of the task.
        verbalizer, answers: the label words, None where the head needs none.
        num_classes: C.
        seed: of everything drawn.
        dtype: number type (fp32 but for gradient checks).
    """

    backbone: Backbone
    template: Template
    verbalizer: Verbalizer | None
    answers: AnswerWords | None
    num_classes: int
    seed: int
    dtype: torch.dtype = torch.float32


class LabelHead(nn.Module, ABC):
    """Scores of labels from the hidden state in the answer slot.

    Class attributes:
        name: `head:` in a recipe.
        needs_words: whether it starts from label words, so that the recipe must give some.
    """

    name: ClassVar[str]
    needs_words: ClassVar[bool]

    learning_rate: float
    """Default of AdamW."""

    @classmethod
    @abstractmethod
    def build(cls, setup: LabelSetup) -> "LabelHead":
        """Before training."""

    @abstractmethod
    def score(self, states: Float[Tensor, "U D"]) -> Float[Tensor, "U C"]:
        """Label scores, of which softmax are the probabilities."""

    def own_loss(self, states: Float[Tensor, "U D"], labels: Int[Tensor, " U"]) -> Float[Tensor, ""]:
        """What training lowers beside the cross-entropy of the scores; nothing, for most.

        Args:
            states: hidden states of a batch.
            labels: class numbers, -1 where unknown.
        """
        return states.new_zeros(())

    def facts(self) -> dict[str, Any]:
        """What a run's summary should say of it."""
        return {}

    @classmethod
    def check_words(cls, verbalizer: Verbalizer) -> None:
        """Refuses label words that it cannot start from.

        Raises:
            VerbalizerError: with the reason.
        """


_HEADS: dict[str, type[LabelHead]] = {}
H = TypeVar("H", bound=type[LabelHead])


def register(head: H) -> H:
    """Makes a head known by its name; a class decorator."""
    _HEADS[head.name] = head
    return head


def label_heads() -> tuple[str, ...]:
    """The names that there are."""
    return tuple(_HEADS)


def label_head(name: str | None) -> type[LabelHead] | None:
    """The head of that name, or None where it names none of these (a linear head, say)."""
    return _HEADS.get(name or "")


def needs_words(name: str | None) -> bool:
    """Whether a recipe with `head: name` gives label words; without a head it does."""
    head = label_head(name)
    return name is None or (head is not None and head.needs_words)


def build_label_head(name: str, setup: LabelSetup) -> LabelHead:
    """The head of that name, before training.

    Raises:
        BackboneError: an encoder-decoder, whose answer slot is filled by its decoder.
        TemplateError: text behind the answer slot of a causal model, which nothing that is read there would see.
    """
    backbone = setup.backbone
    if backbone.kind == "encoder-decoder":
        raise BackboneError(
            f"head: {name} reads the answer slot of a causal or masked model; {backbone.spec.name} is an encoder-decoder",
            where="head",
            fix="use label words without head, or head: linear",
        )
    if backbone.kind == "decoder" and setup.template.after_mask():
        raise TemplateError(
            f"head: {name} reads a causal model in front of {{mask}}, so what stands behind it is never seen",
            where="template",
            fix="write {mask} last",
        )
    return _HEADS[name].build(setup)
