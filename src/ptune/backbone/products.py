"""Products with frozen weights, which take no gradient.

In: rows of numbers and a weight. Out: their product, forwards or back. On a CPU in fp32 oneDNN computes it where torch brings
that library: with the few rows that live tokens are, it is 1.2 to 2 times as fast as the product behind `torch.nn.Linear`, and
it reads the weight as it lies in memory, so nothing is copied. Anywhere else the product is torch's own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["linear", "linear_back"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, with the gradient of x where that learns.

    Args:
        x: [M, K].
        weight: [N, K].
        bias: [N] or None.
    """
    if _ONEDNN is None or not _suits(x, weight, bias):
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        out: Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _ONEDNN(x, weight, bias, "none", [], "")


def linear_back(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of x: [M, N] times [N, K]."""
    return linear(grad, weight.t())


class _Product(torch.autograd.Function):
    """Nothing is saved but the weight, which does not learn."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return linear_back(grads[0], ctx.weight), None, None


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether this product is one for oneDNN: fp32 on a CPU, by a weight that does not learn."""
    parts = (x, weight) if bias is None else (x, weight, bias)
    learns = torch.is_grad_enabled() and any(part.requires_grad for part in parts[1:])
    return not learns and x.numel() > 0 and all(part.dtype == torch.float32 and part.device.type == "cpu" for part in parts)


def _find_onednn() -> Callable[..., Tensor] | None:
    """torch's own entry to oneDNN, if this build has it."""
    try:
        found: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
    except (AttributeError, RuntimeError):
        return None
    return found if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]


_ONEDNN = _find_onednn()
