"""The independent side of the tests on deep prompts: plain attention over [learned keys, the model's own keys].

Registered with transformers under a name of its own. The model makes its own mask (eager, additive), windows included; learned
keys are put in front of it with 0, so that every token sees them, and T5's position bias gets 0 there too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from tiny import tiny_model

__all__ = ["reference_decoder_states", "reference_states"]

_PREFIXES: list[tuple[Tensor, Tensor]] = []


@contextmanager
def _next_prefixes(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Keys and values [H_kv, P, K] of each call of attention, in order."""
    _PREFIXES[:] = pairs
    yield
    assert not _PREFIXES, "attention was called fewer times than there are layers"


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    keys, values = _PREFIXES.pop(0)
    num_rows, num_heads, _, size = query.shape
    repeat = num_heads // key.shape[1]
    key = torch.cat([keys.expand(num_rows, -1, -1, -1), key], 2).repeat_interleave(repeat, 1)
    value = torch.cat([values.expand(num_rows, -1, -1, -1), value], 2).repeat_interleave(repeat, 1)
    num = keys.shape[1]
    scores = query @ key.transpose(2, 3) * (size**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + torch.nn.functional.pad(attention_mask, (num, 0))
    if kwargs.get("position_bias") is not None:
        scores = scores + torch.nn.functional.pad(kwargs["position_bias"], (num, 0))
    return (torch.softmax(scores, -1) @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("reference", _attention)
AttentionMaskInterface.register("reference", eager_mask)


def _pairs(both: Tensor) -> list[tuple[Tensor, Tensor]]:
    """[2, N, H_kv, P, K] -> one pair for each layer."""
    return list(zip(both[0].unbind(0), both[1].unbind(0), strict=True))


def reference_states(kind: str, arguments: Mapping[str, Any], both: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """[R, S, D] of a model's text stack with learned keys and values [2, N, H_kv, P, K]."""
    model = tiny_model(kind, dtype=dtype)
    model.set_attn_implementation("reference")
    trunk = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    with torch.no_grad(), _next_prefixes(_pairs(both)):
        states: Tensor = (
            trunk(**arguments, use_cache=False).last_hidden_state
            if model.config.is_encoder_decoder is False
            else (trunk(**arguments).last_hidden_state)
        )
    return states


def reference_decoder_states(kind: str, arguments: Mapping[str, Any], own: Tensor, cross: Tensor) -> Tensor:
    """[R, T, D] of an encoder-decoder's decoder with learned keys and values of its own and of cross attention."""
    model = tiny_model(kind)
    model.set_attn_implementation("reference")
    pairs = [pair for both in zip(_pairs(own), _pairs(cross), strict=True) for pair in both]
    with torch.no_grad(), _next_prefixes(pairs):
        states: Tensor = model.get_decoder()(**arguments, use_cache=False).last_hidden_state
    return states
