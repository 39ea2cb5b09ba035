"""A backbone with int8 weights in its layers, for predictions on a CPU.

In: a backbone that has just been loaded in fp32. Out: the same one, whose layers multiply with int8 weights and activations
that are rounded as they come (torch's dynamic quantisation). Embeddings, norms and the output layer stay as they are, and so
does the fingerprint: a bundle fits both. Scores change a little, also with the batch a text is in; `ptune evaluate --int8`
says what that costs. Nothing can be learned on it.
"""

import warnings

import torch

from ptune.backbone.backbone import Backbone
from ptune.errors import BackboneError

__all__ = ["quantise"]


def quantise(backbone: Backbone) -> Backbone:
    """Replaces the linear maps of all layers by int8 ones, in place.

    Raises:
        BackboneError: not on a CPU, or no linear maps to be found.
    """
    if backbone.device.type != "cpu":
        raise BackboneError("int8 weights are for a CPU", where="dtype", fix="use fp32 or bf16, or device: cpu")
    linears = {torch.nn.Linear}
    outputs = {id(backbone.model.get_output_embeddings())}
    num = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch points to a package of its own that it has not replaced yet
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        for layers in [module for module in backbone.model.modules() if isinstance(module, torch.nn.ModuleList)]:
            for layer in layers:
                if type(layer) is torch.nn.Linear or id(layer) in outputs:
                    continue
                num += sum(type(module) is torch.nn.Linear for module in layer.modules())
                torch.ao.quantization.quantize_dynamic(layer, linears, dtype=torch.qint8, inplace=True)  # type: ignore[no-untyped-call]
    if not num:
        raise BackboneError(f"{backbone.spec.name} has no linear maps to quantise", where="dtype", fix="use fp32 or bf16")
    backbone.is_quantised = True
    return backbone
