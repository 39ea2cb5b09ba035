"""Runs a recipe: read and check everything, load the model, measure zero-shot, train, measure again, save.

In: a `Recipe` or its words. Out: a `Task`, whose `facts` say what the prompt gained. Nothing is written before all input has
been read and checked; the test rows are only ever judged.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from ptune.backbone import Backbone, BackboneLike, load_backbone
from ptune.data import (
    Example,
    LabelSet,
    augmented,
    fingerprint,
    has_splits,
    hold_out,
    read_examples,
    sample_rows,
    sample_shots,
)
from ptune.errors import RecipeError, TrainError, notice
from ptune.inputs import PoolKind
from ptune.model import Prepared, TaskModel
from ptune.objective import TaskReport
from ptune.prompt import parse_method
from ptune.readout import label_head
from ptune.recipe.caring import abstention_facts, calibrate, calibration_rows, settle_confidence
from ptune.recipe.contexts import ContextKeeper
from ptune.recipe.folds import careful_rows, same_start, settle_folds, with_folds
from ptune.recipe.recipe import Recipe
from ptune.recipe.showing import candidate_facts, candidate_line, shown_examples, training_log
from ptune.recipe.starts import bundle_start
from ptune.task import Task
from ptune.train import Learner, Listener, RunFolder, TrainResult, replace, train

__all__ = ["Splits", "build_model", "fit", "read_splits", "run", "trainable_copy"]

_NUM_ROWS_MEASURED = 128
_ROWS = "rows.json"


@dataclass(frozen=True)
class Splits:
    """The rows of a run, read and checked.

    Args:
        train: rows that are learned from.
        validation: rows for early stopping, perhaps none.
        test: rows that are only judged, perhaps none.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()


def fit(out: str | Path | None = None, *, resume: bool = False, listeners: Sequence[Listener] = (), **words: Any) -> Task:
    """Learns a task; the keywords are those of a recipe.

    Args:
        out: folder of the run (events, state, bundle); None writes nothing.
        resume: go on with the run in `out`.
        listeners: called after every step; `ptune.train.progress()` draws a bar.
        **words: keys of `Recipe`.

    Raises:
        PtuneError: anything wrong with the input, before any work.
    """
    return run(Recipe.of(words, where="fit"), out=out, resume=resume, listeners=listeners)


def run(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    say: Callable[[str], None] = lambda line: None,
    beside: Callable[[TaskModel], Learner[Prepared]] | None = None,
    measures: bool = True,
) -> Task:
    """Runs a recipe and returns the trained task.

    Args:
        recipe: checked.
        out, resume, listeners: as in `fit`.
        say: told what happens, a line at a time.
        beside: model -> what is trained in its place: the model with a further loss, say.
        measures: whether figures for the task's card are taken: the hard template's and the result's on the rows to judge, the
            loss before and after. What is learned is the same without.
    """
    folder = None if out is None else RunFolder(Path(out))
    _check_folder(folder, recipe, resume)
    splits, own_texts, as_given = read_splits(recipe), calibration_rows(recipe), recipe.to_yaml()
    if beside is None:
        recipe = with_folds(recipe, splits.train, splits.validation)
    rows_read = {"train": fingerprint(splits.train), "validation": fingerprint(splits.validation)}
    if folder is not None and resume:
        _check_same_rows(folder, rows_read)
    torch.manual_seed(recipe.seed)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    if recipe.tune == "lm":
        backbone = trainable_copy(recipe.backbone, backbone)
    model = build_model(recipe, backbone, splits)
    keeper = ContextKeeper(recipe, say)
    rows = keeper.training(model, _prepare_training(model, splits.train))
    validation = keeper.validation(model, model.prepare(splits.validation), rows) if splits.validation else None
    judged = (splits.test or splits.validation) if measures else ()
    zero = model.zero_shot(splits.train, judged) if judged else {}
    if judged and not zero:
        model.prepare(judged)  # a row that cannot be read is found before training
    if zero:
        say(_zero_shot_line(zero))
    starts = same_start(model, recipe)
    calibrate(model, recipe, rows, own_texts)
    rows = careful_rows(model, recipe, rows)
    if folder is not None:
        folder.path.mkdir(parents=True, exist_ok=True)
        replace(folder.recipe_path, as_given.encode())
        folder.write_json(_ROWS, rows_read)
    result, losses, held_out = None, None, None
    settings = recipe.train_settings()
    if model.parameter_groups():
        say(_what_learns(model, backbone, recipe.num_folds))
        measured = rows.at_most(_NUM_ROWS_MEASURED)  # a pass over all of many rows would take as long as many steps
        before = model.mean_loss(measured) if measures else None
        result = train(
            model if beside is None else beside(model),
            rows,
            settings,
            seed=recipe.seed,
            validation=validation,
            folder=folder,
            resume=resume,
            listeners=listeners,
        )
        held_out = settle_folds(model, rows, starts)
        losses = None if before is None else (before, model.mean_loss(measured))
    model.settle(rows, validation)
    settle_confidence(model, recipe, validation)
    report = model.judge(judged) if judged else None
    task = Task(model.requires_grad_(False), _facts(recipe, model, splits, zero, result, losses, report))
    if task.facts.get("training", {}).get("candidates"):
        say(candidate_line(task.facts["training"]))
    task.facts.update(abstention_facts(model, judged))
    if held_out is not None:
        task.facts["held_out"] = held_out.to_dict()
        say(str(held_out))
    if folder is not None:
        folder.write_json("summary.json", task.facts)
        task.save(folder.bundle_path)
    return task


