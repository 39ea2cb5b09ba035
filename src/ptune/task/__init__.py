"""A trained task in memory."""

from ptune.task.inspection import Inspection, LearnedToken, inspect_task
from ptune.task.mixed import predict_mixed
from ptune.task.task import Prediction, Task, judge_scores, load, task_of

__all__ = [
    "Inspection",
    "LearnedToken",
    "Prediction",
    "Task",
    "inspect_task",
    "judge_scores",
    "load",
    "predict_mixed",
    "task_of",
]
