"""What a Hugging Face model is: its kind, its content as a fingerprint, and how it numbers positions."""

import hashlib
from typing import Any

import torch

from ptune.errors import BackboneError
from ptune.inputs import BackboneKind

__all__ = ["can_set_attention", "fingerprint", "kind_of", "position_offset"]


def kind_of(model: Any) -> BackboneKind:
    """Whether a model is a decoder, an encoder or both, from its class and config.

    Raises:
        BackboneError: none of these.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

    config, name = model.config, type(model).__name__
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return "decoder"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        return "encoder"
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "decoder"
    if type(config) in MODEL_MAPPING:
        return "encoder"
    raise BackboneError(f"{name} is neither a masked, a causal nor an encoder-decoder language model")


def fingerprint(model: Any) -> str:
    """SHA-256 over all weights, rounded to bf16 so that an fp32 and a bf16 load of one model agree."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        rounded = parameter.detach().to(torch.bfloat16).contiguous().cpu()
        digest.update(rounded.view(torch.int16).numpy().data)
    return digest.hexdigest()


def can_set_attention(model: Any) -> bool:
    """Asked first, because transformers only logs a warning where it cannot."""
    return bool(getattr(type(model), "_can_set_attn_implementation", lambda: True)())


def position_offset(model: Any) -> int:
    """RoBERTa and its kin number positions from padding_idx + 1."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0