def read_splits(recipe: Recipe) -> Splits:
    """Reads and checks all rows: fields of the template, labels or the kind of task's columns, shots.

    Raises:
        DataError: the first row that does not fit, with file and line.
    """
    kind, columns = recipe.kind, recipe.task_columns
    names = tuple(dict.fromkeys((*kind.fields_read(recipe.parsed_template()), *columns.values())))

    def read(source: Any, split: str) -> tuple[Example, ...]:
        if source is None:
            return ()
        rows = read_examples(
            source,
            fields=names,
            label=recipe.label if kind.reads_label else None,
            columns=recipe.columns,
            encoding=recipe.encoding,
            split=split if has_splits(source) else None,
            require_label=kind.reads_label,
        )
        kind.check_rows(rows, columns=columns, labels=recipe.label_names(), is_training=split == "train")
        return rows

    train_rows, validation, test = read(recipe.train, "train"), read(recipe.validation, "validation"), read(recipe.test, "test")
    if recipe.shots is not None:
        if kind.reads_label:
            train_rows = sample_shots(train_rows, recipe.shots, seed=recipe.seed, labels=LabelSet(recipe.label_names()))
        else:
            train_rows = sample_rows(train_rows, recipe.shots, seed=recipe.seed)
    if recipe.hold_out is not None:
        train_rows, validation = hold_out(train_rows, per_class=recipe.hold_out, seed=recipe.seed)
    if recipe.augment is not None:
        texts = recipe.parsed_template().field_names
        train_rows = augmented(train_rows, recipe.augment, fields=texts, seed=recipe.seed)
    return Splits(train_rows, validation, test)


def build_model(recipe: Recipe, backbone: Backbone, splits: Splits) -> TaskModel:
    """The recipe's model on a loaded backbone: the common keys, and those that its kind of task takes."""
    method = parse_method(recipe.method)
    derived: dict[str, Callable[[], Any]] = {
        "labels": lambda: recipe.verbalizer() if recipe.has_label_words and recipe.labels else recipe.label_names(),
        "label_texts": recipe.label_texts,
        "pool": lambda: _pool(recipe, backbone) if recipe.head else None,
        "class_weights": lambda: _class_weights(recipe, splits.train),
        "examples": lambda: splits.train,
    }
    return recipe.kind.build(
        backbone=backbone,
        template=recipe.parsed_template(),
        method=method,
        **bundle_start(method, backbone),
        candidates=recipe.num_folds or recipe.candidates,
        seed=recipe.seed,
        max_length=recipe.max_length,
        tune=recipe.tune,
        columns=recipe.task_columns,
        **{key: derived[key]() if key in derived else getattr(recipe, key) for key in recipe.kind.keys},
        **_form(recipe, backbone),
    )


def _form(recipe: Recipe, backbone: Backbone) -> dict[str, Any]:
    """What says which head it is, unless it is a linear one."""
    if recipe.head == "model":
        return {"form": recipe.kind.model_form(backbone)}
    return {"form": recipe.head} if label_head(recipe.head) else {}


def _pool(recipe: Recipe, backbone: Backbone) -> PoolKind:
    if label_head(recipe.head):
        return "mask"
    return recipe.pool or {"encoder": "cls", "decoder": "last", "encoder-decoder": "mean"}[backbone.kind]  # type: ignore[return-value]


def _class_weights(recipe: Recipe, rows: Sequence[Example]) -> list[float] | None:
    names = recipe.label_names()
    if recipe.class_weights is None:
        return None
    if recipe.class_weights == "balanced":
        return [len(rows) / (len(names) * sum(row.label == name for row in rows)) for name in names]
    assert isinstance(recipe.class_weights, Mapping)
    unknown = set(recipe.class_weights) - set(names)
    if unknown:
        raise RecipeError(f"class_weights names {sorted(unknown)[0]!r}, which is no label", where="class_weights")
    return [recipe.class_weights.get(name, 1.0) for name in names]


def trainable_copy(source: BackboneLike, backbone: Backbone) -> Backbone:
    """A backbone of this run's own where its weights are trained: a model that was handed in may serve other tasks.

    Args:
        source: what the backbone was named by.
        backbone: loaded from it.
    """
    if isinstance(source, str | Path):
        return backbone
    import copy

    notice(f"a copy of {backbone.spec.name} is trained; the loaded one stays as it is")
    model = copy.deepcopy(backbone.model)
    return Backbone(model, backbone.tokens.tokenizer, name=backbone.spec.name, text_start=backbone.text_start)


