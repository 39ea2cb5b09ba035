"""Robustness: what a trained task loses when texts are written, or it is asked, otherwise."""

from ptune.compare.stress.report import stress_markdown
from ptune.compare.stress.run import Slice, StressReport, Trial, stress

__all__ = ["Slice", "StressReport", "Trial", "stress", "stress_markdown"]
