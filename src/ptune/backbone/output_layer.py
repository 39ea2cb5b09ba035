"""From hidden states to word scores, for just the places and words that are asked for.

In: final hidden states [U, D] and, if wanted, token ids. Out: logits [U, W] or [U, V]. A masked model's transform comes first;
T5's tied scale, Granite's and Cohere's factors and Gemma-style soft caps are applied. What an architecture does is found once,
when the model is loaded, and checked against the model's own logits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ptune.backbone.products import linear
from ptune.inputs import BackboneKind

__all__ = ["OutputLayer", "find_output_layer"]

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class OutputLayer:
    """The language-model head in parts.

    Args:
        transform: [U, D] -> [U, E], a masked model's dense layer and norm; the identity elsewhere.
        weight: [V, E].
        bias: [V] or None.
        scale: factor on the hidden states (T5 with tied embeddings: D^-0.5).
        softcap: logits become softcap * tanh(logits / softcap), or None.
    """

    transform: Transform
    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None

    def logits(self, hidden_UD: Tensor, columns: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        """[U, W] for the tokens in `columns`, else [U, V], in fp32 at least.

        Args:
            hidden_UD: final hidden states.
            columns: W token ids.
            weight: a trained output matrix [V, E] to use in place of the model's own.
        """
        weight = self.weight if weight is None else weight
        bias = self.bias
        if columns is not None:
            weight = weight[columns]
            bias = None if bias is None else bias[columns]
        features = self.transform(hidden_UD) * self.scale
        product = linear if torch.is_grad_enabled() else nn.functional.linear
        logits = product(features.to(weight.dtype), weight, bias)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def find_output_layer(model: Any, kind: BackboneKind, hidden_UD: Tensor, own_UV: Tensor) -> OutputLayer | None:
    """The output layer of a Hugging Face model, or None where its parts do not give the model's own logits.

    Args:
        model: a model with output embeddings.
        kind: its kind.
        hidden_UD, own_UV: final hidden states of a few tokens, and the model's logits there.
    """
    layer = _output_layer(model, kind)
    for factor in _factors(model.config.get_text_config()):
        scaled = replace(layer, scale=layer.scale * factor)
        if _agree(scaled.logits(hidden_UD), own_UV):
            return scaled
    return None


def _factors(config: Any) -> list[float]:
    """What logits may be multiplied by; the same key multiplies in one architecture and divides in another."""
    known = [getattr(config, key, None) for key in ("logit_scale", "logits_scaling", "lm_head_multiplier")]
    numbers = [float(value) for value in known if isinstance(value, int | float) and value > 0]
    return [1.0, *numbers, *(1 / value for value in numbers)]


def _agree(mine_UV: Tensor, own_UV: Tensor) -> bool:
    if mine_UV.shape != own_UV.shape:
        return False
    tolerance = 1e-3 if own_UV.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((mine_UV - own_UV).abs().max() <= tolerance * own_UV.abs().max())


def _output_layer(model: Any, kind: BackboneKind) -> OutputLayer:
    decoder = model.get_output_embeddings()
    config = model.config.get_text_config()
    transform = _masked_transform(model, decoder) if kind == "encoder" else _identity
    scale = config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0
    bias = getattr(decoder, "bias", None)
    if bias is None and isinstance(getattr(model, "final_logits_bias", None), Tensor):
        bias = model.final_logits_bias[0]
    return OutputLayer(transform, decoder.weight, bias, scale, getattr(config, "final_logit_softcapping", None))


def _identity(hidden: Tensor) -> Tensor:
    return hidden


def _masked_transform(model: Any, decoder: nn.Module) -> Transform:
    """Everything a masked-LM head does in front of its decoder matrix, as the architecture writes it."""
    layers: list[Any]
    if hasattr(model, "cls"):  # BERT
        return _calls([model.cls.predictions.transform])
    if hasattr(model, "generator_predictions"):  # ELECTRA
        return _calls([model.generator_predictions])
    if hasattr(model, "vocab_transform"):  # DistilBERT
        layers = [model.vocab_transform, model.activation, model.vocab_layer_norm]
    elif hasattr(model, "predictions"):  # ALBERT
        layers = [model.predictions.dense, model.predictions.activation, model.predictions.LayerNorm]
    elif hasattr(model, "head"):  # ModernBERT
        layers = [model.head]
    elif hasattr(model, "lm_head") and hasattr(model.lm_head, "layer_norm"):  # RoBERTa, XLM-R, CamemBERT
        layers = [model.lm_head.dense, nn.functional.gelu, model.lm_head.layer_norm]
    else:
        layers = []
    return _calls(layers)


def _calls(layers: Sequence[Callable[[Tensor], Tensor]]) -> Transform:
    def transform(hidden: Tensor) -> Tensor:
        for layer in layers:
            hidden = layer(hidden)
        return hidden

    return transform
