"""The last layer only where it is read: its query, output projection and MLP for the needed tokens, keys and values for all.

In: a model's last layer, once, when the backbone is made. Out: the same layer, which, called with an `AttentionPlan` that
names needed tokens, computes those alone and leaves zeros [R, J * S, D] elsewhere. Nothing is rewritten per architecture: a
first call is ended by `KeysTaken` at the attention, a second one runs on the needed tokens with the keys and values of the
first. The backbone tries it on a few tokens before it relies on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ptune.backbone.plan import AttentionPlan, KeysTaken

__all__ = ["read_where_needed", "read_whole"]


def read_where_needed(layer: nn.Module) -> None:
    """Makes a layer understand `AttentionPlan.needed`; without it, it stays as it was."""
    layer.forward = _NarrowForward(layer.forward)


def read_whole(layer: nn.Module) -> None:
    """Takes that back, if it was done."""
    if isinstance(layer.__dict__.get("forward"), _NarrowForward):
        del layer.__dict__["forward"]


@dataclass(frozen=True)
class _NarrowForward:
    """A layer's forward in two calls where a plan names needed tokens. Copied with its layer.

    Args:
        original: the model's own.
    """

    original: Callable[..., Any]

    def __call__(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        plan = kwargs.get("ptune_plan")
        if not isinstance(plan, AttentionPlan) or plan.needed is None:
            return self.original(hidden, *args, **kwargs)
        taking = replace(plan, is_taking=True, _bias={}, _folded={})
        try:
            self.original(hidden, *args, **{**kwargs, "ptune_plan": taking})
        except KeysTaken as keys:
            taken = (keys.key, keys.value)
        reading = replace(plan, taken=taken, keep=None, _bias={}, _folded={})
        length, at = hidden.shape[1], plan.places(hidden.shape[1])
        assert at is not None
        narrow = [_narrow(one, at, length) for one in args]
        narrow_kwargs = {name: _narrow(one, at, length) for name, one in kwargs.items()}
        states: Tensor = self.original(_narrow(hidden, at, length), *narrow, **{**narrow_kwargs, "ptune_plan": reading})
        index = at[:, :, None].expand(-1, -1, states.shape[2])
        return torch.zeros_like(hidden).scatter(1, index, states)


def _narrow(value: Any, at: Tensor, length: int) -> Any:
    """A per-token tensor [R or 1, S, ...] at the needed tokens; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_narrow(one, at, length) for one in value)
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[1] != length or value.shape[0] not in (1, len(at)):
        return value
    index = at.view(*at.shape, *([1] * (value.dim() - 2))).expand(-1, -1, *value.shape[2:])
    return value.expand(len(at), *value.shape[1:]).gather(1, index)
