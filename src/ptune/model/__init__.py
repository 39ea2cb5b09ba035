"""A prompt, a frozen backbone and a readout as one module, for every kind of task."""

from ptune.model.dialogue import DialogueModel
from ptune.model.generation import GenerationModel
from ptune.model.kinds import KINDS, task_class
from ptune.model.label_model import LabelModel
from ptune.model.language_model import LanguageModel, TextRows
from ptune.model.mixture import Mixture, MixtureRows, mix_rows, share_prompt
from ptune.model.near_demos import DEMOS, NearDemos, embed_rows, with_column
from ptune.model.outcome import Look, Outcome, Prepared, TaskPrediction
from ptune.model.parts import Tune
from ptune.model.prompt_model import OUT_OF_SCOPE, Prediction, PromptModel, check_judged, judge_scores
from ptune.model.qa import QaModel
from ptune.model.qa_rows import FoundAnswer, QaPrediction
from ptune.model.reading_along import ReadingAlong
from ptune.model.rows import TOKENS_PER_BATCH
from ptune.model.tag_rows import FoundSpan, TagPrediction
from ptune.model.tagging import TagModel
from ptune.model.targets import TargetRows, fold_numbers, target_rows
from ptune.model.task_model import TaskKind, TaskModel
from ptune.model.writing_model import PreparedTexts, TextPrediction, WritingModel

__all__ = [
    "DEMOS",
    "KINDS",
    "OUT_OF_SCOPE",
    "TOKENS_PER_BATCH",
    "DialogueModel",
    "FoundAnswer",
    "FoundSpan",
    "GenerationModel",
    "LabelModel",
    "LanguageModel",
    "Look",
    "Mixture",
    "MixtureRows",
    "NearDemos",
    "Outcome",
    "Prediction",
    "Prepared",
    "PreparedTexts",
    "PromptModel",
    "QaModel",
    "QaPrediction",
    "ReadingAlong",
    "TagModel",
    "TagPrediction",
    "TargetRows",
    "TaskKind",
    "TaskModel",
    "TaskPrediction",
    "TextPrediction",
    "TextRows",
    "Tune",
    "WritingModel",
    "check_judged",
    "embed_rows",
    "fold_numbers",
    "judge_scores",
    "mix_rows",
    "share_prompt",
    "target_rows",
    "task_class",
    "with_column",
]
