"""`hard`: the template and label words alone, nothing learned (zero-shot; PET's patterns without training).

Parameters: 0. Source: Schick & Schütze 2021 (patterns and verbalizers).
"""

from typing import Literal

from ptune.inputs import PromptState
from ptune.prompt.method import MethodConfig, PromptMethod, PromptSetup, has_no_soft, register

__all__ = ["Hard", "HardConfig"]


class HardConfig(MethodConfig):
    """`hard` has no settings."""

    name: Literal["hard"] = "hard"


class Hard(PromptMethod):
    """Gives the backbone no learned rows."""

    def forward(self) -> PromptState:
        """An empty prompt."""
        return PromptState()

    @property
    def learning_rate(self) -> float:
        """Nothing to learn."""
        return 0.0


def _build(config: HardConfig, setup: PromptSetup) -> Hard:
    return Hard()


register("hard", HardConfig, _build, template=lambda config, template: has_no_soft(template, "hard"), learns=False)
