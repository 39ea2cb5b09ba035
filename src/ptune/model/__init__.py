"""A prompt, a frozen backbone and a readout as one module."""

from ptune.model.parts import Outcome, Prepared, Tune
from ptune.model.prompt_model import PromptModel
from ptune.model.rows import TOKENS_PER_BATCH

__all__ = ["TOKENS_PER_BATCH", "Outcome", "Prepared", "PromptModel", "Tune"]
