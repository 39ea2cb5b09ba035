"""The normaliser in chunks, with its gradient worked out on the way, against autograd over all logits."""

import pytest
import torch
from torch import Tensor

from ptune.readout import scoring
from ptune.readout.scoring import log_normaliser


@pytest.mark.parametrize("logits_per_chunk", [1, 40, 1 << 24])
@pytest.mark.parametrize("has_cap", [False, True])
@pytest.mark.parametrize("learns_output", [False, True])
def test_values_and_gradients(
    logits_per_chunk: int, has_cap: bool, learns_output: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_LOGITS_PER_CHUNK", logits_per_chunk)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(11, 5, generator=generator, dtype=torch.float64).requires_grad_(learns_output)

    def logits(states: Tensor, columns: Tensor | None) -> Tensor:
        out = states @ (weight if columns is None else weight[columns]).T
        return 3 * torch.tanh(out / 3) if has_cap else out

    direction = torch.randn(7, generator=generator, dtype=torch.float64)
    wanted = [hidden, weight] if learns_output else [hidden]
    mine = log_normaliser(hidden, logits)
    own = torch.logsumexp(logits(hidden, None), -1)
    torch.testing.assert_close(mine, own)
    got, expected = (torch.autograd.grad((value * direction).sum(), wanted) for value in (mine, own))
    torch.testing.assert_close(got, expected)


def test_no_logits_stay_in_memory() -> None:
    """What the graph keeps is [U, D], whatever the vocabulary."""
    hidden = torch.randn(64, 4).requires_grad_()
    weight = torch.randn(5000, 4)
    value = log_normaliser(hidden, lambda states, columns: states @ (weight if columns is None else weight[columns]).T)
    assert value.grad_fn is not None
    assert [tuple(one.shape) for one in value.grad_fn.saved_tensors] == [(64, 4)]


@pytest.mark.parametrize("hidden_learns", [False, True])
def test_an_output_layer_that_learns_computes_its_logits_again(hidden_learns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_LOGITS_PER_CHUNK", 40000)
    hidden = torch.randn(64, 4).requires_grad_(hidden_learns)
    weight = torch.randn(5000, 4).requires_grad_()
    sizes: list[int] = []

    def logits(states: Tensor, columns: Tensor | None) -> Tensor:
        return states @ (weight if columns is None else weight[columns]).T

    with torch.autograd.graph.saved_tensors_hooks(lambda one: sizes.append(one.numel()) or one, lambda one: one):
        value = log_normaliser(hidden, logits)
    assert max(sizes) <= weight.numel()  # never the 64 x 5000 logits, nor a chunk of 8 x 5000
    (mine,) = torch.autograd.grad(value.sum(), [weight])
    (own,) = torch.autograd.grad(torch.logsumexp(logits(hidden, None), -1).sum(), [weight])
    torch.testing.assert_close(mine, own)


@pytest.mark.parametrize("learns_output", [False, True])
@pytest.mark.parametrize("hidden_learns", [False, True])
def test_each_place_meets_the_whole_vocabulary_once(hidden_learns: bool, learns_output: bool) -> None:
    hidden = torch.randn(7, 4).requires_grad_(hidden_learns)
    weight = torch.randn(50, 4).requires_grad_(learns_output)
    places: list[int] = []

    def logits(states: Tensor, columns: Tensor | None) -> Tensor:
        places.append(len(states))
        return states @ (weight if columns is None else weight[columns]).T

    log_normaliser(hidden, logits)
    assert sum(places) == len(hidden) and max(places) == len(hidden)
