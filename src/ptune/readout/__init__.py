"""What is read off the model: label words, heads, calibration."""

from ptune.readout.answer_spans import best_spans, best_threshold
from ptune.readout.calibrate import (
    CONTENT_FREE,
    CalibrationName,
    batch_prior,
    best_temperature,
    calibration_names,
    contextual_prior,
    domain_prior,
    log_prior,
)
from ptune.readout.choices import choice_scores, choice_words, split_scores
from ptune.readout.head import HEAD_RATE, LinearHead
from ptune.readout.label_head import LabelHead, LabelSetup, build_label_head, label_head, label_heads, needs_words
from ptune.readout.label_vectors import LabelVectors
from ptune.readout.model_head import TOKEN_FORM, HeadForm, ModelHead, build_head, form_of, form_settings, kept_form
from ptune.readout.prototypes import Prototypes
from ptune.readout.scoring import item_log_probabilities, log_normaliser, num_scored, pet_scores, word_scores
from ptune.readout.search import FoundWord, assign_words, rank_words
from ptune.readout.tag_path import best_tags
from ptune.readout.threshold import best_log_odds
from ptune.readout.verbalizer import Aggregate, LengthRule, Verbalizer, left_text
from ptune.readout.word_lists import kept_words, mean_calibrated, word_prior, word_relevance
from ptune.readout.word_weights import WordWeights

__all__ = [
    "CONTENT_FREE",
    "HEAD_RATE",
    "TOKEN_FORM",
    "Aggregate",
    "CalibrationName",
    "FoundWord",
    "HeadForm",
    "LabelHead",
    "LabelSetup",
    "LabelVectors",
    "LengthRule",
    "LinearHead",
    "ModelHead",
    "Prototypes",
    "Verbalizer",
    "WordWeights",
    "assign_words",
    "batch_prior",
    "best_log_odds",
    "best_spans",
    "best_tags",
    "best_temperature",
    "best_threshold",
    "build_head",
    "build_label_head",
    "calibration_names",
    "choice_scores",
    "choice_words",
    "contextual_prior",
    "domain_prior",
    "form_of",
    "form_settings",
    "item_log_probabilities",
    "kept_form",
    "kept_words",
    "label_head",
    "label_heads",
    "left_text",
    "log_normaliser",
    "log_prior",
    "mean_calibrated",
    "needs_words",
    "num_scored",
    "pet_scores",
    "rank_words",
    "split_scores",
    "word_prior",
    "word_relevance",
    "word_scores",
]
