"""Robustness: what a trained task loses when texts are written, or it is asked, otherwise; and how varied written texts are."""

from ptune.compare.stress.diversity import DiversityReport, Sampled, Variety, diversity
from ptune.compare.stress.report import diversity_markdown, diversity_table, stress_markdown
from ptune.compare.stress.run import Slice, StressReport, Trial, stress

__all__ = [
    "DiversityReport",
    "Sampled",
    "Slice",
    "StressReport",
    "Trial",
    "Variety",
    "diversity",
    "diversity_markdown",
    "diversity_table",
    "stress",
    "stress_markdown",
]
