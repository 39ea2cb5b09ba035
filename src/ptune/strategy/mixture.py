"""A mixture of tasks: one prompt (or one model) learns several tasks at once, and is then used on others.

In: recipes on one backbone with the same method. Out: a bundle for each task, all with the same learned rows, and a judgement
of the prompt on tasks that it never saw: a new task takes it as it is, with its own template and label words, or starts from it
(`method: {init_bundle: PATH}`). Templates that are instructions make it an instruction mixture; with `tune: lm` the model
learns. Sources: Vu et al. 2022 (SPoT), section 2; Wei et al. 2022 (FLAN), for instructions and tasks held out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ptune.backbone import Backbone, load_backbone
from ptune.data import fingerprint
from ptune.errors import PtuneError, RecipeError, TrainError
from ptune.model import Mixture, MixtureRows, TaskModel, mix_rows, share_prompt
from ptune.recipe import (
    ContextKeeper,
    Recipe,
    Splits,
    build_model,
    calibrate,
    calibration_rows,
    read_splits,
    settle_confidence,
    trainable_copy,
)
from ptune.task import Task
from ptune.train import Listener, RunFolder, train

__all__ = ["Mixed", "MixtureSettings", "run_mixture"]

_SAME = ("backbone", "dtype", "device", "text_start", "tune")


class MixtureSettings(BaseModel):
    """How tasks are mixed.

    Args:
        limit: rows of one task at most, so that a large one does not drown the others; None for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int | None = Field(default=None, ge=1)


@dataclass(frozen=True)
class Mixed:
    """What came of it.

    Args:
        tasks: by the recipe's name, those that were learned.
        new: those that took the prompt as it was.
        facts: of the run; `tasks` and `new` hold `untrained` and `mixed`, the scores without and with the prompt.
    """

    tasks: dict[str, Task]
    new: dict[str, Task]
    facts: dict[str, Any] = field(default_factory=dict)


