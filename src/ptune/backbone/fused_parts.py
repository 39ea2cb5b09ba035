"""The parts of a frozen Llama-kind layer, each with its gradient written out: norm, rotation, attention, gated MLP.

In: plain tensors. Out: values, and gradients of inputs alone, since weights never learn. Few passes over memory and no graph:
on a CPU the sums and products between the matrix products cost as much as these do when autograd strings them together.
Formulas: RMSNorm (Zhang & Sennrich 2019, eq. 4), rotary positions (Su et al. 2021, eq. 34), GLU (Shazeer 2020, eq. 6).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Attention", "Gate", "Norm", "rotate"]


@dataclass(frozen=True)
class Norm:
    """RMSNorm over the last axis: x * r * w, r = (mean(x^2) + eps)^-0.5.

    Args:
        module: the transformers module, whose weight is read at each call.
        shift: what is added to the weight (1 in Gemma).
        eps: as in the model.
    """

    module: nn.Module
    shift: float
    eps: float

    @staticmethod
    def of(module: nn.Module) -> "Norm":
        """From a Hugging Face module; Gemma's are told by their class."""
        eps: Any = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        return Norm(module, 1.0 if type(module).__name__.startswith("Gemma") else 0.0, float(eps))

    @property
    def weight(self) -> Tensor:
        """What the normed input is multiplied by."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight.detach() + self.shift if self.shift else weight.detach()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normed input and r, which `backward` needs."""
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
        return torch.mul(x, r).mul_(self.weight), r

    def backward(self, grad: Tensor, x: Tensor, r: Tensor, onto: Tensor | None = None) -> Tensor:
        """Gradient of the input, added to `onto`: r * g w - x * r^3 * mean(g w x)."""
        scaled = grad * self.weight
        mean = torch.linalg.vecdot(scaled, x).unsqueeze(-1).div_(x.shape[-1]).mul_(r).mul_(r).mul_(r)
        out = scaled.mul_(r).addcmul_(x, mean, value=-1)
        return out if onto is None else out.add_(onto)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """Rotates pairs (i, i + K/2) of the last axis; `back` is the inverse and so the gradient.

    Args:
        x: [R, S, H, K].
        cos, sin: [R, S, 1, K / 2].
        back: the other way round.
    """
    half = x.shape[-1] // 2
    first, second, out = x[..., :half], x[..., half:], torch.empty_like(x)
    sign = 1.0 if back else -1.0
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=-sign)
    return out


