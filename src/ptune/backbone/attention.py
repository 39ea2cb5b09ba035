"""The one place where contexts and branches enter a model: an attention function registered with transformers.

In: `AttentionPlan`, handed to the model's forward as the keyword `ptune_plan` (never module or global state, so that threads
do not meet). Out: attention of live tokens to kept keys and values and to each other. Without a plan the call goes to
transformers' own SDPA untouched. Source: architecture page, section 1. Grouped heads are folded into the query axis, so that
keys and values are neither repeated nor given gradients they do not need; candidates side by side are a batch axis of the
live part and share the context part, so that no pair of tokens of two candidates is ever computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ptune.errors import BackboneError
from ptune.inputs import Context, Live, StoredContext

__all__ = ["IMPLEMENTATION", "AttentionPlan", "KeysTaken", "register"]

IMPLEMENTATION = "ptune"

# Attention keywords that change nothing for a frozen model in eval mode.
_HARMLESS = frozenset(
    {"position_ids", "use_cache", "is_causal", "cache_position", "output_attentions", "output_hidden_states", "return_dict"}
)


class KeysTaken(Exception):
    """Ends a layer's forward once its keys and values are known (see `last_layer`); never leaves the backbone."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = key, value


@dataclass
class AttentionPlan:
    """What the live tokens of one forward may see, worked out once and shared by all layers.

    Args:
        live: the live tokens of one candidate (mask, positions, tree).
        contexts: kept or learned keys and values in front of them, in order.
        num_candidates: J copies of the live tokens stand side by side in each row, each seeing the contexts and itself.
        keep: where to store each layer's live keys and values as they are computed (layer -> (keys, values)), or None.
        needed: [R, U] the live tokens whose last hidden states are wanted; None for all.
        is_taking: stop at the attention of this layer and hand its keys and values out.
        taken: keys and values of all live tokens, for a layer that is only asked about the needed ones.
    """

    live: Live
    contexts: tuple[Context | StoredContext, ...] = ()
    num_candidates: int = 1
    keep: dict[int, tuple[Tensor, Tensor]] | None = None
    needed: Tensor | None = None
    is_taking: bool = False
    taken: tuple[Tensor, Tensor] | None = None
    _bias: dict[tuple[int | None, torch.dtype], tuple[Tensor, ...]] = field(default_factory=dict)
    _folded: dict[tuple[int | None, torch.dtype, bool], tuple[Tensor | None, ...]] = field(default_factory=dict)

    def bias(self, window: int | None, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """For each context and then the live tokens [R, 1, 1, S, L]: 0 where a live token may look, very negative elsewhere."""
        key = (window, dtype)
        if key not in self._bias:
            seen = [*(self._sees_context(context, window) for context in self.contexts), self._sees_live(window)]
            lowest = torch.finfo(dtype).min
            self._bias[key] = tuple(
                torch.zeros(one.shape, dtype=dtype, device=one.device).masked_fill(~one, lowest)[:, None, None] for one in seen
            )
        return self._bias[key]

    def folded_bias(
        self, window: int | None, num_groups: int, num_kv: int, dtype: torch.dtype, *, is_narrow: bool
    ) -> tuple[Tensor | None, ...]:
        """The same, spread over heads and candidates as batched matrix products take it; None where all is seen.

        For each context [R * H_kv, J * G * S, L], then for the live tokens [R * H_kv * J, G * S, L].
        """
        key = (window, dtype, is_narrow)
        if key not in self._folded:
            plan = self if not is_narrow else replace(self, taken=(self.live.ids, self.live.ids), _bias={}, _folded={})
            *contexts, live = plan.bias(window, dtype)
            num_rows, length = live.shape[0], live.shape[3]

            def spread(bias: Tensor, num_outer: int, num_inner: int) -> Tensor | None:
                if not bool((bias < 0).any()):
                    return None
                whole = bias.expand(num_rows, num_outer, num_inner, length, -1)
                return whole.reshape(num_rows * num_outer, num_inner * length, -1)

            self._folded[key] = (
                *(spread(one, num_kv, self.num_candidates * num_groups) for one in contexts),
                spread(live, num_kv * self.num_candidates, num_groups),
            )
        return self._folded[key]

    def places(self, length: int) -> Tensor | None:
        """[R, J * U] the needed tokens of all candidates, which stand side by side in `length` tokens; None for all."""
        if self.needed is None:
            return None
        step = length // self.num_candidates
        shift = torch.arange(self.num_candidates, device=self.needed.device)[None, :, None] * step
        return (self.needed[:, None, :] + shift).flatten(1)

    def whole(self) -> "AttentionPlan":
        """The same plan for a layer whose tokens are all wanted."""
        return self if self.needed is None else self._whole

    @cached_property
    def _whole(self) -> "AttentionPlan":
        return replace(self, needed=None, _bias={}, _folded={})

    def _sees_context(self, context: Context | StoredContext, window: int | None) -> Tensor:
        sees = context.mask[:, None, :]
        if window is not None:
            sees = sees & (self._rows(self.live.positions)[:, :, None] - context.positions[:, None, :] < window)
        return sees

    def _sees_live(self, window: int | None) -> Tensor:
        live = self.live
        order = torch.arange(live.ids.shape[1], device=live.ids.device)
        sees = (order[:, None] >= order)[None] & live.mask[:, None, :]
        if live.tree is not None:
            sees = live.tree & live.mask[:, None, :]
        if window is not None:
            sees = sees & (live.positions[:, :, None] - live.positions[:, None, :] < window)
        if self.taken is not None and self.needed is not None:
            sees = sees.gather(1, self.needed[:, :, None].expand(-1, -1, sees.shape[2]))
        return sees

    def _rows(self, per_token: Tensor) -> Tensor:
        return per_token.gather(1, self.needed) if self.taken is not None and self.needed is not None else per_token


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
    """query [R, H, J * S, K]; key and value [R, H_kv, J * S, K] of the live tokens."""
    if ptune_plan is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
        return out
    plan = ptune_plan
    _refuse_unknown(module, kwargs, dropout)
    layer = _layer_index(module)
    if plan.keep is not None:
        plan.keep[layer] = (key.detach(), value.detach())
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
    given = [context.layer(layer) for context in plan.contexts]
    scores = [folded @ keys.transpose(-1, -2) for keys, _ in given]
    scores.append(to_live.view(num_rows, num_kv, -1, key.shape[1]))
    shape = (num_rows, num_kv, num_heads // num_kv * num_candidates, length)
    biased = [one.view(*shape, -1) + bias for one, bias in zip(scores, plan.bias(sliding_window, query.dtype), strict=True)]
    weights = torch.softmax(biased[0] if len(biased) == 1 else torch.cat(biased, -1), -1).flatten(2, 3)
    *to_contexts, to_live = torch.split(weights, [one.shape[-1] for one in biased], -1)
    mixed = (to_live.reshape(len(key), -1, key.shape[1]) @ value).view(num_rows, num_kv, -1, head_size)
    for (_, values), part in zip(given, to_contexts, strict=True):
        mixed = mixed + part @ values
    return _unfold(mixed, num_heads, num_candidates, length), None


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
