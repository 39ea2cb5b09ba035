"""A frozen Llama-kind layer as one step of autograd: its forward and its gradient written out.

In: a transformers decoder layer made of RMS norms, rotary grouped-query attention and a gated MLP (Llama, SmolLM2, Mistral,
Qwen2, Qwen3, Gemma 3), recognised by its parts. Out: the same layer, which takes the short way whenever a call brings an
`AttentionPlan`. Weights are read, never copied or trained. The backbone compares value and gradient with the model's own on a
few tokens before it relies on this, and leaves any layer that differs as it was. fp32 and fp64 only: in bf16 the models norm
in fp32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptune.backbone.fused_parts import Attention, Gate, Norm, rotate
from ptune.backbone.plan import AttentionPlan
from ptune.backbone.products import linear, linear_back

__all__ = ["FusedLayer", "fuse", "unfuse"]

_HARMLESS = frozenset({"attention_mask", "position_ids", "past_key_values", "use_cache", "position_embeddings", "ptune_plan"})


@dataclass(frozen=True)
class FusedLayer:
    """A layer's parts.

    Args:
        layer: the transformers module, whose weights are read at each call.
        index: its number.
        before, after: norms in front of attention and MLP; behind each (Gemma) or None.
        q_norm, k_norm: norms of each head's queries and keys, or None.
        gate: of the MLP.
        scale: of attention scores.
        window: of sliding attention, or None.
    """

    layer: Any
    index: int
    before: tuple[Norm, Norm]
    after: tuple[Norm, Norm] | None
    q_norm: Norm | None
    k_norm: Norm | None
    gate: Gate
    scale: float
    window: int | None

    def __call__(self, hidden: Tensor, plan: AttentionPlan, cos: Tensor, sin: Tensor) -> Tensor:
        """[R, J * S, D] -> the same; zeros but for the needed tokens if this is the last layer of a plan that names some."""
        learned = [part for one in plan.contexts if one.learns for part in one.layer(self.index)]
        out, *kept = _Step.apply(hidden, self, plan, cos, sin, *learned)  # type: ignore[no-untyped-call]
        if plan.keep is not None:
            plan.keep[self.index] = (kept[0], kept[1])
        return out  # type: ignore[no-any-return]


def fuse(layer: nn.Module, *, is_last: bool) -> bool:
    """Gives a layer the short way; False where its parts are not those of the family.

    Args:
        layer: a decoder layer.
        is_last: whether only its needed tokens are wanted.
    """
    fused = _recognise(layer)
    if fused is None:
        return False
    layer.forward = _ShortForward(fused, layer.forward, is_last)
    return True


@dataclass(frozen=True)
class _ShortForward:
    """A layer's forward: the short way where a call brings a plan, else the model's own. Copied with its layer.

    Args:
        fused: the layer's parts.
        original: the model's own forward.
        is_last: whether only the needed tokens are wanted.
    """

    fused: FusedLayer
    original: Callable[..., Any]
    is_last: bool

    def __call__(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        plan = kwargs.get("ptune_plan")
        if (
            not isinstance(plan, AttentionPlan)
            or plan.has_gates
            or torch.is_autocast_enabled(hidden.device.type)
            or args
            or any(kwargs[name] is not None for name in kwargs if name not in _HARMLESS)
        ):
            return self.original(hidden, *args, **kwargs)
        layer = self.fused.layer
        if layer.training or layer.self_attn.q_proj.weight.requires_grad:  # recomputed, or trained
            return self.original(hidden, *args, **kwargs)
        return self.fused(hidden, plan if self.is_last else plan.whole(), *kwargs["position_embeddings"])


def unfuse(layer: nn.Module) -> None:
    """Takes the short way back, if there is one."""
    if isinstance(layer.__dict__.get("forward"), _ShortForward):
        del layer.__dict__["forward"]


def _recognise(layer: Any) -> FusedLayer | None:
    names = {name for name, _ in layer.named_children()}
    sandwich = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
    if names not in (base := {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}, base | sandwich):
        return None
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    parts = {name for name, _ in attention.named_children()}
    if not {"q_proj", "k_proj", "v_proj", "o_proj"} <= parts <= {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}:
        return None
    if {name for name, _ in mlp.named_children()} != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return None
    linears = [
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        mlp.gate_proj,
        mlp.up_proj,
        mlp.down_proj,
    ]
    if any(type(one) is not nn.Linear for one in linears) or getattr(attention, "attn_logit_softcapping", None) is not None:
        return None
    activation = type(mlp.act_fn).__name__
    if activation not in ("SiLUActivation", "SiLU", "GELUTanh"):
        return None
    if getattr(attention.config, "sliding_window", None) is not None and not hasattr(attention, "sliding_window"):
        return None  # a window that is handed over at each call
    has_sandwich = sandwich <= names
    norm = {name: Norm.of(getattr(layer, name)) for name in names if name.endswith("norm")}
    return FusedLayer(
        layer=layer,
        index=int(attention.layer_idx),
        before=(norm["input_layernorm"], norm["pre_feedforward_layernorm" if has_sandwich else "post_attention_layernorm"]),
        after=(norm["post_attention_layernorm"], norm["post_feedforward_layernorm"]) if has_sandwich else None,
        q_norm=Norm.of(attention.q_norm) if "q_norm" in parts else None,
        k_norm=Norm.of(attention.k_norm) if "k_norm" in parts else None,
        gate=Gate(is_gelu=activation == "GELUTanh"),
        scale=float(attention.scaling),
        window=getattr(attention, "sliding_window", None),
    )


class _Step(torch.autograd.Function):
    """One layer. Saved for the gradient: its input, norms' factors, q, k, v, weights, the MLP's two halves."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, fused: FusedLayer, plan: AttentionPlan, cos: Tensor, sin: Tensor, *learned: Tensor
    ) -> tuple[Tensor, ...]:
        run = _Run(fused, plan, hidden.shape, cos, sin, learned)
        ctx.set_materialize_grads(False)
        out = run.forward(hidden, is_saving=any(ctx.needs_input_grad))
        ctx.save_for_backward(*run.hand_over())
        ctx.run = run
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *of_kept: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        wanted = {"needs_hidden": needs[0], "needs_contexts": any(needs[5:])}
        of_hidden, learned = ctx.run.backward(ctx.saved_tensors, grad, of_kept, **wanted)
        return (of_hidden, None, None, None, None, *learned)


