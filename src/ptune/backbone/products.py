"""Products with frozen weights, which take no gradient.

In: rows of numbers and a weight. Out: their product, forwards or back. On a CPU in fp32 oneDNN computes it where torch brings
that library: with the few rows that live tokens are, it is 1.2 to 2 times as fast as the product behind `torch.nn.Linear`,
and it reads the weight as it lies in memory, so nothing is copied. It compiles a kernel for each shape, though (about a
millisecond, half a megabyte to one), so rows are filled up to a few numbers of them, and few kernels are held. Anywhere else,
and for more rows or small weights, the product is torch's own. Callers come here while something learns or contexts are
computed to be kept: a server meets all lengths, and is to keep its memory flat.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["linear", "linear_back"]

_MOST_ROWS = 1024
_SMALLEST_WEIGHT = 1 << 16
_MOST_KERNELS = 96


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
    num_rows, num_filled = len(x), _filled(len(x))
    if num_rows < num_filled:
        x = torch.cat([x, x.new_zeros(num_filled - num_rows, x.shape[1])])
    return _ONEDNN(x, weight, bias, "none", [], "")[:num_rows]


def _filled(num_rows: int) -> int:
    """The next number of rows for which there are kernels: 32 up to 256, and 24 more up to the most."""
    step = 8 if num_rows <= 256 else 32
    return -(-num_rows // step) * step


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
    """Whether this product is one for oneDNN: of its size, fp32 on a CPU, by a weight that does not learn."""
    parts = (x, weight) if bias is None else (x, weight, bias)
    learns = torch.is_grad_enabled() and any(part.requires_grad for part in parts[1:])
    has_size = x.dim() == 2 and 0 < len(x) <= _MOST_ROWS and weight.numel() >= _SMALLEST_WEIGHT
    return has_size and not learns and all(part.dtype == torch.float32 and part.device.type == "cpu" for part in parts)


def _find_onednn() -> Callable[..., Tensor] | None:
    """torch's own entry to oneDNN, if this build has it."""
    try:
        found: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
    except (AttributeError, RuntimeError):
        return None
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_MOST_KERNELS))  # read at its first use; 1,024 otherwise
    return found if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]


_ONEDNN = _find_onednn()
