"""Losses, metrics and the report of an evaluation."""

from ptune.objective.loss import classification_loss
from ptune.objective.report import ClassFigures, Report, report, wilson

__all__ = ["ClassFigures", "Report", "classification_loss", "report", "wilson"]
