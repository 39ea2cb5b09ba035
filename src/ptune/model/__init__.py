"""A prompt, a frozen backbone and a readout as one module."""

from ptune.model.parts import Outcome, Prepared
from ptune.model.prompt_model import PromptModel, Tune

__all__ = ["Outcome", "Prepared", "PromptModel", "Tune"]
