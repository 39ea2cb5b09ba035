"""The frozen model: load it, embed, run live tokens with a context, score words.

The catalogue is at hand at once; what needs torch is looked up when first used, so that `ptune models list` loads none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ptune.backbone.catalogue import ModelEntry, cache_dir, catalogue, entry, local_folder

if TYPE_CHECKING:
    from ptune.backbone.backbone import Backbone
    from ptune.backbone.kept import ContextType, KeptContexts, LeadContexts, context_bytes
    from ptune.backbone.load import BackboneLike, DType, load_backbone, save_backbone
    from ptune.backbone.output_layer import OutputLayer
    from ptune.backbone.shared import SharedContexts, sharing_contexts
    from ptune.backbone.stacks import Stack, text_keys_and_values

_FILE_OF = {
    "Backbone": "backbone",
    "BackboneLike": "load",
    "DType": "load",
    "ContextType": "kept",
    "KeptContexts": "kept",
    "LeadContexts": "kept",
    "context_bytes": "kept",
    "load_backbone": "load",
    "save_backbone": "load",
    "OutputLayer": "output_layer",
    "SharedContexts": "shared",
    "sharing_contexts": "shared",
    "Stack": "stacks",
    "text_keys_and_values": "stacks",
}

__all__ = [
    "Backbone",
    "BackboneLike",
    "ContextType",
    "DType",
    "KeptContexts",
    "LeadContexts",
    "ModelEntry",
    "OutputLayer",
    "SharedContexts",
    "Stack",
    "cache_dir",
    "catalogue",
    "context_bytes",
    "entry",
    "load_backbone",
    "local_folder",
    "save_backbone",
    "sharing_contexts",
    "text_keys_and_values",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module 'ptune.backbone' has no attribute {name!r}")
    value = getattr(import_module(f"ptune.backbone.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value
