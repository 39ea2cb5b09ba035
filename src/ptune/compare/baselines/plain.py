"""A backbone's weights in transformers' own classes, for rivals that train them or put something of their own into them.

In: a loaded `Backbone`, which stays as it is. Out: a copy as a language model or as a classifier, without ptune's attention or
fused layers; rows as token ids between what a plain text starts and ends with; padded batches.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from ptune.backbone import Backbone
from ptune.compare.contender import Setup
from ptune.data import Example
from ptune.errors import BackboneError

__all__ = [
    "PlainBatch",
    "by_length",
    "padded",
    "plain_classifier",
    "plain_config",
    "plain_language_model",
    "text_ids",
    "text_length",
]

_MAX_LENGTH = 256


@dataclass(frozen=True)
class PlainBatch:
    """Rows padded on the right.

    Args:
        ids: [B, T].
        mask: [B, T] 1 at real tokens.
    """

    ids: Tensor
    mask: Tensor


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> PlainBatch:
    """Pads to the longest row."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (length - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return PlainBatch(ids, mask)


def text_length(setup: Setup) -> int:
    """How many tokens of a text are read: the recipe's `max_length`, else 256 or as many as the model has positions."""
    return setup.recipe.get("max_length") or min(_MAX_LENGTH, setup.model().spec.max_positions or _MAX_LENGTH)


def text_ids(setup: Setup, rows: Sequence[Example]) -> list[list[int]]:
    """Token ids of rows for a classifier: fields with a separator between them where the model has one, cut at the end."""
    backbone = setup.model()
    tokens = backbone.tokens
    separator = tokens.tokenizer.sep_token_id
    room = text_length(setup) - len(tokens.start_ids) - len(tokens.end_ids)
    found = []
    for row in rows:
        if separator is None:
            ids = list(tokens.ids("\n".join(setup.fields(row))))
        else:
            ids = [index for text in setup.fields(row) for index in (*tokens.ids(text.strip()), separator)][:-1]
        found.append([*tokens.start_ids, *ids[:room], *tokens.end_ids] or [tokens.pad_id])
    return found


def plain_language_model(backbone: Backbone) -> Any:
    """The model with its language head, all weights copied.

    Raises:
        BackboneError: it has none.
    """
    backbone.require_output()
    model = type(backbone.model)(plain_config(backbone))
    model.load_state_dict(backbone.model.state_dict())
    return model.to(backbone.device)


def plain_classifier(backbone: Backbone, num_labels: int, seed: int) -> Any:
    """transformers' classifier on the backbone's weights; what the backbone lacks (head, pooler) starts at random.

    Raises:
        BackboneError: transformers has none for this model.
    """
    config = plain_config(backbone)
    config.num_labels, config.pad_token_id = num_labels, backbone.tokens.pad_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = AutoModelForSequenceClassification.from_config(config, attn_implementation=config._attn_implementation)
        except ValueError as error:
            what = f"transformers has no classifier for {backbone.spec.architecture}: {str(error).splitlines()[0]}"
            raise BackboneError(what, where="backbone") from None
    base = getattr(model, model.base_model_prefix)
    missing = base.load_state_dict(backbone.model.base_model.state_dict(), strict=False)
    if missing.unexpected_keys or any("pooler" not in key for key in missing.missing_keys):
        raise BackboneError(f"the classifier of {backbone.spec.architecture} has other weights", where="backbone")
    return model.to(backbone.device)


def plain_config(backbone: Backbone) -> Any:
    """The model's sizes with transformers' own attention; a copy, since a model and its parts share theirs."""
    config = copy.deepcopy(backbone.model.config)
    config._attn_implementation = "sdpa" if getattr(backbone.model, "_supports_sdpa", False) else "eager"
    return config


def by_length(lengths: Sequence[int], batch_size: int = 32) -> list[list[int]]:
    """Row numbers in batches of like lengths, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
