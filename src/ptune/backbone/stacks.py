"""Where keys and values can enter a model: its stacks of attention layers, found by watching it read a few tokens.

In: a backbone. Out: for each `Place` a `Stack`: which module is which layer, and how large keys and values are. Nothing is
looked up by the name of an architecture: what is not seen to call the registered attention cannot be served, and is refused.
Also here: the keys and values of a real text in every stack, which prefixes can start from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ptune.backbone.plan import AttentionPlan, Record
from ptune.errors import BackboneError
from ptune.inputs import Live, Place, PromptState, StackSpec

if TYPE_CHECKING:
    from ptune.backbone.backbone import Backbone

__all__ = ["Stack", "find_stacks", "text_keys_and_values"]

_NUM_ENCODER_TOKENS, _NUM_DECODER_TOKENS = 7, 5
_FAILURES = (BackboneError, TypeError, ValueError, RuntimeError, AttributeError)
_EXACT, _HALF = 1e-4, 5e-2


@dataclass(frozen=True)
class Stack:
    """One stack of attention layers.

    Args:
        spec: sizes of its keys and values.
        layers: the number of each module; empty where one module serves several layers.
    """

    spec: StackSpec
    layers: Mapping[nn.Module, int]

    @property
    def is_shared(self) -> bool:
        """Whether one module serves several layers (ALBERT), so that its calls have to be counted."""
        return not self.layers


def find_stacks(backbone: "Backbone") -> Mapping[Place, Stack]:
    """The stacks of a model that reads plans.

    Raises:
        BackboneError: its attention cannot be reached, or a plan changes what it computes.
    """
    ids = (torch.arange(_NUM_ENCODER_TOKENS)[None] * 7 + 1) % backbone.spec.vocab_size
    calls = _watch(backbone, ids)
    stacks: dict[Place, Stack] = {place: _stack(backbone, found) for place, found in calls.items()}
    if backbone.kind != "decoder":  # a decoder has had its trial: `takes_contexts`
        _check_plain_plan(backbone, ids, stacks["text"])
    return stacks


@torch.no_grad()
def text_keys_and_values(backbone: "Backbone", ids: Sequence[int]) -> dict[Place, Tensor]:
    """Keys and values [2, N, H_kv, P, K] of a text in every stack; a decoder reads the same text as its encoder."""
    found = _watch(backbone, torch.tensor([list(ids)]), list(ids))
    return {
        place: torch.stack([torch.stack([keys[0] for _, keys, _ in calls]), torch.stack([values[0] for _, _, values in calls])])
        for place, calls in found.items()
    }


@torch.no_grad()
def _watch(
    backbone: "Backbone", ids: Tensor, decoder_ids: Sequence[int] | None = None
) -> dict[Place, list[tuple[nn.Module, Tensor, Tensor]]]:
    """Each stack's calls of attention, in order."""
    record = Record()
    hidden = backbone.watch(record, ids)
    found: dict[Place, list[tuple[nn.Module, Tensor, Tensor]]] = {"text": list(record.calls)}
    if len(record.calls) != backbone.spec.num_layers:
        raise _refusal(backbone, f"{len(record.calls)} of its {backbone.spec.num_layers} layers call the registered attention")
    if backbone.kind != "encoder-decoder":
        return found
    own = Record()
    steps = torch.tensor([list(decoder_ids)]) if decoder_ids is not None else ids[:, :_NUM_DECODER_TOKENS]
    backbone.watch_decoder(own, steps.to(backbone.device), hidden)
    num = len(own.calls) // 2
    if not num or len(own.calls) != 2 * num:
        raise _refusal(backbone, "its decoder does not call the registered attention twice in each layer")
    return {**found, "decoder": own.calls[::2], "cross": own.calls[1::2]}


def _stack(backbone: "Backbone", calls: Sequence[tuple[nn.Module, Tensor, Tensor]]) -> Stack:
    modules = [module for module, _, _ in calls]
    sizes = {(keys.shape[1], keys.shape[3], values.shape[3]) for _, keys, values in calls}
    if len(sizes) > 1 or any(keys != values for _, keys, values in sizes):
        raise _refusal(backbone, "its layers' keys and values are of different sizes")
    num_heads, head_size, _ = next(iter(sizes))
    keys_rms = tuple(_rms(keys) for _, keys, _ in calls)
    values_rms = tuple(_rms(values) for _, _, values in calls)
    spec = StackSpec(len(calls), num_heads, head_size, keys_rms, values_rms)
    is_shared = len(set(modules)) < len(modules)
    return Stack(spec, {} if is_shared else {module: number for number, module in enumerate(modules)})


def _rms(one: Tensor) -> float:
    return float(one.float().square().mean().sqrt())


@torch.no_grad()
def _check_plain_plan(backbone: "Backbone", ids: Tensor, stack: Stack) -> None:
    """A plan without contexts must change nothing."""
    positions = torch.arange(ids.shape[1])[None]
    live = Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), positions)
    try:
        plain = backbone.hidden(live, PromptState())
        plan = AttentionPlan(live, is_causal=False, layers=stack.layers, is_counted=stack.is_shared)
        planned = backbone.watch(plan, ids)
    except _FAILURES as error:
        raise _refusal(backbone, str(error)) from None
    change = float((planned - plain).abs().max() / plain.abs().max())
    if change > (_EXACT if backbone.dtype in (torch.float32, torch.float64) else _HALF):
        raise _refusal(backbone, f"a plan changes its states by {change:.1e}")


def _refusal(backbone: "Backbone", reason: str) -> BackboneError:
    return BackboneError(
        f"{backbone.spec.name} ({backbone.spec.architecture}) takes no learned keys and values: {reason}",
        where="method",
        fix="use prompt-tuning or p-tuning, whose learned tokens every model reads",
    )
