"""What the live tokens of one forward may see, worked out once and shared by all layers.

In: live tokens, contexts in front of them, and for an encoder-decoder what its cross attention reads. Out: for each layer a
bias that is 0 where a token may look. A plan travels with the call, so nothing here outlives it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ptune.errors import BackboneError
from ptune.inputs import Context, Live, Prefix, StoredContext

__all__ = ["AttentionPlan", "CrossPlan", "KeysTaken", "Record", "Seen"]

Seen = Context | StoredContext | Prefix


class KeysTaken(Exception):
    """Ends a layer's forward once its keys and values are known (see `last_layer`); never leaves the backbone."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = key, value


@dataclass(frozen=True)
class Record:
    """Handed over in place of a plan: attention is the model's own, and each call's module, keys and values are noted.

    Args:
        calls: in the order of the calls; keys and values [R, H_kv, T, K].
    """

    calls: list[tuple[torch.nn.Module, Tensor, Tensor]] = field(default_factory=list)


@dataclass
class AttentionPlan:
    """See the module's docstring.

    Args:
        live: the live tokens of one candidate (mask, positions, tree, which see the prefix).
        contexts: kept keys and values in front of them, and a learned prefix.
        num_candidates: J copies of the live tokens stand side by side in each row, each seeing the contexts and itself.
        keep: where to store each layer's live keys and values as they are computed (layer -> (keys, values)), or None.
        needed: [R, U] the live tokens whose last hidden states are wanted; None for all.
        is_taking: stop at the attention of this layer and hand its keys and values out.
        taken: keys and values of all live tokens, for a layer that is only asked about the needed ones.
        is_causal: whether a token sees only what stands in front of it.
        layers: the number of each attention module, where it does not know it.
        is_counted: whether one module serves all layers, so that calls are counted.
        cross: what a decoder's cross attention sees.
    """

    live: Live
    contexts: tuple[Seen, ...] = ()
    num_candidates: int = 1
    keep: dict[int, tuple[Tensor, Tensor]] | None = None
    needed: Tensor | None = None
    is_taking: bool = False
    taken: tuple[Tensor, Tensor] | None = None
    is_causal: bool = True
    layers: Mapping[torch.nn.Module, int] = field(default_factory=dict)
    is_counted: bool = False
    cross: "CrossPlan | None" = None
    _bias: dict[tuple[int | None, torch.dtype], tuple[Tensor, ...]] = field(default_factory=dict)
    _folded: dict[tuple[int | None, torch.dtype, bool], tuple[Tensor | None, ...]] = field(default_factory=dict)
    _num_calls: int = 0

    def seen_by(self, module: torch.nn.Module) -> "AttentionPlan":
        """The plan that is meant for this module: its cross attention's own, or this one."""
        if self.cross is not None and module in self.cross.layers:
            return self.cross
        return self

    def layer_number(self, module: torch.nn.Module) -> int:
        """Which layer this call belongs to."""
        if self.is_counted:
            self._num_calls += 1
            return self._num_calls - 1
        number = self.layers.get(module, getattr(module, "layer_idx", None))
        if number is None:
            raise BackboneError(f"{type(module).__name__} does not know its layer number, so no context can be kept for it")
        return int(number)

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

    @property
    def has_gates(self) -> bool:
        """Whether a prefix is looked at apart from the tokens."""
        return any(isinstance(context, Prefix) and context.gates is not None for context in self.contexts)

    @cached_property
    def _whole(self) -> "AttentionPlan":
        return replace(self, needed=None, _bias={}, _folded={})

    def _sees_context(self, context: Seen, window: int | None) -> Tensor:
        sees = context.mask[:, None, :]
        if isinstance(context, Prefix):  # in every window
            deep = self.live.deep
            whole = sees.expand(len(self.live.ids), -1, -1)
            return whole if deep is None else whole & self._rows(deep)[:, :, None]
        if window is not None:
            sees = sees & (self._rows(self.live.positions)[:, :, None] - context.positions[:, None, :] < window)
        return sees

    def _sees_live(self, window: int | None) -> Tensor:
        live = self.live
        sees = live.mask[:, None, :]
        if live.tree is not None:
            sees = live.tree & sees
        elif self.is_causal:
            order = torch.arange(live.ids.shape[1], device=live.ids.device)
            sees = (order[:, None] >= order)[None] & sees
        if window is not None:
            distance = live.positions[:, :, None] - live.positions[:, None, :]
            sees = sees & ((distance if self.is_causal else distance.abs()) < window)
        elif sees.shape[1] == 1:
            sees = sees.expand(-1, live.ids.shape[1], -1)
        if self.taken is not None and self.needed is not None:
            sees = sees.gather(1, self.needed[:, :, None].expand(-1, -1, sees.shape[2]))
        return sees

    def _rows(self, per_token: Tensor) -> Tensor:
        return per_token.gather(1, self.needed) if self.taken is not None and self.needed is not None else per_token


@dataclass
class CrossPlan(AttentionPlan):
    """What a decoder's tokens see of the encoder: its tokens by their mask, and a prefix of cross attention's own.

    Args:
        mask: [R, T] True at the encoder's real tokens.
    """

    mask: Tensor = field(default_factory=lambda: torch.ones(1, 1, dtype=torch.bool))

    def _sees_live(self, window: int | None) -> Tensor:
        return self.mask[:, None, :].expand(-1, self.live.ids.shape[1], -1)
