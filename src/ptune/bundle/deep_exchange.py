"""Learned keys and values between ptune and PEFT: which layer's they are, and where the two compute differently.

In: a task's `PromptState`, or an adapter of keys and values. Out: the other. PEFT has one list of pairs. Layer i of an
encoder-decoder's decoder gets pair (2 * i) mod N (N: encoder layers), so that an even N leaves half of the list unused and
gives two layers one pair: such prompts can be read, not written.
"""

import inspect

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone
from ptune.bundle.lost_in_export import Loss, base_name
from ptune.bundle.peft_format import PeftAdapter, decoder_pairs, flat_of_pairs, pairs_of_flat
from ptune.errors import BundleError
from ptune.inputs import Place, PromptState
from ptune.model import TaskModel
from ptune.prompt import DeepConfig

__all__ = ["TASK_TYPES", "deep_adapter", "deep_differences", "deep_of_flat"]

TASK_TYPES = {"decoder": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION", "encoder-decoder": "SEQ_2_SEQ_LM"}


def deep_adapter(model: TaskModel, state: PromptState) -> tuple[PeftAdapter, list[Loss]]:
    """A task's keys and values as PEFT keeps them, and what it does not keep or computes differently.

    Raises:
        BundleError: two layers of a decoder would get the same keys and values.
    """
    backbone = model.backbone
    place: Place = "decoder" if backbone.kind == "encoder-decoder" else "text"
    losses = [*_method_losses(model, state, place), *deep_differences(backbone)]
    if "past_key_values" not in inspect.signature(type(backbone.model.base_model).forward).parameters:
        losses.append(Loss(f"keys and values for {backbone.spec.architecture}, which PEFT refuses", True))
    if place not in state.prefixes:
        raise BundleError("PEFT puts keys and values into the decoder alone, and this task learns none there", where="export")
    pairs = state.prefixes[place].stacked()
    if backbone.kind == "encoder-decoder":
        pairs = _spread(pairs, backbone)
    _, num_layers, num_heads, num_tokens, head_size = pairs.shape
    width = num_heads * head_size
    config = {
        "base_model_name_or_path": base_name(model),
        "encoder_hidden_size": width,
        "num_attention_heads": num_heads,
        "num_layers": num_layers,
        "num_transformer_submodules": 2 if backbone.kind == "encoder-decoder" else 1,
        "token_dim": width,
    }
    tensors = {"prompt_embeddings": flat_of_pairs(pairs)}
    return PeftAdapter("PREFIX_TUNING", TASK_TYPES[backbone.kind], num_tokens, tensors, config), losses


def deep_of_flat(flat: Float[Tensor, "P W"], backbone: Backbone, *, where: str) -> dict[Place, Float[Tensor, "2 N H P K"]]:
    """The keys and values of each attention stack that a row per virtual token stands for on this backbone.

    Raises:
        BundleError: other sizes than the backbone's, or decoder layers that PEFT leaves without.
    """
    text = backbone.stacks["text"].spec
    if backbone.kind != "encoder-decoder":
        return {"text": pairs_of_flat(flat, text.num_layers, text.num_heads, text.head_size, where=where)}
    decoder = backbone.stacks["decoder"].spec
    pairs = pairs_of_flat(flat, text.num_layers, decoder.num_heads, decoder.head_size, where=where)
    chosen = decoder_pairs(text.num_layers, decoder.num_layers)
    if len(chosen) < decoder.num_layers:
        what = f"PEFT gives {len(chosen)} of the decoder's {decoder.num_layers} layers keys and values, ptune all or none"
        raise BundleError(what, where=where)
    return {"decoder": pairs[:, torch.tensor(chosen)].contiguous()}


def deep_differences(backbone: Backbone) -> list[Loss]:
    """Where PEFT computes something else from the same keys and values."""
    config = backbone.model.config.get_text_config()
    if backbone.kind == "encoder-decoder":
        what = "relative positions" if not hasattr(config, "max_position_embeddings") else "places for learned tokens"
        return [Loss(f"a decoder whose learned tokens take no {what}: PEFT counts them in", True)]
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        window = getattr(config, "sliding_window", None)
        return [Loss(f"sight of the learned tokens in every window: PEFT's leave the sliding layers' {window} tokens")]
    return []


def _method_losses(model: TaskModel, state: PromptState, place: Place) -> list[Loss]:
    losses = []
    method = model.method
    more = [other for other in state.prefixes if other != place]
    if more:
        losses.append(Loss(f"the keys and values of {' and '.join(more)} attention", True))
    if isinstance(method, DeepConfig) and method.gate:
        losses.append(Loss("the gates", True))
    if isinstance(method, DeepConfig) and not method.moves_text:
        losses.append(Loss("positions of the text that begin at 0", True))
    if isinstance(method, DeepConfig) and method.placement == "behind":
        losses.append(Loss("a place behind the text", True))
    return losses


def _spread(pairs: Float[Tensor, "2 N H P K"], backbone: Backbone) -> Float[Tensor, "2 M H P K"]:
    """A decoder's pairs at the places of the list that PEFT reads for its layers."""
    num_pairs, num_layers = backbone.stacks["text"].spec.num_layers, pairs.shape[1]
    places = decoder_pairs(num_pairs, num_layers)
    if len(set(places)) < num_layers:
        raise BundleError(
            f"with {num_pairs} encoder layers, PEFT gives the decoder's layers only {len(set(places))} different keys and "
            f"values, and this task has {num_layers}",
            where="export",
            fix="export a prompt-tuning task, or keep it as a bundle",
        )
    spread = pairs.new_zeros(2, num_pairs, *pairs.shape[2:])
    spread[:, torch.tensor(places)] = pairs
    return spread
