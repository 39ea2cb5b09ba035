"""A trained prompt as named tensors and back: learned rows, learned keys and values of each attention stack, gates.

`rows` [P, E]; `deep.text` [2, N, H_kv, P, K] (encoder-decoders also `deep.decoder` and `deep.cross`); `gate.text` [N, H_kv].
"""

from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.errors import BundleError
from ptune.inputs import Place, PromptState
from ptune.prompt import StoredPrompt

__all__ = ["deep_tensors", "prompt_tensors", "stored_prompt"]

_PLACES: tuple[Place, ...] = get_args(Place)


def prompt_tensors(state: PromptState) -> dict[str, Tensor]:
    """What a prompt gives the backbone, by name; whatever made it (an MLP, an LSTM) stays in the run folder."""
    tensors = {} if state.rows is None else {"rows": state.rows.detach()}
    for place, prefix in state.prefixes.items():
        tensors[f"deep.{place}"] = prefix.stacked().detach()
        if prefix.gates is not None:
            tensors[f"gate.{place}"] = torch.stack(prefix.gates).detach()
    return tensors


def deep_tensors(tensors: Mapping[str, Tensor]) -> dict[Place, Tensor]:
    """The keys and values among a bundle's tensors."""
    return {place: tensors[f"deep.{place}"] for place in _PLACES if f"deep.{place}" in tensors}


def stored_prompt(tensors: Mapping[str, Tensor], backbone: Backbone, *, moves_text: bool = True) -> StoredPrompt:
    """The prompt that a bundle holds; `moves_text` as in `DeepConfig`.

    Raises:
        BundleError: keys and values that do not fit the model's attention.
    """
    deep = deep_tensors(tensors)
    gates = {place: tensors[f"gate.{place}"] for place in deep if f"gate.{place}" in tensors}
    num_tokens = 0
    for place, both in deep.items():
        stack = backbone.stacks.get(place)
        wanted = None if stack is None else (2, stack.spec.num_layers, stack.spec.num_heads, stack.spec.head_size)
        if both.dim() != 5 or wanted != (*both.shape[:3], both.shape[4]):
            raise BundleError(
                f"the learned keys and values of the {place} stack are {list(both.shape)}, "
                f"{backbone.spec.name} takes {'none' if wanted is None else [*wanted[:3], 'P', wanted[3]]}",
                where="bundle",
            )
        if place in gates and gates[place].shape != both.shape[1:3]:
            raise BundleError(f"the gates of the {place} stack are {list(gates[place].shape)}", where="bundle")
        num_tokens = both.shape[3]
    num_positions = num_tokens if backbone.spec.numbers_positions and moves_text and not gates else 0
    return StoredPrompt(tensors.get("rows"), deep, gates, num_positions=num_positions)
