"""Products with frozen weights against double precision, and where they leave the work to torch."""

import pytest
import torch
from torch import Tensor

from ptune.backbone import products
from ptune.backbone.products import linear, linear_back
from ptune.inputs import Live, PromptState
from tiny import tiny_backbone


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("num_rows", [0, 1, 3, 64, 184, 257, 513, 1024, 1025])
@pytest.mark.parametrize(("width", "out"), [(1, 7), (32, 48), (576, 192)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_products_are_those_of_double_precision(num_rows: int, width: int, out: int, has_bias: bool) -> None:
    x, weight, bias = drawn(num_rows, width), drawn(out, width), drawn(out) if has_bias else None
    forwards = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    torch.testing.assert_close(linear(x, weight, bias).double(), forwards, rtol=1e-5, atol=1e-4)
    grad = drawn(num_rows, out)
    torch.testing.assert_close(linear_back(grad, weight).double(), grad.double() @ weight.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(products._ONEDNN is None, reason="this torch has no oneDNN")
def test_shapes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is compiled and held for each: whatever number of rows comes, there are 56 of a weight."""
    seen: list[int] = []

    def noted(x: Tensor, *rest: object) -> Tensor:
        seen.append(len(x))
        return x

    monkeypatch.setattr(products, "_ONEDNN", noted)
    weight = drawn(256, 256)
    for num_rows in range(1, 1025):
        assert len(linear(torch.zeros(num_rows, 256), weight)) == num_rows
        assert num_rows <= seen[-1] < num_rows + (8 if num_rows <= 256 else 32)
    assert len(set(seen)) == 56
    assert len(linear(torch.zeros(1025, 256), weight)) == 1025 and len(seen) == 1024


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_types_are_torchs_own(dtype: torch.dtype) -> None:
    x, weight = drawn(5, 512).to(dtype), drawn(256, 512).to(dtype)
    assert torch.equal(linear(x, weight), torch.nn.functional.linear(x, weight))
    assert torch.equal(linear_back(x @ weight.T, weight), (x @ weight.T) @ weight)


@pytest.mark.parametrize("learns", ["x", "weight", "bias"])
def test_what_learns_gets_its_gradient(learns: str) -> None:
    parts = {"x": drawn(5, 512), "weight": drawn(256, 512), "bias": drawn(256)}
    parts[learns].requires_grad_()
    direction = drawn(5, 256)
    (linear(**parts) * direction).sum().backward()
    (slope,) = torch.autograd.grad((torch.nn.functional.linear(**parts) * direction).sum(), parts[learns])
    torch.testing.assert_close(parts[learns].grad, slope, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(linear(**parts), torch.nn.functional.linear(**parts), rtol=1e-4, atol=1e-4)


def test_a_model_says_the_same_without_that_library(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone("llama")
    assert backbone.takes_plan
    ids = torch.arange(5, 29).view(2, 12)
    live = Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), torch.arange(12).expand(2, -1))
    own = products._ONEDNN
    calls = [0]

    def counted(*args: object) -> Tensor:
        calls[0] += 1
        assert own is not None
        return own(*args)

    monkeypatch.setattr(products, "_SMALLEST_WEIGHT", 0)
    if own is not None:
        monkeypatch.setattr(products, "_ONEDNN", counted)
    live.soft[:, 3] = 0
    prompt = PromptState(rows=drawn(1, backbone.spec.embedding_size).requires_grad_())
    states = backbone.hidden(live, prompt, keep={})
    assert own is None or calls[0] == 7 * backbone.spec.num_layers
    with torch.no_grad():
        torch.testing.assert_close(backbone.hidden(live, prompt, keep={}), states, rtol=1e-5, atol=1e-5)
        assert own is None or calls[0] == 14 * backbone.spec.num_layers
        torch.testing.assert_close(backbone.hidden(live, prompt), states, rtol=1e-5, atol=1e-5)
    assert own is None or calls[0] == 14 * backbone.spec.num_layers  # nothing learns or is kept: torch's own
    monkeypatch.setattr(products, "_ONEDNN", None)
    with torch.enable_grad():
        torch.testing.assert_close(backbone.hidden(live, prompt, keep={}), states, rtol=1e-5, atol=1e-5)
