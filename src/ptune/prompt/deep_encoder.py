"""The MLP that makes keys and values of all layers from one embedding for each learned token.

In: what training starts from. Out: start + MLP(embedding), in units of the layer's own keys and values. Source: Li & Liang
2021, section 4.3. Deviation: the MLP's output is a change to the start and zero at first, so that a start from the keys and
values of real words (their low-data initialisation) is exact and needs no training of its own; they fit the MLP to them first.
"""

import torch
from torch import Tensor, nn

from ptune.inputs import Place, PromptState
from ptune.prompt.deep import DeepConfig, DeepPrompt, start_of
from ptune.prompt.method import PromptSetup
from ptune.prompt.rate import DEEP_ENCODER_RATE

__all__ = ["HIDDEN_SIZE", "DeepEncoded"]

HIDDEN_SIZE = 512


class DeepEncoded(DeepPrompt):
    """Keys and values by an MLP for each stack; only its output is needed after training.

    Args:
        config: of the method.
        setup: with the stacks that learn and what they start from.
    """

    def __init__(self, config: DeepConfig, setup: PromptSetup) -> None:
        super().__init__(config, setup)
        dtype = setup.start.dtype
        self.inputs, self.mlps = nn.ParameterDict(), nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setup.seed)
            for place, stack in setup.stacks.items():
                width = setup.spec.width
                self.inputs[place] = nn.Parameter(torch.randn(config.num_tokens, width).to(dtype))
                last = nn.Linear(HIDDEN_SIZE, stack.width, dtype=dtype)
                self.mlps[place] = nn.Sequential(nn.Linear(width, HIDDEN_SIZE, dtype=dtype), nn.Tanh(), last)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        for place, value in start_of(setup, config.num_tokens).items():
            self.register_buffer(f"start_{place}", value)

    def forward(self) -> PromptState:
        """The prefixes from the whole encoder."""
        return self.state({place: self._numbers(place) for place in self.places})

    def _numbers(self, place: Place) -> Tensor:
        start, made = getattr(self, f"start_{place}"), self.mlps[place](self.inputs[place])
        assert isinstance(start, Tensor)
        two, layers, heads, tokens, size = start.shape
        changed: Tensor = start + made.view(tokens, layers, two, heads, size).permute(2, 1, 3, 0, 4)
        return changed

    @property
    def learning_rate(self) -> float:
        """See `prompt/rate.py`."""
        return DEEP_ENCODER_RATE