class _Run:
    """One call of one layer: what forward leaves for backward."""

    def __init__(
        self,
        fused: FusedLayer,
        plan: AttentionPlan,
        shape: torch.Size,
        cos: Tensor,
        sin: Tensor,
        learned: tuple[Tensor, ...],
    ) -> None:
        self.fused, self.plan, self.shape = fused, plan, shape
        half = cos.shape[-1] // 2
        self.cos, self.sin = cos[..., None, :half], sin[..., None, :half]
        self.places = plan.places(shape[1])
        self.learned = learned
        self.learned_shapes: list[torch.Size] = []
        self.look: Attention | None = None
        self.saved: tuple[Any, ...] = ()

    def forward(self, hidden: Tensor, *, is_saving: bool) -> tuple[Tensor, ...]:
        """The layer's output; where the plan keeps them, its live keys and values [R, H_kv, J * S, K] too."""
        fused, (num_rows, length, width) = self.fused, self.shape
        attention, has_few_shapes = fused.layer.self_attn, is_saving or self.plan.keep is not None
        x = hidden.reshape(-1, width)
        n, r1 = fused.before[0].forward(x)
        k0 = _through(attention.k_proj, n, has_few_shapes).view(num_rows, length, -1, self.head_size)
        v = _through(attention.v_proj, n, has_few_shapes).view_as(k0)
        k, r_k = self._normed(fused.k_norm, k0)
        k = rotate(k, self.cos, self.sin)
        kept = () if self.plan.keep is None else (k.transpose(1, 2), v.transpose(1, 2))
        x_q, n_q = self._narrow(x), self._narrow(n)
        q0 = _through(attention.q_proj, n_q, has_few_shapes)
        q0 = q0.view(num_rows, -1, q0.shape[1] // self.head_size, self.head_size)
        q, r_q = self._normed(fused.q_norm, q0)
        q = rotate(q, self._narrow_rows(self.cos), self._narrow_rows(self.sin))
        look = self._look(q.shape[2] // k.shape[2], k.shape[2])
        q, k, v = look.fold(q), look.fold_keys(k), look.fold_keys(v)
        contexts = self._contexts(len(k) // look.num_candidates)
        mixed, weights = look.forward(q, k, v, contexts)
        o = _through(attention.o_proj, look.unfold(mixed, num_rows), has_few_shapes)
        x2, r_o = self._added(0, o, x_q)
        n2, r2 = fused.before[1].forward(x2)
        mlp = fused.layer.mlp
        g, u = _through(mlp.gate_proj, n2, has_few_shapes), _through(mlp.up_proj, n2, has_few_shapes)
        m = _through(mlp.down_proj, fused.gate.forward(g, u), has_few_shapes)
        y, r_m = self._added(1, m, x2)
        if is_saving:
            o_kept, m_kept = (None, None) if fused.after is None else (o, m)
            self.saved = (x, r1, k0, r_k, q0, r_q, q, k, v, weights, o_kept, r_o, x2, r2, g, u, m_kept, r_m, look, contexts)
        if self.places is None:
            return (y.view(self.shape), *kept)
        return (hidden.new_zeros(self.shape).scatter_(1, self._index(width), y.view(num_rows, -1, width)), *kept)

    def hand_over(self) -> list[Tensor | None]:
        """What backward needs, for autograd to hold and to drop once it was used; nothing of it stays here."""
        self.learned_shapes = [part.shape for part in self.learned]
        self.learned = ()
        if not self.saved:
            return []
        *tensors, self.look, contexts = self.saved
        self.saved = ()
        return [*tensors, *(part for pair in contexts for part in pair)]

    def backward(
        self,
        saved: Sequence[Any],
        grad: Tensor | None,
        of_kept: Sequence[Tensor | None],
        *,
        needs_hidden: bool,
        needs_contexts: bool,
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of input and learned contexts, from those of the output (None: nobody read it) and of what is kept."""
        fused, num_rows, width = self.fused, self.shape[0], self.shape[2]
        attention, mlp = fused.layer.self_attn, fused.layer.mlp
        x, r1, k0, r_k, q0, r_q, q, k, v, weights, o, r_o, x2, r2, g, u, m, r_m, *parts = saved
        look, contexts = self.look, list(zip(parts[::2], parts[1::2], strict=True))
        assert look is not None
        grad = x.new_zeros(self.shape) if grad is None else grad
        dy = grad.reshape(-1, width) if self.places is None else grad.gather(1, self._index(width)).view(-1, width)
        dm = dy if fused.after is None else fused.after[1].backward(dy, m, r_m)
        dg, du = fused.gate.backward(_back(mlp.down_proj, dm), g, u)
        dn2 = _back(mlp.gate_proj, dg).add_(_back(mlp.up_proj, du))
        dx2 = fused.before[1].backward(dn2, x2, r2, onto=dy)
        do = dx2 if fused.after is None else fused.after[0].backward(dx2, o, r_o)
        dmixed = look.fold(_back(attention.o_proj, do).view(num_rows, -1, q0.shape[2], self.head_size))
        dq, dk, dv, learned = look.backward(dmixed, weights, q, k, v, contexts, needs_contexts)
        d_learned: list[Tensor | None] = [None] * len(self.learned_shapes)
        if needs_contexts:
            d_learned = self._of_contexts(learned)
        if not needs_hidden:
            return None, d_learned
        cos, sin = self._narrow_rows(self.cos), self._narrow_rows(self.sin)
        dq = rotate(look.unfold(dq, num_rows).view_as(q0), cos, sin, back=True)
        dk, dv = look.unfold_keys(dk, num_rows), look.unfold_keys(dv, num_rows)
        dk, dv = (
            own if more is None else own + more.transpose(1, 2)
            for own, more in zip((dk, dv), of_kept or (None, None), strict=True)
        )
        dk = rotate(dk, self.cos, self.sin, back=True)
        if fused.q_norm is not None and fused.k_norm is not None:
            dq, dk = fused.q_norm.backward(dq, q0, r_q), fused.k_norm.backward(dk, k0, r_k)
        dn = _back(attention.k_proj, dk.reshape(len(x), -1)).add_(_back(attention.v_proj, dv.reshape(len(x), -1)))
        if self.places is None:
            dn.add_(_back(attention.q_proj, dq.reshape(len(x), -1)))
            return fused.before[0].backward(dn, x, r1, onto=dx2).view(self.shape), d_learned
        index, dn_q = self._index(width), _back(attention.q_proj, dq.reshape(len(dx2), -1))
        dn = dn.view(self.shape).scatter_add_(1, index, dn_q.view(num_rows, -1, width))
        dx = fused.before[0].backward(dn.view(-1, width), x, r1).view(self.shape)
        return dx.scatter_add_(1, index, dx2.view(num_rows, -1, width)), d_learned

    @property
    def head_size(self) -> int:
        return int(self.fused.layer.self_attn.head_dim)

    def _look(self, num_groups: int, num_kv: int) -> Attention:
        bias = self.plan.folded_bias(self.fused.window, num_groups, num_kv, self.cos.dtype, is_narrow=self.places is not None)
        return Attention(self.plan.num_candidates, num_groups, self.fused.scale, bias)

    def _contexts(self, num_keys: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [R * H_kv, L, K] of each context; one that all rows share is spread over them."""
        learned = iter(zip(self.learned[::2], self.learned[1::2], strict=True))
        pairs = [next(learned) if one.learns else one.layer(self.fused.index) for one in self.plan.contexts]

        def spread(one: Tensor) -> Tensor:
            return one.expand(self.shape[0], *one.shape[1:]).reshape(num_keys, *one.shape[2:])

        return [(spread(keys), spread(values)) for keys, values in pairs]

    def _of_contexts(self, learned: list[tuple[Tensor, Tensor]]) -> list[Tensor | None]:
        flat = [part for pair, one in zip(learned, self.plan.contexts, strict=True) if one.learns for part in pair]
        out: list[Tensor | None] = []
        for grad, shape in zip(flat, self.learned_shapes, strict=True):
            whole = grad.view(self.shape[0], *shape[1:])
            out.append(whole.sum(0, keepdim=True) if shape[0] == 1 else whole)
        return out

    def _added(self, which: int, branch: Tensor, onto: Tensor) -> tuple[Tensor, Tensor | None]:
        """The residual sum; where the model norms the branch first (Gemma), with that norm's factor."""
        if self.fused.after is None:
            return branch.add_(onto), None
        normed, r = self.fused.after[which].forward(branch)
        return normed.add_(onto), r

    @staticmethod
    def _normed(norm: Norm | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return (x, None) if norm is None else norm.forward(x)

    def _index(self, width: int) -> Tensor:
        assert self.places is not None
        return self.places[:, :, None].expand(-1, -1, width)

    def _narrow(self, x: Tensor) -> Tensor:
        if self.places is None:
            return x
        return x.view(self.shape).gather(1, self._index(self.shape[2])).view(-1, self.shape[2])

    def _narrow_rows(self, per_token: Tensor) -> Tensor:
        """[R or 1, S, 1, K / 2] at the needed tokens."""
        if self.places is None:
            return per_token
        whole = per_token.expand(self.shape[0], -1, -1, -1)
        index = self.places[:, :, None, None].expand(-1, -1, 1, whole.shape[3])
        return whole.gather(1, index)


def _through(layer: nn.Linear, x: Tensor, has_few_shapes: bool) -> Tensor:
    """[M, K] -> [M, N]; in a server, lengths come as they like, and a kernel for each would not pay."""
    return linear(x, layer.weight, layer.bias) if has_few_shapes else nn.functional.linear(x, layer.weight, layer.bias)


def _back(layer: nn.Linear, grad: Tensor) -> Tensor:
    """[M, N] -> [M, K]."""
    return linear_back(grad, layer.weight)