def _prepare_training(model: TaskModel, examples: Sequence[Example]) -> Prepared:
    """Tokenised training rows."""
    rows = model.prepare(examples)
    if rows.num_cut:
        notice(f"{rows.num_cut} of {len(rows)} training texts were cut to {model.max_length} tokens (max_length)")
    return rows


def _zero_shot_line(zero: Mapping[str, TaskReport]) -> str:
    """As in `zero-shot accuracy 0.500, prior-corrected 0.625`."""
    names = {name: name.replace("_", "-") for name in zero}
    first = next(iter(zero))
    names[first] += f" {zero[first].metric.replace('_', ' ')}"
    return ", ".join(f"{names[name]} {report.score:.3f}" for name, report in zero.items())


def _what_learns(model: TaskModel, backbone: Backbone, num_folds: int | None) -> str:
    total = sum(parameter.numel() for parameter in backbone.model.parameters())
    kept = model.num_trained // (num_folds or 1)
    line = f"training {kept:,} parameters ({100 * kept / total:.4f} % of {backbone.spec.name}'s {total:,})"
    line += f" in {num_folds} folds" if num_folds else ""
    if model.tune in ("lm", "lm-head"):
        heavy = total if model.tune == "lm" else model.backbone.require_output().weight.numel()
        line += f"; the bundle will hold them and weigh about {heavy * 4 >> 20} MB"
    return line


def _facts(
    recipe: Recipe,
    model: TaskModel,
    splits: Splits,
    zero: Mapping[str, TaskReport],
    result: TrainResult | None,
    losses: tuple[float, float] | None,
    report: TaskReport | None,
) -> dict[str, Any]:
    total = sum(parameter.numel() for parameter in model.backbone.model.parameters())
    facts: dict[str, Any] = {
        "ptune": version("ptune"),
        "seed": recipe.seed,
        "recipe": recipe.to_dict(),
        "data": {"train_rows": len(splits.train), "train_fingerprint": fingerprint(splits.train), **_shown(recipe, splits)},
        "judged_on": None if report is None else "test" if splits.test else "validation",
        "trained_parameters": model.num_trained,
        "trained_share": model.num_trained / total,
        "peak_memory_mb": _peak_memory_mb(),
        **{name: figures.to_dict() for name, figures in zero.items()},
        **model.facts(),
    }
    if result is not None:
        facts["training"] = {
            "steps": len(result.losses),
            "seconds": round(result.seconds, 2),
            **({} if losses is None else {"first_loss": losses[0], "last_loss": losses[1]}),
            "best_step": result.best_step,
            "stopped_early": result.stopped_early,
            "log": training_log(result),
            **({} if recipe.num_folds else candidate_facts(result)),
        }
    if report is not None:
        facts["tuned"] = report.to_dict()
    return facts


def _shown(recipe: Recipe, splits: Splits) -> dict[str, Any]:
    num_alike = 1 if recipe.augment is None else 1 + recipe.augment.copies
    examples = shown_examples(
        splits.train[::num_alike],
        recipe.parsed_template().field_names,
        recipe.card_examples,
        labels=recipe.label_names(),
        columns=recipe.task_columns,
        targets=[recipe.task_columns[key] for key in recipe.kind.target_keys],
    )
    return {"examples": examples} if examples else {}


def _peak_memory_mb() -> int:
    if sys.platform == "win32":  # which has no module resource
        peak_bytes: int = psutil.Process().memory_info().peak_wset
        return peak_bytes >> 20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def _check_folder(folder: RunFolder | None, recipe: Recipe, resume: bool) -> None:
    if folder is None:
        if resume:
            raise TrainError("resume needs the folder of the run", where="out", fix="give out=")
        return
    if folder.path.exists() and not folder.path.is_dir():
        raise TrainError("there is a file of that name", where=str(folder.path), fix="name another folder with --out")
    is_used = folder.path.exists() and any(folder.path.iterdir())
    if not resume:
        if is_used:
            raise TrainError("the run folder is not empty", where=str(folder.path), fix="use --resume, or another --out")
        return
    if is_used and not folder.recipe_path.exists():
        raise TrainError("the folder holds no run to resume", where=str(folder.path), fix="name the folder of a run")
    if folder.recipe_path.exists() and folder.recipe_path.read_text(encoding="utf-8") != recipe.to_yaml():
        raise TrainError(
            "the recipe is not the one that the run began with", where=str(folder.recipe_path), fix="use another --out"
        )


def _check_same_rows(folder: RunFolder, rows_read: Mapping[str, str]) -> None:
    """Refuses to go on with other rows than those that the run began with."""
    path = folder.path / _ROWS
    if not path.is_file():
        return
    begun = json.loads(path.read_text(encoding="utf-8"))
    other = next((name for name, digest in rows_read.items() if begun.get(name) != digest), None)
    if other is not None:
        what = f"the {other} rows are not those that the run began with"
        raise TrainError(what, where=str(folder.path), fix="put the data back, or use another --out")
