"""A trained task in memory."""

from ptune.model import Prediction, judge_scores
from ptune.task.inspection import Inspection, LearnedToken, inspect_task
from ptune.task.mixed import predict_mixed
from ptune.task.task import Task, as_classifier, load, task_of

__all__ = [
    "Inspection",
    "LearnedToken",
    "Prediction",
    "Task",
    "as_classifier",
    "inspect_task",
    "judge_scores",
    "load",
    "predict_mixed",
    "task_of",
]
