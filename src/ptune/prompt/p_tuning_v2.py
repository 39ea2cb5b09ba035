"""`p-tuning-v2`: learned keys and values in every layer, learned directly.

Parameters, over the attention stacks that learn, each of N layers, H_kv heads of size K: P * 2 * N * H_kv * K, and N * H_kv
with `gate`; with `projection` those of `prefix-tuning` in their place. Source: Liu et al. 2022 (P-Tuning v2) and their code:
Embedding(P, 2 * N * D) with N(0, 0.02), dropout on the prefix, an MLP only on demand. Deviations: numbers are in units of
the layer's own keys and values (see `deep`); label words serve as well as a head.
"""

from typing import Literal

from torch import nn

from ptune.inputs import Place, PromptState
from ptune.prompt.deep import DeepConfig, DeepPrompt, deep_from, start_of
from ptune.prompt.deep_encoder import DeepEncoded
from ptune.prompt.method import PromptMethod, PromptSetup, has_no_soft, register
from ptune.prompt.rate import DEEP_RATE

__all__ = ["PTuningV2", "PTuningV2Config"]


class PTuningV2Config(DeepConfig):
    """Settings of `p-tuning-v2`.

    Args:
        projection: make the keys and values with Prefix Tuning's MLP instead (the paper's reparameterisation).
    """

    name: Literal["p-tuning-v2"] = "p-tuning-v2"
    projection: bool = False


class PTuningV2(DeepPrompt):
    """Keys and values learned directly.

    Args:
        config: of the method.
        setup: with the stacks that learn and what they start from.
    """

    def __init__(self, config: PTuningV2Config, setup: PromptSetup) -> None:
        super().__init__(config, setup)
        start = start_of(setup, config.num_tokens)
        self.numbers = nn.ParameterDict({place: nn.Parameter(value) for place, value in start.items()})

    def forward(self) -> PromptState:
        """The prefixes as they are."""
        places: tuple[Place, ...] = self.places
        return self.state({place: self.numbers[place] for place in places})

    @property
    def learning_rate(self) -> float:
        """See `prompt/rate.py`."""
        return DEEP_RATE


def _build(config: PTuningV2Config, setup: PromptSetup) -> PromptMethod:
    return DeepEncoded(config, setup) if config.projection else PTuningV2(config, setup)


register(
    "p-tuning-v2",
    PTuningV2Config,
    _build,
    template=lambda config, template: has_no_soft(template, "p-tuning-v2"),
    num_deep=lambda config: config.num_positions,
    deep_from=deep_from,
)
