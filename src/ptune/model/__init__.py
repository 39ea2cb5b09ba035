"""A prompt, a frozen backbone and a readout as one module, for every kind of task."""

from ptune.model.dialogue import DialogueModel
from ptune.model.generation import GenerationModel
from ptune.model.kinds import KINDS, task_class
from ptune.model.outcome import Look, Outcome, Prepared, TaskPrediction
from ptune.model.parts import Tune
from ptune.model.prompt_model import OUT_OF_SCOPE, Prediction, PromptModel, check_judged, judge_scores
from ptune.model.rows import TOKENS_PER_BATCH
from ptune.model.task_model import TaskKind, TaskModel
from ptune.model.writing_model import PreparedTexts, TextPrediction, WritingModel
from ptune.model.tag_rows import FoundSpan, TagPrediction
from ptune.model.tagging import TagModel
from ptune.model.targets import TargetRows, fold_numbers, target_rows

__all__ = [
    "KINDS",
    "OUT_OF_SCOPE",
    "TOKENS_PER_BATCH",
    "DialogueModel",
    "GenerationModel",
    "Look",
    "Outcome",
    "Prediction",
    "Prepared",
    "PreparedTexts",
    "PromptModel",
    "TaskKind",
    "TaskModel",
    "TaskPrediction",
    "TextPrediction",
    "QaModel",
    "QaPrediction",
    "TagModel",
    "TagPrediction",
    "TargetRows",
    "Tune",
    "WritingModel",
    "check_judged",
    "judge_scores",
    "task_class",
]
    "fold_numbers",
    "target_rows",
