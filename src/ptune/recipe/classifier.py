"""The model of a recipe for the part that counts label words: `ptune plan`."""

from ptune.backbone import Backbone
from ptune.errors import RecipeError
from ptune.model import PromptModel
from ptune.recipe.fit import Splits, build_model
from ptune.recipe.recipe import Recipe

__all__ = ["build_classifier"]


def build_classifier(recipe: Recipe, backbone: Backbone, splits: Splits) -> PromptModel:
    """As `build_model`, for classification.

    Raises:
        RecipeError: the recipe is for another kind of task.
    """
    if recipe.task != PromptModel.kind:
        what = f"this is for task: {PromptModel.kind}, the recipe has task: {recipe.task}"
        raise RecipeError(what, where="task", fix="`ptune train` runs it")
    model = build_model(recipe, backbone, splits)
    assert isinstance(model, PromptModel)
    return model
