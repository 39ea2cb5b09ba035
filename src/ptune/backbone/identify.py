"""What a Hugging Face model is: its kind, its content as a fingerprint, its sizes, and how it numbers positions."""

import hashlib
from typing import Any

import torch

from ptune.errors import BackboneError
from ptune.inputs import BackboneKind, BackboneSpec

__all__ = ["can_set_attention", "fingerprint", "kind_of", "position_offset", "sizes"]

_NUM_EMBEDDINGS_MEASURED = 4096


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


def sizes(model: Any, *, name: str, kind: BackboneKind, has_language_head: bool, numbers_positions: bool) -> BackboneSpec:
    """Read off its config and embeddings, of which some are embedded to measure how large they are.

    Args:
        model: whose.
        name, kind, has_language_head, numbers_positions: see `BackboneSpec`.
    """
    config = model.config.get_text_config()
    table = model.get_input_embeddings()
    vocab_size = table.weight.shape[0]
    ids = torch.linspace(0, vocab_size - 1, min(_NUM_EMBEDDINGS_MEASURED, vocab_size)).long()
    with torch.no_grad():
        rms = table(ids.to(table.weight.device)).float().square().mean().sqrt().item()
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if config.model_type in ("t5", "mt5", "umt5", "longt5"):
        positions = None
    return BackboneSpec(
        name=name,
        kind=kind,
        architecture=config.model_type,
        width=config.hidden_size,
        embedding_size=table.weight.shape[1],
        num_layers=config.num_hidden_layers,
        vocab_size=vocab_size,
        max_positions=None if positions is None else int(positions) - position_offset(model),
        embedding_rms=rms,
        has_language_head=has_language_head,
        numbers_positions=numbers_positions,
    )
