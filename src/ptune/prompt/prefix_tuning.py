"""`prefix-tuning`: learned keys and values in every layer, made by a small MLP.

Parameters: P * d + (d * 512 + 512) + 513 * 2 * N * H_kv * K for each attention stack that learns, d its model's width, and
N * H_kv with `gate`. Source: Li & Liang 2021, section 4.3 and their code: Embedding(P, d) -> Linear(d, 512) -> Tanh ->
Linear(512, 2 * N * D); an encoder-decoder has three prefixes, each with its own MLP. Deviation: see `deep_encoder`.
"""

from typing import Literal

from ptune.prompt.deep import DeepConfig, deep_from
from ptune.prompt.deep_encoder import DeepEncoded
from ptune.prompt.method import PromptSetup, has_no_soft, register

__all__ = ["PrefixTuningConfig"]


class PrefixTuningConfig(DeepConfig):
    """Settings of `prefix-tuning`."""

    name: Literal["prefix-tuning"] = "prefix-tuning"


def _build(config: PrefixTuningConfig, setup: PromptSetup) -> DeepEncoded:
    return DeepEncoded(config, setup)


register(
    "prefix-tuning",
    PrefixTuningConfig,
    _build,
    template=lambda config, template: has_no_soft(template, "prefix-tuning"),
    num_deep=lambda config: config.num_positions,
    deep_from=deep_from,
)
