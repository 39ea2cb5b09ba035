"""What is read off the model: label words, heads, calibration."""

from ptune.readout.calibrate import log_prior
from ptune.readout.head import HEAD_RATE, LinearHead
from ptune.readout.model_head import HeadForm, ModelHead, form_of
from ptune.readout.scoring import item_log_probabilities, pet_scores, word_scores
from ptune.readout.verbalizer import Aggregate, LengthRule, Verbalizer

__all__ = [
    "HEAD_RATE",
    "Aggregate",
    "HeadForm",
    "LengthRule",
    "LinearHead",
    "ModelHead",
    "Verbalizer",
    "form_of",
    "item_log_probabilities",
    "log_prior",
    "pet_scores",
    "word_scores",
]
