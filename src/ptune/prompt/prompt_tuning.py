"""`prompt-tuning`: learned tokens in front of the text, or right behind its start token.

Parameters: P * E. Source: Lester, Al-Rfou & Constant 2021, section 2; placement and initialisation as in their released code.
Deviations: default behind the start token (a causal model's first token gathers attention, and stays where it was trained
to be), learning rate in units of the embedding's own size so that one default serves models of any scale.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field as Key
from torch import Tensor, nn

from ptune.inputs import BackboneSpec, PromptState
from ptune.prompt.initialise import InitConfig
from ptune.prompt.method import PromptMethod, PromptSetup, has_no_soft, register, soft_nodes
from ptune.prompt.rate import embedding_rate
from ptune.template import Template

__all__ = ["PromptTuning", "PromptTuningConfig"]


class PromptTuningConfig(InitConfig):
    """Settings of `prompt-tuning`.

    Args:
        num_tokens: P.
        placement: `front` (before everything, as in the paper) or `after-bos` (behind [CLS] or the start token).
    """

    name: Literal["prompt-tuning"] = "prompt-tuning"
    num_tokens: int = Key(default=20, ge=1, le=1000)
    placement: Literal["front", "after-bos"] = "after-bos"


class PromptTuning(PromptMethod):
    """P rows learned directly.

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


def _build(config: PromptTuningConfig, setup: PromptSetup) -> PromptTuning:
    return PromptTuning(setup.start, setup.spec)


def _template(config: PromptTuningConfig, template: Template) -> Template:
    return has_no_soft(template, "prompt-tuning").prepend(soft_nodes(config.num_tokens, None))


register(
    "prompt-tuning",
    PromptTuningConfig,
    _build,
    template=_template,
    num_lead=lambda config: 1 if config.placement == "front" else 0,
)
