"""What goes into a `PromptModel` and what comes out: prepared rows, outcomes, limits, and where learned rows may start."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone, KeptContexts
from ptune.errors import TemplateError, VerbalizerError
from ptune.inputs import Encoded
from ptune.prompt import InitConfig, InitSources, MethodConfig
from ptune.readout import Verbalizer
from ptune.template import Template

__all__ = ["Outcome", "Prepared", "checked_length", "init_sources"]

_DEFAULT_MAX_LENGTH = 256


@dataclass(frozen=True)
class Outcome:
    """What one batch gave.

    Args:
        scores: [B, C] label scores; softmax of them are the probabilities.
        loss: mean loss, or None where no labels were known.
    """

    scores: Float[Tensor, "B C"]
    loss: Tensor | None = None

    @property
    def probabilities(self) -> Float[Tensor, "B C"]:
        """softmax over labels."""
        return torch.softmax(self.scores, 1)


@dataclass(frozen=True)
class Prepared:
    """Rows ready to be batched.

    Args:
        encoded: tokens of each row.
        labels: class numbers, -1 where unknown.
        contexts: kept keys and values of each row's constant beginning, or None.
    """

    encoded: tuple[Encoded, ...]
    labels: tuple[int, ...]
    contexts: KeptContexts | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def num_cut(self) -> int:
        """How many rows were shortened to fit."""
        return sum(row.num_cut > 0 for row in self.encoded)


def checked_length(backbone: Backbone, max_length: int | None) -> int:
    """Tokens a whole row may have: as asked, else the model's positions, at most 256.

    Raises:
        TemplateError: more than the model has.
    """
    positions = backbone.spec.max_positions
    if max_length is None:
        return min(_DEFAULT_MAX_LENGTH, positions or _DEFAULT_MAX_LENGTH)
    if positions is not None and max_length > positions:
        raise TemplateError(
            f"max_length is {max_length}, but {backbone.spec.name} has {positions} positions for prompt and text together",
            where="max_length",
            fix=f"use at most {positions}",
        )
    return max_length


def init_sources(
    config: MethodConfig, backbone: Backbone, template: Template, verbalizer: Verbalizer | None, init_rows: Tensor | None
) -> InitSources:
    """What a method's initialisation may draw on, from the tokenizer, the label words and another task's rows."""
    tokens = backbone.tokens
    if not isinstance(config, InitConfig):
        return InitSources(frequent_ids=())
    label_ids: list[tuple[int, ...]] = []
    if config.kind == "labels":
        if verbalizer is None:
            raise VerbalizerError("init: labels needs label words", where="method.init")
        answers = verbalizer.answers(template, tokens)
        for number in range(answers.num_classes):
            label_ids.append(
                tuple(i for ids, owner in zip(answers.ids, answers.label, strict=True) if owner == number for i in ids)
            )
    return InitSources(
        frequent_ids=tokens.frequent_words(),
        text_ids=tokens.ids(config.init_text) if config.init_text else (),
        label_ids=label_ids,
        bundle_rows=init_rows,
    )