def run_mixture(
    recipes: dict[str, Recipe],
    *,
    new: dict[str, Recipe] | None = None,
    settings: MixtureSettings | None = None,
    out: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Mixed:
    """Trains one prompt on several tasks.

    Args:
        recipes: by name, at least two. The first one's training keys (steps, batch size, rate, seed, ...) count for all.
        new: tasks to judge the prompt on without training; their training rows serve calibration alone.
        settings: None for the defaults.
        out: folder, new or empty; each task's bundle is written to `out/bundles/NAME`.
        listeners: called after every step.
        say: told what happens, a line at a time.

    Raises:
        PtuneError: anything wrong with the input, before any training.
    """
    untried = new or {}
    _check(recipes, untried)
    folder = None if out is None else RunFolder(Path(out))
    if folder is not None and folder.path.exists() and any(folder.path.iterdir()):
        raise TrainError("the run folder is not empty", where=str(folder.path), fix="name another folder with --out")
    everything = {**recipes, **untried}
    splits = {name: _read(name, recipe) for name, recipe in everything.items()}
    own_texts = {name: calibration_rows(recipe) for name, recipe in everything.items()}
    first = next(iter(recipes.values()))
    backbone = _load(first)
    models = {name: _build(name, recipe, backbone, splits[name]) for name, recipe in everything.items()}
    mixture = Mixture([models[name] for name in recipes])
    untrained, prepared = {}, {}
    for name, recipe in everything.items():
        share_prompt(models[name], models[next(iter(recipes))])
        prepared[name] = models[name].prepare(splits[name].train)
        calibrate(models[name], recipe, prepared[name], own_texts[name])
        untrained[name] = _score(models[name], splits[name])
    rows = mix_rows([prepared[name] for name in recipes], limit=(settings or MixtureSettings()).limit, seed=first.seed)
    validation = None
    if all(splits[name].validation for name in recipes):
        looked = [models[name].prepare(splits[name].validation) for name in recipes]
        validation = mix_rows(looked, limit=None, seed=first.seed)
    rows, validation = _with_contexts(first, [models[name] for name in recipes], rows, validation, say)
    say(f"one prompt of {sum(p.numel() for p in mixture.parameters()):,} parameters on {len(recipes)} tasks, {len(rows)} rows")
    result = train(
        mixture, rows, first.train_settings(), seed=first.seed, validation=validation, folder=folder, listeners=listeners
    )
    facts: dict[str, Any] = {"steps": len(result.losses), "best_step": result.best_step, "tasks": {}, "new": {}}
    found = Mixed({}, {}, facts)
    for name, recipe in everything.items():
        is_new, looks = name in untried, splits[name].validation
        if is_new:  # its preference under the prompt that it is now given
            calibrate(models[name], recipe, prepared[name], own_texts[name])
        models[name].settle(prepared[name], models[name].prepare(looks) if looks else None)
        settle_confidence(models[name], recipe, models[name].prepare(looks) if looks else None)
        scores = {"untrained": untrained[name], "mixed": _score(models[name], splits[name])}
        facts["new" if is_new else "tasks"][name] = scores
        task = Task(models[name].requires_grad_(False), _facts(recipe, splits[name], scores, tuple(recipes), is_new))
        (found.new if is_new else found.tasks)[name] = task
        if folder is not None:
            task.save(folder.path / "bundles" / name)
    if folder is not None:
        folder.write_json("summary.json", facts)
        folder.state_path.unlink(missing_ok=True)
    return found


def _check(recipes: dict[str, Recipe], new: dict[str, Recipe]) -> None:
    """Raises: RecipeError: fewer than two tasks, or what must be the same is not."""
    if len(recipes) < 2:
        raise RecipeError("a mixture needs two tasks or more", where="recipes", fix="name more recipes")
    twice = set(recipes) & set(new)
    if twice:
        raise RecipeError(f"{min(twice)} is both learned and new", where="new", fix="name it once")
    first = next(iter(recipes.values()))
    for name, recipe in {**recipes, **new}.items():
        for key in _SAME:
            if getattr(recipe, key) != getattr(first, key):
                raise RecipeError(f"{name} has another {key} than the first recipe", where=key, fix="give all recipes the same")


def _read(name: str, recipe: Recipe) -> Splits:
    try:
        splits = read_splits(recipe)
    except PtuneError as error:  # of several recipes, the one that is meant
        error.where = f"{name}, {error.where}" if error.where else name
        raise
    if not splits.train:
        raise RecipeError(f"{name} has no training rows", where="train", fix="give it some")
    return splits


def _load(recipe: Recipe) -> Backbone:
    torch.manual_seed(recipe.seed)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    return trainable_copy(recipe.backbone, backbone) if recipe.tune == "lm" else backbone


def _build(name: str, recipe: Recipe, backbone: Backbone, splits: Splits) -> TaskModel:
    model = build_model(recipe, backbone, splits)
    if not model.parameter_groups():
        raise RecipeError(f"{name} learns nothing", where="method", fix="use a method with learned tokens")
    return model


def _with_contexts(
    recipe: Recipe,
    models: Sequence[TaskModel],
    rows: MixtureRows,
    validation: MixtureRows | None,
    say: Callable[[str], None],
) -> tuple[MixtureRows, MixtureRows | None]:
    """Training rows that are in the mixture, then validation rows, with what is kept of them: all tasks have one budget."""
    keeper = ContextKeeper(recipe, say)
    kept = []
    for task, (model, mine) in enumerate(zip(models, rows.prepared, strict=True)):
        numbers = [number for of_task, number in rows.places if of_task == task]
        kept.append(keeper.training(model, mine, numbers=numbers, num_rows=len(rows)))
    if validation is not None:
        looked = [keeper.validation(*one) for one in zip(models, validation.prepared, kept, strict=True)]
        validation = replace(validation, prepared=tuple(looked))
    return replace(rows, prepared=tuple(kept)), validation


def _score(model: TaskModel, splits: Splits) -> float | None:
    """On the test rows, else on the validation rows; None without either."""
    judged = splits.test or splits.validation
    return model.judge(judged).score if judged else None


def _facts(recipe: Recipe, splits: Splits, scores: dict[str, Any], tasks: tuple[str, ...], is_new: bool) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        "seed": recipe.seed,
        "data": {"train_rows": len(splits.train), "train_fingerprint": fingerprint(splits.train)},
        "judged_on": "test" if splits.test else "validation" if splits.validation else None,
        "mixture": {"tasks": list(tasks), "learned_this_task": not is_new, **scores},
    }
