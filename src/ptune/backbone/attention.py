"""The one place where a context and branches enter a model: an attention function registered with transformers.

In: `AttentionPlan`, handed to the model's forward as the keyword `ptune_plan` (never module or global state, so that threads
do not meet). Out: attention of live tokens to kept keys and values and to each other. Without a plan the call goes to
transformers' own SDPA untouched. Source: architecture page, section 1; grouped heads are folded into the query axis, so that
keys and values are neither repeated nor given gradients they do not need.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ptune.errors import BackboneError
from ptune.inputs import Context, Live

__all__ = ["IMPLEMENTATION", "AttentionPlan", "register"]

IMPLEMENTATION = "ptune"

# Attention keywords that change nothing for a frozen model in eval mode.
_HARMLESS = frozenset(
    {"position_ids", "use_cache", "is_causal", "cache_position", "output_attentions", "output_hidden_states", "return_dict"}
)


@dataclass
class AttentionPlan:
    """What the live tokens of one forward may see, worked out once and shared by all layers.

    Args:
        live: the live tokens (mask, positions, branch).
        context: kept keys and values, or None.
        keep: where to store each layer's live keys and values as they are computed (layer -> (keys, values)), or None.
    """

    live: Live
    context: Context | None = None
    keep: dict[int, tuple[Tensor, Tensor]] | None = None
    _bias: dict[int | None, Tensor] = field(default_factory=dict)

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """[R, 1, S, L + S]: 0 where a live token may look, a large negative number elsewhere."""
        if window not in self._bias:
            allowed = self._allowed(window)
            self._bias[window] = (
                torch.zeros(allowed.shape, dtype=dtype)
                .masked_fill(~allowed.cpu(), torch.finfo(dtype).min)[:, None]
                .to(self.live.ids.device)
            )
        return self._bias[window]

    def _allowed(self, window: int | None) -> Tensor:
        live = self.live
        query_position = live.positions[:, :, None]
        key_position, key_mask = live.positions, live.mask
        length = live.ids.shape[1]
        order = torch.arange(length, device=live.ids.device)
        visible = order[:, None] >= order  # inside a branch, index order is causal order
        if live.branch is not None:
            trunk = live.branch[:, None, :] == 0
            visible = visible & (trunk | (live.branch[:, None, :] == live.branch[:, :, None]))
        else:
            visible = visible.expand(len(live.ids), -1, -1)
        if self.context is not None:
            before = torch.ones(len(live.ids), length, self.context.mask.shape[1], dtype=torch.bool, device=live.ids.device)
            visible = torch.cat([before, visible], -1)
            key_position = torch.cat([self.context.positions, key_position], 1)
            key_mask = torch.cat([self.context.mask, key_mask], 1)
        visible = visible & key_mask[:, None, :]
        if window is not None:
            visible = visible & (query_position - key_position[:, None, :] < window)
        return visible


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    ptune_plan: AttentionPlan | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [R, H, S, K]; key and value [R, H_kv, S, K] of the live tokens."""
    if ptune_plan is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
        return out
    _refuse_unknown(module, kwargs, dropout)
    layer = _layer_index(module)
    if ptune_plan.keep is not None:
        ptune_plan.keep[layer] = (key.detach(), value.detach())
    num_rows, num_heads, num_live, head_size = query.shape
    scale = head_size**-0.5 if scaling is None else scaling
    folded = query.reshape(num_rows, key.shape[1], -1, head_size) * scale
    scores = folded @ key.transpose(-1, -2)
    context = ptune_plan.context
    if context is not None:
        scores = torch.cat([folded @ context.keys[layer].transpose(-1, -2), scores], -1)
    bias = ptune_plan.bias(sliding_window, scores.dtype)
    scores = (scores.view(num_rows, key.shape[1], -1, num_live, bias.shape[-1]) + bias[:, :, None]).view_as(scores)
    weights = torch.softmax(scores, -1)
    if context is None:
        mixed = weights @ value
    else:
        length = context.mask.shape[1]
        mixed = weights[..., :length] @ context.values[layer] + weights[..., length:] @ value
    return mixed.view(num_rows, num_heads, num_live, head_size).transpose(1, 2).contiguous(), None


def _layer_index(module: torch.nn.Module) -> int:
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise BackboneError(f"{type(module).__name__} does not know its layer number, so no context can be kept for it")
    return int(layer)


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
