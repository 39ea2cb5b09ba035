"""`p-tuning`: learned tokens anywhere in the template, directly or through a small encoder.

Parameters, with P rows of size E: `embedding` P*E; `mlp` P*E + 2*(E*E + E); `lstm` P*E + BiLSTM + 2*(E*E + E), where the BiLSTM
of hidden size h = E/2 in two layers has 2 * [4h(E + h) + 8h] + 2 * [4h(2h + h) + 8h].
Source: Liu et al. 2021 (GPT Understands, Too), section 3.2 and their LAMA code: Embedding -> BiLSTM(E, E/2, 2 layers) ->
Linear - ReLU - Linear. Deviation: the encoder's output is a change to the initial rows, in units of the embeddings' size and
zero at first, so that initialisation by words means something and every encoder starts from the same prompt.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import field_validator
from torch import Tensor, nn

from ptune.inputs import BackboneSpec, PromptState
from ptune.prompt.initialise import InitConfig
from ptune.prompt.method import PromptMethod, PromptSetup, needs_soft, register
from ptune.prompt.rate import embedding_rate, encoder_rate, encoder_scale

__all__ = ["PTuning", "PTuningConfig", "PTuningEncoded"]


class PTuningConfig(InitConfig):
    """Settings of `p-tuning`.

    Args:
        encoder: `embedding` (the rows themselves; also called `linear`), `mlp`, or `lstm` (the paper's).
    """

    name: Literal["p-tuning"] = "p-tuning"
    encoder: Literal["embedding", "mlp", "lstm"] = "embedding"

    @field_validator("encoder", mode="before")
    @classmethod
    def _linear_means_embedding(cls, value: object) -> object:
        return "embedding" if value == "linear" else value


class PTuning(PromptMethod):
    """Rows learned directly (`encoder: embedding`).

    Args:
        start: [P, E].
        spec: the backbone's sizes, which decide the learning rate.
    """

    def __init__(self, start: Float[Tensor, "P E"], spec: BackboneSpec) -> None:
        super().__init__()
        self.rows = nn.Parameter(start.clone())
        self._rate = embedding_rate(spec)

    def forward(self) -> PromptState:
        """The rows as they are."""
        return PromptState(rows=self.rows)

    @property
    def learning_rate(self) -> float:
        """See `prompt/rate.py`."""
        return self._rate


class PTuningEncoded(PromptMethod):
    """Rows made by an encoder: start + scale * MLP(z), or start + scale * MLP(BiLSTM(z)), z ~ N(0, 1) learned too.

    Args:
        start: [P, E], kept as a constant.
        spec: the backbone's sizes; its embeddings' size is the scale of the encoder's output.
        has_lstm: whether the two-layer BiLSTM comes before the MLP.
        seed: of the encoder's initial weights.
    """

    def __init__(self, start: Float[Tensor, "P E"], spec: BackboneSpec, *, has_lstm: bool, seed: int) -> None:
        super().__init__()
        size = start.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inputs = nn.Parameter(torch.randn(start.shape, dtype=start.dtype))
            self.lstm = (
                nn.LSTM(size, size // 2, num_layers=2, bidirectional=True, batch_first=True, dtype=start.dtype)
                if has_lstm
                else None
            )
            width = size // 2 * 2 if has_lstm else size
            last = nn.Linear(size, size, dtype=start.dtype)
            self.mlp = nn.Sequential(nn.Linear(width, size, dtype=start.dtype), nn.ReLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("start", start.clone())
        self._scale, self._rate = encoder_scale(spec), encoder_rate(spec)

    def forward(self) -> PromptState:
        """[P, E] from the whole encoder; inference needs only this output."""
        hidden = self.inputs
        if self.lstm is not None:
            hidden = self.lstm(hidden[None])[0][0]
        assert isinstance(self.start, Tensor)
        return PromptState(rows=self.start + self._scale * self.mlp(hidden))

    @property
    def learning_rate(self) -> float:
        """See `prompt/rate.py`."""
        return self._rate


def _build(config: PTuningConfig, setup: PromptSetup) -> PromptMethod:
    if config.encoder == "embedding":
        return PTuning(setup.start, setup.spec)
    return PTuningEncoded(setup.start, setup.spec, has_lstm=config.encoder == "lstm", seed=setup.seed)


register("p-tuning", PTuningConfig, _build, template=lambda config, template: needs_soft(template, "p-tuning"))
