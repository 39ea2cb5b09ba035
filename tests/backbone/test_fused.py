"""The short form of Llama-kind layers against the models' own layers: states and gradients, in double precision."""

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ptune.backbone import Backbone, fused
from ptune.backbone.fused import unfuse
from ptune.inputs import Context, Live, PromptState, Reads
from ptune.model import PromptModel
from tiny import EXAMPLES, SLIDING_WINDOW, build_backbone

KINDS = ["llama", "gemma3"]
LENGTH = 3 * SLIDING_WINDOW // 2


def test_the_families_that_take_the_short_way() -> None:
    for kind in KINDS:
        backbone = build_backbone(kind)
        assert backbone.takes_plan and all("forward" in vars(layer) for layer in backbone.layers)
    gpt2 = build_backbone("gpt2")
    assert gpt2.takes_plan and not any("forward" in vars(layer) for layer in gpt2.layers)


def test_a_layer_that_differs_keeps_its_own_forward() -> None:
    """Recognised by its parts, but not the same sum: the trial finds out."""
    backbone = build_backbone("llama")
    layer: Any = backbone.layers[0]
    own = type(layer).forward
    layer.__class__ = type("Doubled", (type(layer),), {"forward": lambda self, *a, **k: 2 * own(self, *a, **k)})
    assert backbone.takes_plan and not any("forward" in vars(layer) for layer in backbone.layers)


@contextmanager
def models_own(backbone: Backbone) -> Iterator[None]:
    kept = {layer: layer.__dict__["forward"] for layer in backbone.layers}
    for layer in backbone.layers:
        unfuse(layer)
    backbone.__dict__["reads_where_needed"] = False
    yield
    for layer, forward in kept.items():
        layer.__dict__["forward"] = forward
    backbone.__dict__["reads_where_needed"] = True


def live_rows(first: int) -> Live:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, 100, (3, LENGTH), generator=generator)
    soft = torch.full_like(ids, -1)
    soft[:, 1:3] = torch.tensor([0, 1])
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, -2:] = False
    return Live(ids, soft, mask, torch.arange(first, first + LENGTH).repeat(3, 1))


def context_of(backbone: Backbone, num_rows: int, *, learns: bool) -> Context:
    config = backbone.model.config
    shape = (backbone.spec.num_layers, num_rows, config.num_key_value_heads, 5, config.head_dim)
    generator = torch.Generator().manual_seed(6)
    keys, values = (torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(learns) for _ in range(2))
    mask = torch.ones(num_rows, 5, dtype=torch.bool)
    mask[-1, -1] = num_rows == 1
    return Context(keys, values, mask, torch.arange(5).repeat(num_rows, 1))


def states_and_slopes(
    backbone: Backbone, live: Live, contexts: tuple[Context, ...], num_candidates: int
) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    shape = (2, backbone.spec.embedding_size) if num_candidates == 1 else (num_candidates, 2, backbone.spec.embedding_size)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    reads = Reads(torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([LENGTH - 1, 0, 3, 5, 0, 7]))
    states = backbone.read(live, PromptState(rows=rows), reads, contexts)
    direction = torch.randn(states.shape, generator=generator, dtype=torch.float64)
    wanted = [rows, *(part for one in contexts for part in (one.keys, one.values) if part.requires_grad)]
    return states.detach(), list(torch.autograd.grad((states * direction).sum(), wanted))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_candidates", [1, 3])
@pytest.mark.parametrize("contexts", ["none", "kept", "shared", "learned", "two"])
@pytest.mark.parametrize("has_tree", [False, True], ids=["row", "tree"])
def test_states_and_gradients_are_the_models_own(kind: str, num_candidates: int, contexts: str, has_tree: bool) -> None:
    """Places read once or thrice a row, the first one among them; a window that ends inside context and live tokens."""
    backbone = build_backbone(kind, dtype=torch.float64)
    assert backbone.reads_where_needed
    kept, shared = context_of(backbone, 3, learns=False), context_of(backbone, 1, learns=False)
    given = {
        "none": (),
        "kept": (kept,),
        "shared": (shared,),
        "learned": (context_of(backbone, 1, learns=True),),
        "two": (kept, context_of(backbone, 3, learns=True)),
    }[contexts]
    live = live_rows(5 if given else 0)
    if has_tree:
        tree = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().repeat(3, 1, 1)
        tree[:, 8:, 4:8] = False
        live = replace(live, tree=tree)
    states, slopes = states_and_slopes(backbone, live, given, num_candidates)
    with models_own(backbone):
        own_states, own_slopes = states_and_slopes(backbone, live, given, num_candidates)
    torch.testing.assert_close(states, own_states, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slopes, own_slopes, rtol=1e-7, atol=1e-9)