@dataclass(frozen=True)
class Gate:
    """act(g) * u with act SiLU or tanh-GELU.

    Args:
        is_gelu: which.
    """

    is_gelu: bool

    def forward(self, g: Tensor, u: Tensor) -> Tensor:
        """The gated values."""
        return self._act(g).mul_(u)

    def backward(self, grad: Tensor, g: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of g and u; `grad` is used up."""
        grad_u = self._act(g).mul_(grad)
        grad.mul_(u)
        if self.is_gelu:
            return torch.ops.aten.gelu_backward(grad, g, approximate="tanh"), grad_u
        return torch.ops.aten.silu_backward(grad, g), grad_u

    def _act(self, g: Tensor) -> Tensor:
        return nn.functional.gelu(g, approximate="tanh") if self.is_gelu else nn.functional.silu(g)


@dataclass(frozen=True)
class Attention:
    """Attention of J candidates' live queries to contexts and to their own live keys, heads of a group folded together.

    Args:
        num_candidates: J.
        num_groups: G, query heads per key head.
        scale: on the scores.
        bias: for each context [R * H_kv, J * G * S, L], then for the live part [R * H_kv * J, G * S, S_k];
            None where all is seen.
    """

    num_candidates: int
    num_groups: int
    scale: float
    bias: tuple[Tensor | None, ...]

    def fold(self, q: Tensor) -> Tensor:
        """[R, J * S, H, K] -> [R * H_kv, J * G * S, K]."""
        num_rows, length, num_heads, size = q.shape
        split = q.view(num_rows, self.num_candidates, length // self.num_candidates, -1, self.num_groups, size)
        return split.permute(0, 3, 1, 4, 2, 5).reshape(num_rows * num_heads // self.num_groups, -1, size)

    def unfold(self, x: Tensor, num_rows: int) -> Tensor:
        """The way back: [R * H_kv, J * G * S, K] -> [R * J * S, H * K]."""
        size = x.shape[-1]
        split = x.view(num_rows, len(x) // num_rows, self.num_candidates, self.num_groups, -1, size)
        return split.permute(0, 2, 4, 1, 3, 5).reshape(num_rows * self.num_candidates * split.shape[4], -1)

    def fold_keys(self, k: Tensor) -> Tensor:
        """[R, J * S, H_kv, K] -> [R * H_kv * J, S, K]."""
        num_rows, length, num_kv, size = k.shape
        split = k.view(num_rows, self.num_candidates, length // self.num_candidates, num_kv, size)
        return split.permute(0, 3, 1, 2, 4).reshape(num_rows * num_kv * self.num_candidates, -1, size)

    def unfold_keys(self, k: Tensor, num_rows: int) -> Tensor:
        """The way back: [R * H_kv * J, S, K] -> [R, J * S, H_kv, K]."""
        split = k.view(num_rows, -1, self.num_candidates, k.shape[1], k.shape[2])
        return split.permute(0, 2, 3, 1, 4).reshape(num_rows, self.num_candidates * k.shape[1], -1, k.shape[2])

    def forward(self, q: Tensor, k: Tensor, v: Tensor, contexts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Folded q, k, v and contexts' keys and values [R * H_kv, L, K]: the mix [R * H_kv, J * G * S, K], and the weights."""
        *context_bias, live_bias = self.bias
        scores = [self._scores(q, key, bias) for bias, (key, _) in zip(context_bias, contexts, strict=True)]
        live = self._scores(q.view(len(k), -1, q.shape[2]), k, live_bias)
        scores.append(live.view(*q.shape[:2], -1))
        weights = torch.softmax(scores[0] if len(scores) == 1 else torch.cat(scores, -1), -1)
        *to_contexts, to_live = _split(weights, k, contexts)
        mixed = torch.bmm(to_live.view(len(k), -1, k.shape[1]), v).view_as(q)
        for part, (_, value) in zip(to_contexts, contexts, strict=True):
            mixed.baddbmm_(part, value)
        return mixed, weights

    def backward(
        self,
        grad: Tensor,
        weights: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        contexts: list[tuple[Tensor, Tensor]],
        learns: bool,
    ) -> tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Gradients of q, k, v, and of the contexts' keys and values where they learn."""
        *to_contexts, to_live = _split(weights, k, contexts)
        live_grad = grad.view(len(k), -1, grad.shape[2])
        to_live = to_live.view(len(k), -1, k.shape[1])
        grad_v = torch.bmm(to_live.transpose(1, 2), live_grad)
        towards = [torch.bmm(grad, value.transpose(1, 2)) for _, value in contexts]
        towards.append(torch.bmm(live_grad, v.transpose(1, 2)).view(*weights.shape[:2], -1))
        d_weights = towards[0] if len(towards) == 1 else torch.cat(towards, -1)
        d_scores = d_weights.sub_(torch.linalg.vecdot(d_weights, weights).unsqueeze(-1)).mul_(weights)
        *d_contexts, d_live = _split(d_scores, k, contexts)
        d_live = d_live.view(len(k), -1, k.shape[1])
        grad_k = torch.bmm(d_live.transpose(1, 2), q.view(len(k), -1, q.shape[2])).mul_(self.scale)
        grad_q = torch.bmm(d_live, k).view_as(q)
        for part, (key, _) in zip(d_contexts, contexts, strict=True):
            grad_q.baddbmm_(part, key)
        learned = []
        if learns:
            learned = [
                (torch.bmm(d.transpose(1, 2), q).mul_(self.scale), torch.bmm(w.transpose(1, 2), grad))
                for d, w in zip(d_contexts, to_contexts, strict=True)
            ]
        return grad_q.mul_(self.scale), grad_k, grad_v, learned

    def _scores(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        if bias is None:
            return torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=self.scale)
        return torch.baddbmm(bias, q, k.transpose(1, 2), alpha=self.scale)


def _split(weights: Tensor, k: Tensor, contexts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
    """The parts of the last axis that belong to each context and to the live keys."""
    if not contexts:
        return (weights,)
    parts = torch.split(weights, [*(key.shape[1] for key, _ in contexts), k.shape[1]], -1)
    return (*parts[:-1], parts[-1].contiguous())
