"""Losses, metrics and the report of an evaluation.

Each kind of task has its report: a frozen dataclass with the name of its main figure (`metric`), the figure (`score`),
`to_dict()` for JSON and `lines()` for people.
"""

from ptune.objective.abstain import Abstention, abstention
from ptune.objective.choice import ChoiceReport, choice_report
from ptune.objective.cloze import ClozeReport, cloze_report
from ptune.objective.labelsets import MultiLabelReport, label_set_report
from ptune.objective.loss import classification_loss, decoupled_loss, distribution_loss, two_way_divergence
from ptune.objective.numbers import expected_value, level_loss, squared_loss, two_hot
from ptune.objective.ordinal import OrdinalReport, ordinal_report
from ptune.objective.protocol import TaskReport
from ptune.objective.report import ClassFigures, Report, report, wilson
from ptune.objective.spans import SpanReport, SpanRule, answer_scores, span_report, span_rule
from ptune.objective.tags import SpanFigures, TagReport, tag_report
from ptune.objective.texts import TextReport, check_text_metrics, text_report, text_units

__all__ = [
    "Abstention",
    "ChoiceReport",
    "ClassFigures",
    "ClozeReport",
    "MultiLabelReport",
    "OrdinalReport",
    "Report",
    "SpanFigures",
    "SpanReport",
    "SpanRule",
    "TagReport",
    "TaskReport",
    "TextReport",
    "abstention",
    "answer_scores",
    "check_text_metrics",
    "choice_report",
    "classification_loss",
    "cloze_report",
    "decoupled_loss",
    "distribution_loss",
    "expected_value",
    "label_set_report",
    "level_loss",
    "ordinal_report",
    "report",
    "span_report",
    "span_rule",
    "squared_loss",
    "tag_report",
    "text_report",
    "text_units",
    "two_hot",
    "two_way_divergence",
    "wilson",
]
