"""What Prefix Tuning and P-Tuning v2 share: learned keys and values in every layer, and where they start.

In: the sizes of a model's attention stacks. Out: one `Prefix` for each stack. Numbers are learned in units of the layer's own
keys and values (root mean square on a real text), so that one initialisation and one learning rate serve all layers and models:
BERT's are about 1, Gemma's keys are normed, some models' values are a hundredth of that. Files hold the products.
Zero keys and values are not neutral, since softmax gives each learned token its share of attention; an exact start from the
model as it is needs `gate: true` (Zhang et al. 2023, LLaMA-Adapter), and a start from real words needs `init: text`, which
equals those words standing in front of the text.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field as Key
from pydantic import model_validator
from torch import Tensor, nn

from ptune.inputs import Encoded, Place, Prefix, PromptState, StackSpec
from ptune.prompt.method import MethodConfig, PromptMethod, PromptSetup

__all__ = ["DeepConfig", "DeepPrompt", "deep_from", "start_of"]

_SPREAD = 0.02
_LOCK = 1e-12


class DeepConfig(MethodConfig):
    """Settings of the methods whose parameters are keys and values.

    Args:
        num_tokens: P, learned tokens of each layer.
        init: `random` (N(0, 0.02) in units of the layer's own keys and values), `text` (those of `init_text`), or `bundle`.
        init_text: words whose keys and values training starts from, repeated up to P tokens.
        init_bundle: path of a bundle of the same method on the same backbone (another task's prompt).
        dropout: share of the learned numbers that a training step leaves out.
        gate: learn how much each head looks at the learned tokens, from an exact 0 on; they take up no positions then.
        placement: `front` (all tokens see them) or `behind` the text (causal models: only the tokens that follow the last field
            see them, so that the text's own keys and values can be kept).
        places: the attention stacks that learn: `text`, and of an encoder-decoder `decoder` and `cross`; None for all.
        moves_text: the text's positions begin behind the learned tokens; false lets them begin at 0, as ChatGLM's do.
    """

    num_tokens: int = Key(default=20, ge=1, le=1000)
    init: Literal["random", "text", "bundle"] | None = None
    init_text: str | None = None
    init_bundle: str | None = None
    dropout: float = Key(default=0.0, ge=0, lt=1)
    gate: bool = False
    placement: Literal["front", "behind"] = "front"
    places: tuple[Place, ...] | None = None
    moves_text: bool = True

    @model_validator(mode="after")
    def _one_source(self) -> "DeepConfig":
        if self.init == "text" and not self.init_text:
            raise ValueError("init: text needs init_text")
        if self.init == "bundle" and not self.init_bundle:
            raise ValueError("init: bundle needs init_bundle")
        if self.places is not None and not self.places:
            raise ValueError("places is empty; leave it out for all attention stacks")
        return self

    @property
    def num_positions(self) -> int:
        """Positions in front of the text that the learned tokens take up, where the model numbers them."""
        return self.num_tokens if self.moves_text and not self.gate else 0

    @property
    def kind(self) -> Literal["random", "text", "bundle"]:
        """The choice made, or the one that the other keys imply."""
        return self.init or ("text" if self.init_text else "bundle" if self.init_bundle else "random")


class DeepPrompt(PromptMethod):
    """Keys and values of each stack: `unit * numbers`, with dropout and gates.

    Args:
        config: of the method.
        setup: with the stacks that learn and what they start from.
    """

    def __init__(self, config: DeepConfig, setup: PromptSetup) -> None:
        super().__init__()
        self.num_tokens, self.dropout = config.num_tokens, config.dropout
        self._num_positions = config.num_positions if setup.spec.numbers_positions else 0
        self.places: tuple[Place, ...] = tuple(setup.stacks)
        for place, stack in setup.stacks.items():
            self.register_buffer(f"unit_{place}", unit_of(stack).to(setup.start.dtype), persistent=False)
        gates = {place: torch.zeros(stack.num_layers, stack.num_heads) for place, stack in setup.stacks.items()}
        self.gates = nn.ParameterDict(
            {place: nn.Parameter(gate.to(setup.start.dtype)) for place, gate in gates.items()} if config.gate else {}
        )

    def state(self, numbers: Mapping[Place, Float[Tensor, "2 _ _ _ _"]]) -> PromptState:
        """The prefixes of learned numbers, in units of the layer's own keys and values."""
        prefixes: dict[Place, Prefix] = {}
        for place in self.places:
            both = self.unit(place) * numbers[place]
            if self.dropout and self.training and torch.is_grad_enabled():
                both = nn.functional.dropout(both, self.dropout)
            prefixes[place] = Prefix.of(both, self.gates.get(place))
        return PromptState(prefixes=prefixes, num_positions=self._num_positions)

    def unit(self, place: Place) -> Float[Tensor, "2 N 1 1 1"]:
        """Size of a real text's keys and values in each layer."""
        unit = getattr(self, f"unit_{place}")
        assert isinstance(unit, Tensor)
        return unit


def unit_of(stack: StackSpec) -> Float[Tensor, "2 N 1 1 1"]:
    """A stack's unit: the root mean square of keys and of values in each layer."""
    return torch.tensor([stack.key_rms, stack.value_rms]).clamp(min=_LOCK)[:, :, None, None, None]


def start_of(setup: PromptSetup, num_tokens: int) -> dict[Place, Float[Tensor, "2 _ _ _ _"]]:
    """The numbers that training starts from: given keys and values over the unit, else N(0, 0.02)."""
    generator = torch.Generator().manual_seed(setup.seed)
    numbers: dict[Place, Tensor] = {}
    for place, stack in setup.stacks.items():
        shape = (2, stack.num_layers, stack.num_heads, num_tokens, stack.head_size)
        if place in setup.deep_start:
            numbers[place] = (setup.deep_start[place].to(setup.start.dtype) / unit_of(stack).to(setup.start.dtype)).clone()
        else:
            numbers[place] = (torch.randn(shape, generator=generator) * _SPREAD).to(setup.start.dtype)
    return numbers


def deep_from(config: DeepConfig, encoded: Encoded) -> int | None:
    """Behind the text: the token after the last one of a field, or the one that is read if that comes first."""
    if config.placement == "front":
        return None
    behind = 1 + max((at for at, owner in enumerate(encoded.owner) if owner not in ("", "soft", "special")), default=-1)
    last_read = len(encoded) - 1 if encoded.slot is None else encoded.slot - 1
    return max(0, min(behind, last_read))
