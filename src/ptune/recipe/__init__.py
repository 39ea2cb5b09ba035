"""One run as data, and its execution."""

from ptune.recipe.caring import calibrate, calibration_rows, settle_confidence
from ptune.recipe.check import TemplateCheck, check_recipe
from ptune.recipe.contexts import ContextKeeper
from ptune.recipe.fit import Splits, build_model, fit, read_splits, run, trainable_copy
from ptune.recipe.plan import Plan, plan_recipe
from ptune.recipe.reading import parse_override, parse_yaml, read_recipe, read_values
from ptune.recipe.recipe import Recipe

__all__ = [
    "ContextKeeper",
    "Plan",
    "Recipe",
    "Splits",
    "TemplateCheck",
    "build_model",
    "calibrate",
    "calibration_rows",
    "check_recipe",
    "fit",
    "parse_override",
    "parse_yaml",
    "plan_recipe",
    "read_recipe",
    "read_splits",
    "read_values",
    "run",
    "settle_confidence",
    "trainable_copy",
]
