"""Gradient checkpointing of a frozen model: each layer computed again in the backward pass, to save memory.

transformers ignores checkpointing in eval mode, so the layers' own flags are set (not their children's, where dropout lives),
and the dropout numbers that such a layer itself holds are set to 0. The model's own switch is left alone: it would also ask
for gradients of the embeddings, which nothing here learns.
"""

from functools import partial
from typing import Any

from ptune.errors import BackboneError

__all__ = ["set_checkpointing"]


def set_checkpointing(model: Any, architecture: str, enabled: bool) -> None:
    """Turns it on or off.

    Raises:
        BackboneError: the architecture has no checkpointing layers.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if enabled and not (layers and model.supports_gradient_checkpointing):
        raise BackboneError(f"{architecture} has no gradient checkpointing", fix="set checkpointing: false")
    for layer in layers:
        layer.gradient_checkpointing = layer.training = enabled
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        for name in ("dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
