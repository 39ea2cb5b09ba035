"""The kinds of task, by the name that a recipe's `task` and a bundle's card give them. A new kind is one more line here."""

from ptune.data import did_you_mean
from ptune.errors import RecipeError
from ptune.model.choice_model import ChoiceModel
from ptune.model.cloze_model import ClozeModel
from ptune.model.dialogue import DialogueModel
from ptune.model.entailment_model import EntailmentModel
from ptune.model.generation import GenerationModel
from ptune.model.multi_label_model import MultiLabelModel
from ptune.model.prompt_model import PromptModel
from ptune.model.qa import QaModel
from ptune.model.regression_model import RegressionModel
from ptune.model.tagging import TagModel
from ptune.model.task_model import TaskModel

__all__ = ["KINDS", "task_class"]

_ALL: tuple[type[TaskModel], ...] = (
    PromptModel,
    EntailmentModel,
    MultiLabelModel,
    RegressionModel,
    ChoiceModel,
    ClozeModel,
    GenerationModel,
    DialogueModel,
    TagModel,
    QaModel,
)
KINDS: dict[str, type[TaskModel]] = {one.kind: one for one in _ALL}


def task_class(name: str) -> type[TaskModel]:
    """The model class of a kind of task.

    Raises:
        RecipeError: there is no such kind.
    """
    if name not in KINDS:
        fix = did_you_mean(name, KINDS, f"use one of {', '.join(KINDS)}")
        raise RecipeError(f"there is no kind of task {name!r}", where="task", fix=fix)
    return KINDS[name]
