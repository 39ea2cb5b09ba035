"""The one place where contexts, learned keys and branches enter a model: an attention function registered with transformers.

In: `AttentionPlan`, handed to the model's forward as the keyword `ptune_plan` (never module or global state, so that threads
do not meet). Out: attention of live tokens to kept or learned keys and values and to each other. Without a plan the call goes
to transformers' own SDPA untouched. Source: architecture page, section 1. Grouped heads are folded into the query axis, so
that keys and values are neither repeated nor given gradients they do not need; candidates side by side are a batch axis of
the live part and share the context part, so that no pair of tokens of two candidates is ever computed.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ptune.backbone.plan import AttentionPlan, KeysTaken, Record, Seen
from ptune.errors import BackboneError
from ptune.inputs import Prefix

__all__ = ["IMPLEMENTATION", "register"]

IMPLEMENTATION = "ptune"

# Attention keywords that change nothing for a frozen model in eval mode.
_HARMLESS = frozenset(
    {
        "position_ids",
        "use_cache",
        "is_causal",
        "cache_position",
        "deterministic",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
    }
)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    ptune_plan: AttentionPlan | Record | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [R, H, J * S, K]; key and value [R, H_kv, J * S, K] of the live tokens, or [R, H_kv, T, K] of an encoder's."""
    if isinstance(ptune_plan, Record):
        ptune_plan.calls.append((module, key.detach(), value.detach()))
    if not isinstance(ptune_plan, AttentionPlan):
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
        return out
    plan = ptune_plan.seen_by(module)
    position_bias = kwargs.pop("position_bias", None)
    _refuse_unknown(module, kwargs, dropout)
    layer = plan.layer_number(module)
    if plan.keep is not None:
        plan.keep[layer] = (key, value)
    if plan.is_taking:
        raise KeysTaken(key, value)
    if plan.taken is not None:
        key, value = plan.taken
    num_rows, num_heads, num_queries, head_size = query.shape
    num_kv, num_candidates = key.shape[1], plan.num_candidates
    length = num_queries // num_candidates
    folded = _fold(query * (head_size**-0.5 if scaling is None else scaling), num_kv, num_candidates)
    key, value = (one.reshape(num_rows * num_kv * num_candidates, -1, head_size) for one in (key, value))
    to_live = folded.reshape(len(key), -1, head_size) @ key.transpose(1, 2)
    *context_biases, live_bias = plan.bias(sliding_window, query.dtype)
    if position_bias is not None:
        live_bias = live_bias + _position_bias(module, position_bias, num_kv, num_heads * num_candidates)
    shape = (num_rows, num_kv, num_heads // num_kv * num_candidates, length)
    joined: list[tuple[Seen, Tensor]] = []
    gated: list[tuple[Prefix, Tensor]] = []
    for context, bias in zip(plan.contexts, context_biases, strict=True):
        if isinstance(context, Prefix) and context.gates is not None:
            gated.append((context, bias))
        else:
            joined.append((context, bias))
    given = [context.layer(layer) for context, _ in joined]
    scores = [
        (folded @ keys.transpose(-1, -2)).view(*shape, -1) + bias for (keys, _), (_, bias) in zip(given, joined, strict=True)
    ]
    scores.append(to_live.view(*shape, -1) + live_bias)
    weights = torch.softmax(scores[0] if len(scores) == 1 else torch.cat(scores, -1), -1).flatten(2, 3)
    *to_contexts, to_live = torch.split(weights, [one.shape[-1] for one in scores], -1)
    mixed = (to_live.reshape(len(key), -1, key.shape[1]) @ value).view(num_rows, num_kv, -1, head_size)
    for (_, values), part in zip(given, to_contexts, strict=True):
        mixed = mixed + part @ values
    for prefix, bias in gated:
        mixed = mixed + _gated(folded, prefix, layer, bias, shape)
    return _unfold(mixed, num_heads, num_candidates, length), None


def _gated(folded: Tensor, prefix: Prefix, layer: int, bias: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Attention to a prefix by itself, times its gate: [R, H_kv, J * G * S, K]; nothing where the gate is 0.

    Source: Zhang et al. 2023 (LLaMA-Adapter), zero-initialised attention, with one gate for each key head.
    """
    keys, values = prefix.layer(layer)
    assert prefix.gates is not None
    scores = (folded @ keys.transpose(-1, -2)).view(*shape, -1) + bias
    weights = torch.softmax(scores, -1) * (bias.amax(-1, keepdim=True) == 0)  # tokens that do not see the prefix
    return (weights.flatten(2, 3) @ values) * torch.tanh(prefix.gates[layer])[None, :, None, None]


def _position_bias(module: torch.nn.Module, bias: Tensor, num_kv: int, num_queries: int) -> Tensor:
    """T5's relative bias [1, H, S, S] for the live tokens; a learned prefix takes none."""
    if bias.shape[1] != num_kv or num_queries != num_kv:
        raise BackboneError(
            f"{type(module).__name__} hands over a position bias that grouped heads or candidates cannot honour"
        )
    return bias[:, :, None]


def _fold(query: Tensor, num_kv: int, num_candidates: int) -> Tensor:
    """[R, H, J * S, K] -> [R, H_kv, J * G * S, K], G = H / H_kv query heads of one key head behind each other."""
    num_rows, num_heads, _, head_size = query.shape
    if num_candidates == 1:
        return query.reshape(num_rows, num_kv, -1, head_size)
    split = query.view(num_rows, num_kv, num_heads // num_kv, num_candidates, -1, head_size)
    return split.transpose(2, 3).reshape(num_rows, num_kv, -1, head_size)


def _unfold(mixed: Tensor, num_heads: int, num_candidates: int, length: int) -> Tensor:
    """[R, H_kv, J * G * S, K] -> [R, J * S, H, K]."""
    num_rows, num_kv, _, head_size = mixed.shape
    split = mixed.view(num_rows, num_kv, num_candidates, num_heads // num_kv, length, head_size)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(num_rows, num_candidates * length, num_heads, head_size)


def _refuse_unknown(module: torch.nn.Module, kwargs: Mapping[str, Any], dropout: float) -> None:
    unknown = sorted(name for name, value in kwargs.items() if value is not None and name not in _HARMLESS)
    if unknown or dropout:
        raise BackboneError(
            f"{type(module).__name__} asks attention for {', '.join(unknown) or 'dropout'}, which a kept context cannot honour",
            fix="set keep_context: false",
        )


def register() -> None:
    """Makes the implementation known to transformers under `IMPLEMENTATION`; harmless to repeat."""
    AttentionInterface.register(IMPLEMENTATION, _attend)
    AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
