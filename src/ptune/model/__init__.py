"""A prompt, a frozen backbone and a readout as one module, for every kind of task."""

from ptune.model.kinds import KINDS, task_class
from ptune.model.outcome import Look, Outcome, Prepared, TaskPrediction
from ptune.model.parts import Tune
from ptune.model.prompt_model import Prediction, PromptModel, check_judged, judge_scores
from ptune.model.rows import TOKENS_PER_BATCH
from ptune.model.task_model import TaskKind, TaskModel

__all__ = [
    "KINDS",
    "TOKENS_PER_BATCH",
    "Look",
    "Outcome",
    "Prediction",
    "Prepared",
    "PromptModel",
    "TaskKind",
    "TaskModel",
    "TaskPrediction",
    "Tune",
    "check_judged",
    "judge_scores",
    "task_class",
]