def test_weights_that_learn_are_left_to_autograd() -> None:
    backbone = build_backbone("llama")
    assert backbone.takes_plan
    backbone.model.requires_grad_(True)
    states = backbone.read(live_rows(0), PromptState(), Reads(torch.tensor([0]), torch.tensor([3])))
    states.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.layers[0].parameters())


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_a_copied_model_runs_on_its_own_weights(kind: str) -> None:
    """As `tune: lm` copies a backbone that is in use: what the copy computes follows its own weights, norms included."""
    backbone = build_backbone(kind)
    reads = Reads(torch.tensor([0]), torch.tensor([LENGTH - 1]))
    before = backbone.read(live_rows(0), PromptState(), reads)
    copied = copy.deepcopy(backbone.model)
    again = Backbone(copied, backbone.tokens.tokenizer, name="copy")
    torch.testing.assert_close(again.read(live_rows(0), PromptState(), reads), before)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if "norm" in name or "ln_" in name:
                parameter.mul_(1.5)
    changed = again.read(live_rows(0), PromptState(), reads)
    assert (changed - before).abs().max() > 1e-3
    fresh = Backbone(copied, backbone.tokens.tokenizer, name="fresh")
    torch.testing.assert_close(fresh.read(live_rows(0), PromptState(), reads), changed)
    torch.testing.assert_close(backbone.read(live_rows(0), PromptState(), reads), before, rtol=0, atol=0)


def test_a_model_in_use_can_be_pickled() -> None:
    backbone = build_backbone("llama")
    assert backbone.reads_where_needed
    again = pickle.loads(pickle.dumps(backbone.model))
    assert all(layer.forward.fused.layer is layer for layer in again.model.layers)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_a_token_that_is_read_twice_gets_its_gradient_once(kind: str) -> None:
    """By finite differences: two readings of one token, among few that are read."""
    backbone = build_backbone(kind, dtype=torch.float64)
    ids = torch.arange(5, 29).view(2, 12)
    live = Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), torch.arange(12).expand(2, -1))
    live.soft[:, 3] = 0
    reads = Reads(row=torch.tensor([0, 0, 0, 1, 1]), position=torch.tensor([5, 11, 11, 11, 7]))
    assert backbone.reads_where_needed
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(5, backbone.spec.width, generator=generator, dtype=torch.float64)
    rows, way = (torch.randn(1, backbone.spec.embedding_size, generator=generator, dtype=torch.float64) for _ in range(2))
    rows.requires_grad_()

    def value(step: float = 0.0) -> Tensor:
        return (backbone.read(live, PromptState(rows=rows + step * way), reads) * weights).sum()

    (slope,) = torch.autograd.grad(value(), rows)
    with torch.no_grad():
        measured = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((slope * way).sum(), measured, rtol=1e-5, atol=1e-7)


def test_what_a_layer_saved_goes_with_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[weakref.ref[Tensor]] = []
    hand_over = fused._Run.hand_over

    def noted(self: Any) -> Any:
        given = hand_over(self)
        saved.extend(weakref.ref(one) for one in given[2:] if one is not None)  # the first are the layer's input
        return given

    model = PromptModel.build(
        backbone=build_backbone("llama"), template="{text}{soft:3}{mask}", labels=["yes", "no"], pool="last"
    )
    rows = model.prepare(EXAMPLES)
    assert model.backbone.takes_plan and model.backbone.reads_where_needed
    monkeypatch.setattr(fused._Run, "hand_over", noted)
    outcome = model(model.batch(rows, range(4)))
    assert outcome.loss is not None and saved and all(one() is not None for one in saved)
    outcome.loss.backward()
    gc.collect()
    assert not any(one() is not None for one in saved)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_under_autocast_the_model_s_own_layers_run(kind: str) -> None:
    model = PromptModel.build(backbone=build_backbone(kind), template="{text}{soft:3}{mask}", labels=["yes", "no"], pool="last")
    batch = model.batch(model.prepare(EXAMPLES), range(4))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch).loss
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.prompt.parameters())
