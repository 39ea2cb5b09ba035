"""Label words for rivals: the recipe's template without learned tokens, as plain token rows with a place to read at.

In: a `Setup` whose recipe has a template and label words. Out: `Wording`: rows as ids with the answer's place, and the token
of each label word. So PEFT's methods read the very tokens that ptune's own do. A word of several tokens is scored by its
first one, as OpenPrompt's `first` does; where two labels then have the same token, the rival cannot tell them apart and is
refused. The model's preference for a label (prior) stays in the rival's scores; ptune's own prompts take it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptune.compare.contender import Setup
from ptune.data import Example
from ptune.errors import PtuneError, VerbalizerError
from ptune.model import PromptModel
from ptune.recipe import Recipe
from ptune.template import resolve

__all__ = ["PlainRow", "Wording", "why_no_wording", "wording_of"]


@dataclass(frozen=True)
class PlainRow:
    """One row of tokens.

    Args:
        ids: the tokens; a masked model's mask is among them, a causal model's row ends in front of the answer.
        at: where the answer is read.
    """

    ids: tuple[int, ...]
    at: int


@dataclass(frozen=True)
class Wording:
    """How a rival reads and answers.

    Args:
        model: ptune's hard prompt, which lays rows out.
        columns: [W] the token of each label word.
        label: [W] its class.
    """

    model: PromptModel
    columns: Tensor
    label: tuple[int, ...]

    def rows(self, examples: Sequence[Example]) -> list[PlainRow]:
        """Texts as rows of tokens."""
        tokens = self.model.backbone.tokens
        found = []
        for example in examples:
            encoded = self.model.encode(example)
            assert encoded.slot is not None
            if self.model.backbone.kind == "decoder":
                found.append(PlainRow(encoded.ids[: encoded.slot], encoded.slot - 1))
            else:
                mask = tokens.slot_ids[:1]
                found.append(PlainRow((*encoded.ids[: encoded.slot], *mask, *encoded.ids[encoded.slot :]), encoded.slot))
        return found

    def label_scores(self, logits: Tensor) -> Tensor:
        """[B, C] from [B, V]: the mean over a label's words, as ptune joins them."""
        words = torch.log_softmax(logits.float(), 1)[:, self.columns]
        classes = torch.tensor(self.label)
        return torch.stack([words[:, classes == number].mean(1) for number in range(max(self.label) + 1)], 1)


def wording_of(setup: Setup, num_room: int = 0, num_in_row: int = 0) -> Wording:
    """The recipe's words for a rival.

    Args:
        setup: with a backbone that has a language head.
        num_room: positions of the model to leave free for learned tokens.
        num_in_row: those of them that count among the row's own tokens; learned keys and values do not.

    Raises:
        PtuneError: no label words, no language head, or words that a first token does not tell apart.
    """
    backbone = setup.model()
    if backbone.kind == "encoder-decoder":
        raise VerbalizerError("this rival reads label words on causal and masked models only", where="backbone")
    template = resolve(setup.recipe["template"]).without_soft()
    hard = {"template": template, "method": "hard", "backbone": backbone, "train": []}
    recipe = Recipe.of({**setup.recipe, **hard}, where="compare")
    positions = backbone.spec.max_positions
    length = min((recipe.max_length or 256) - num_in_row, (positions or 10**9) - num_room)
    model = PromptModel.build(
        backbone=backbone, template=template, labels=recipe.verbalizer(), method="hard", max_length=max(4, length)
    )
    assert model.answers is not None
    columns = list(model.answers.first_column())
    for number, column in enumerate(columns):
        other = columns.index(column)
        if model.answers.label[other] != model.answers.label[number]:
            words = f"{model.answers.texts[other]!r} and {model.answers.texts[number]!r}"
            raise VerbalizerError(f"{words} begin with the same token, and this rival reads one token", where="labels")
    return Wording(model, torch.tensor(columns), tuple(model.answers.label))


def why_no_wording(setup: Setup, num_room: int = 0, num_in_row: int = 0) -> str:
    """Why `wording_of` would refuse; empty where it does not."""
    try:
        wording_of(setup, num_room, num_in_row)
    except PtuneError as error:
        return str(error)
    return ""
