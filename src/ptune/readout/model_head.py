"""The head that transformers' own classification models have, so that it can be handed to and fro.

Parameters: D * C (+ C), and with a dense layer D * D + D. An encoder's [CLS] goes through a dense layer and an activation
(BERT's pooler; RoBERTa's and ELECTRA's classifier), a causal model's last token straight to the classes. Unlike `LinearHead`
it does not bring its input to unit scale first.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptune.errors import BackboneError
from ptune.readout.head import LinearHead
from ptune.readout.label_head import LabelHead

__all__ = ["TOKEN_FORM", "HeadForm", "ModelHead", "build_head", "form_of", "form_settings", "kept_form"]

Activation = Literal["tanh", "gelu"]


@dataclass(frozen=True)
class HeadForm:
    """What such a head is made of.

    Args:
        activation: behind the dense layer; None where there is no such layer.
        bias: whether classes have one.
    """

    activation: Activation | None
    bias: bool


_OF_ENCODERS: Mapping[str, HeadForm] = {
    "bert": HeadForm("tanh", bias=True),
    "roberta": HeadForm("tanh", bias=True),
    "xlm-roberta": HeadForm("tanh", bias=True),
    "camembert": HeadForm("tanh", bias=True),
    "electra": HeadForm("gelu", bias=True),
}
_OF_DECODERS = HeadForm(None, bias=False)

TOKEN_FORM = HeadForm(None, bias=True)
"""Of a head that scores each token: tags, or the two ends of an answer."""


def form_of(architecture: str, *, is_decoder: bool) -> HeadForm:
    """The form for a backbone.

    Args:
        architecture: transformers' `model_type`.
        is_decoder: whether it is a causal model.

    Raises:
        BackboneError: its own head is of a form that ptune does not know.
    """
    if is_decoder:
        return _OF_DECODERS
    if architecture not in _OF_ENCODERS:
        raise BackboneError(
            f"ptune does not know the classification head of {architecture}",
            where="head",
            fix=f"use a causal model, or one of {', '.join(_OF_ENCODERS)}",
        )
    return _OF_ENCODERS[architecture]


class ModelHead(nn.Module):
    """Class scores from pooled hidden states.

    Args:
        width: D.
        num_classes: C.
        form: which layers there are.
        seed: of the initial weights, N(0, 0.02).
        dtype: number type (fp32 but for gradient checks).
    """

    learning_rate = 1e-3
    """Default of AdamW: less than a linear head's, since states are not brought to unit scale first."""

    def __init__(self, width: int, num_classes: int, form: HeadForm, *, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.form = form
        self.dense = None if form.activation is None else nn.Linear(width, width, dtype=dtype)
        self.linear = nn.Linear(width, num_classes, bias=form.bias, dtype=dtype)
        with torch.no_grad():
            for layer in filter(None, (self.dense, self.linear)):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.02)
                if layer.bias is not None:
                    layer.bias.zero_()

    def forward(self, hidden: Float[Tensor, "B S D"], pool: Float[Tensor, "B S"]) -> Float[Tensor, "B C"]:
        """Pools with weights that sum to one, and scores the classes."""
        weights = pool.to(hidden.device, self.linear.weight.dtype)[:, :, None]
        return self.score((weights * hidden.to(self.linear.weight.dtype)).sum(1))

    def score(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """The dense layer if there is one, and the classes."""
        states = pooled.to(self.linear.weight.dtype)
        if self.dense is not None:
            activate: Callable[[Tensor], Tensor] = torch.tanh if self.form.activation == "tanh" else nn.functional.gelu
            states = activate(self.dense(states))
        scores: Tensor = self.linear(states)
        return scores


def build_head(
    width: int, num_classes: int, form: HeadForm | None, *, seed: int, dtype: torch.dtype = torch.float32
) -> LinearHead | ModelHead:
    """A head of that form, or a linear one."""
    if form is None:
        return LinearHead(width, num_classes, seed=seed, dtype=dtype)
    return ModelHead(width, num_classes, form, seed=seed, dtype=dtype)


def form_settings(head: nn.Module | None) -> dict[str, Any]:
    """What a bundle's card keeps of a head beside its weights; nothing of a linear one."""
    if isinstance(head, LabelHead):
        return {"label_head": head.name}
    return {"form": asdict(head.form)} if isinstance(head, ModelHead) else {}


def kept_form(settings: Mapping[str, Any]) -> HeadForm | None:
    """The reverse of `form_settings`; label heads are known by their name alone."""
    kept = settings.get("form")
    return None if kept is None else HeadForm(kept["activation"], kept["bias"])
