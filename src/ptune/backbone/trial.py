"""What a model can do, tried on a few tokens rather than looked up by its name.

In: a backbone that has just been made. Out: whether contexts reach its attention, whether its last layer can be computed where
it is read, and whether its layers agree with their short form, in value and gradient. What fails its trial is not used.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ptune.backbone.fused import fuse, unfuse
from ptune.backbone.last_layer import read_where_needed, read_whole
from ptune.errors import BackboneError
from ptune.inputs import Context, Live, PromptState

if TYPE_CHECKING:
    from ptune.backbone.backbone import Backbone

__all__ = ["fuse_layers", "narrows_last_layer", "own_forwards", "takes_contexts"]

_FAILURES = (BackboneError, TypeError, ValueError, RuntimeError, AttributeError)
_NUM_KEPT, _NUM_TOKENS = 3, 7
_EXACT, _HALF, _ROUGH = 1e-4, 5e-2, 0.3
"""Largest error over largest value in fp32, in bf16, and where activations are rounded to int8 by the batch they are in."""


def own_forwards(model: torch.nn.Module) -> None:
    """Takes back what an earlier backbone of this model, or of one that it was copied from, left in its layers."""
    for module in model.modules():
        unfuse(module)
        read_whole(module)


def takes_contexts(backbone: "Backbone") -> bool:
    """Whether tokens behind a kept context get the states that they have in the whole sequence."""
    ids = torch.arange(4)[None] % backbone.spec.vocab_size
    with torch.no_grad():
        try:
            plain = backbone.hidden(_live(ids, 0), PromptState())
            context = _context(backbone, ids[:, :_NUM_KEPT])
            if context is None:
                return False
            resumed = backbone.hidden(_live(ids[:, _NUM_KEPT:], _NUM_KEPT), PromptState(), (context,))
        except _FAILURES:
            return False
    return _agree(backbone, resumed[:, 0], plain[:, 3])


def narrows_last_layer(backbone: "Backbone") -> bool:
    """Whether the last layer's states at two tokens are those of the whole; the layer learns to do that here."""
    if not backbone.layers:
        return False
    last = backbone.layers[-1]
    if "forward" not in vars(last):  # a fused layer knows it already
        read_where_needed(last)
    live = _live(torch.arange(4)[None] % backbone.spec.vocab_size, 0)
    with torch.no_grad():
        try:
            plain = backbone.hidden(live, PromptState())
            read = backbone.run(live, PromptState(), (), needed=torch.tensor([[3, 1]]))
        except _FAILURES:
            return False
    return _agree(backbone, read[:, [3, 1]], plain[:, [3, 1]])


def fuse_layers(backbone: "Backbone") -> bool:
    """Gives all layers their short form where that agrees with the model's own states and gradients, else none."""
    layers = backbone.layers
    if backbone.is_quantised or backbone.dtype not in (torch.float32, torch.float64):
        return False
    ids = (torch.arange(2 * _NUM_TOKENS).view(2, -1) * 7 + 1) % backbone.spec.vocab_size
    context = _context(backbone, ids[:, :_NUM_KEPT])
    if context is None:
        return False
    own = _states_and_slope(backbone, ids, context)
    try:
        if all(fuse(layer, is_last=layer is layers[-1]) for layer in layers):
            mine = _states_and_slope(backbone, ids, context)
            if all(_agree(backbone, one, other) for one, other in zip(mine, own, strict=True)):
                return True
    except _FAILURES:
        pass
    for layer in layers:
        unfuse(layer)
    return False


def _states_and_slope(backbone: "Backbone", ids: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Last states of the tokens behind the context (the second row padded), and how they and kept keys and values depend on
    one learned row."""
    live = _live(ids[:, _NUM_KEPT:], _NUM_KEPT)
    live.mask[1, -1] = False
    live.soft[:, 0] = 0
    generator = torch.Generator().manual_seed(0)
    size = (1, backbone.spec.embedding_size)
    row = torch.randn(size, generator=generator).to(backbone.device, backbone.dtype) * backbone.spec.embedding_rms
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.enable_grad():
        row.requires_grad_()
        states = backbone.hidden(live, PromptState(rows=row), (context,), keep=kept)
        direction = torch.randn(states.shape, generator=generator).to(states)
        total = (states * direction)[live.mask.to(states.device)].sum()
        for part in (part[0] for layer in sorted(kept) for part in kept[layer]):
            total = total + (part * torch.randn(part.shape, generator=generator).to(part)).sum()
        (slope,) = torch.autograd.grad(total, row)
    return states.detach()[live.mask.to(states.device)], slope


def _context(backbone: "Backbone", ids: Tensor) -> Context | None:
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        backbone.hidden(_live(ids, 0), PromptState(), keep=kept)
    if len(kept) != backbone.spec.num_layers:
        return None
    keys, values = (torch.stack([kept[layer][part] for layer in range(len(kept))]) for part in (0, 1))
    return Context(keys, values, torch.ones_like(ids, dtype=torch.bool), _live(ids, 0).positions)


def _agree(backbone: "Backbone", mine: Tensor, own: Tensor) -> bool:
    error = (mine - own).abs().max() / own.abs().max()
    if backbone.is_quantised:
        return bool(error < _ROUGH)
    return bool(error < (_EXACT if backbone.dtype in (torch.float32, torch.float64) else _HALF))


def _live(ids: Tensor, first: int) -> Live:
    positions = torch.arange(first, first + ids.shape[1]).repeat(len(ids), 1)
    return Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), positions)
