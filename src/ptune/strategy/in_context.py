"""In-context learning: the model reads a few labelled texts in front of each new one.

In: a recipe with `{demos}` in its template. Out: a `Task` for each set of demonstrations, and what they say together.
Demonstrations become hard words of the template, so that the engine computes them once for all texts, the calibration
sees them too, and the bundle holds them; those chosen for each text by nearness stand in `nearest.py`. With `method: hard`
nothing is trained; another method's prompt learns behind demonstrations, and no row is read behind itself. Sources: Brown et
al. 2020; Zhao et al. 2021 (balance, order, contextual calibration); Gao et al. 2021 (LM-BFF: tuning with demonstrations).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example, LabelSet, sample_shots
from ptune.errors import DataError, RecipeError
from ptune.model import judge_scores
from ptune.objective import Report
from ptune.prompt import parse_method
from ptune.recipe import Recipe, Splits, read_splits, run, settle_confidence
from ptune.strategy.demos import demo_text, place_demos, showing
from ptune.strategy.nearest import check_enough, near_demos, show_nearest
from ptune.task import Task, as_classifier
from ptune.template import Demos, Text

__all__ = ["InContext", "InContextSettings", "choose_demos", "run_in_context"]

Order = Literal["shuffled", "by-label", "alternating"]
_PER_LABEL = 4


class InContextSettings(BaseModel):
    """The section `icl:` of a recipe.

    Args:
        choose: `random` draws one set for all texts; `nearest` shows each text the rows most like it, the nearest last.
        per_label: demonstrations of each label; 4 unless `count` is set.
        count: demonstrations in all, of whatever label the nearest have.
        encoder: the model whose states say what is near; None takes the backbone.
        order: `shuffled` with the seed, `by-label`, or `alternating` labels.
        sets: sets of demonstrations, each drawn with a seed of its own; the mean of their probabilities is judged too.
        separator: text between demonstrations, and between them and the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    choose: Literal["random", "nearest"] = "random"
    per_label: int | None = Field(default=None, ge=1)
    count: int | None = Field(default=None, ge=1)
    encoder: Any = None
    order: Order = "shuffled"
    sets: int = Field(default=1, ge=1)
    separator: str = "\n\n"

    @model_validator(mode="after")
    def _fits_together(self) -> "InContextSettings":
        is_near = self.choose == "nearest"
        foreign = next(
            (key for key in (("order", "sets") if is_near else ("count", "encoder")) if key in self.model_fields_set), None
        )
        if foreign is not None:
            raise ValueError(f"{foreign} is for choose: {'random' if is_near else 'nearest'}; leave it out")
        if self.count is not None and self.per_label is not None:
            raise ValueError("count and per_label exclude each other; give one")
        return self

    @property
    def num_shown(self) -> int:
        """Demonstrations of each label, or in all where `count` is set."""
        return self.count or self.per_label or _PER_LABEL


@dataclass(frozen=True)
class InContext:
    """What came of it.

    Args:
        tasks: one for each set of demonstrations.
        reports: of each on the judged rows; none without such rows.
        ensemble: of the mean of their probabilities, or None.
    """

    tasks: tuple[Task, ...]
    reports: tuple[Report, ...] = ()
    ensemble: Report | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sets": [report.to_dict() for report in self.reports],
            "ensemble": None if self.ensemble is None else self.ensemble.to_dict(),
        }


def run_in_context(recipe: Recipe, settings: InContextSettings, *, say: Callable[[str], None] = lambda line: None) -> InContext:
    """Chooses demonstrations among the training rows, once or for each text, and judges them.

    Args:
        recipe: with `{demos}` in its template; without a `calibration` of its own it takes `contextual`.
        settings: its section `icl`.
        say: told what happens.

    Raises:
        RecipeError: another kind of task, a trained model, or no place for the demonstrations.
        DataError: a label with too few rows.
    """
    _check(recipe)
    splits = read_splits(recipe)
    if settings.choose == "nearest":
        check_enough(recipe, splits.train, settings.num_shown, by_label=settings.count is None)
    else:  # whether the rows suffice is said before the model is loaded
        _shown_and_read(recipe, settings, splits, recipe.seed)
    judged = splits.test or splits.validation
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    tasks: list[Task] = []
    reports: list[Report] = []
    each: list[torch.Tensor] = []
    for number in range(settings.sets):
        if settings.choose == "nearest":
            task = _nearest(recipe, settings, splits, backbone)
        else:
            task = _drawn(recipe, settings, splits, backbone, recipe.seed + number)
        model = as_classifier(task)
        settle_confidence(model, recipe, model.prepare(splits.validation) if splits.validation else None)
        tasks.append(task)
        if judged:
            scores = model.scores(model.prepare(judged))
            reports.append(judge_scores(model, judged, scores))
            what = "nearest rows for each text" if settings.choose == "nearest" else f"set {number + 1} of {settings.sets}"
            say(f"{what}: {_how_many(settings)}, accuracy {reports[-1].accuracy:.3f}")
            each.append(torch.softmax(scores, 1))
    if not each:
        return InContext(tuple(tasks))
    joined = judge_scores(as_classifier(tasks[0]), judged, torch.stack(each).mean(0).clamp(min=1e-12).log())
    return InContext(tuple(tasks), tuple(reports), joined)


def _drawn(recipe: Recipe, settings: InContextSettings, splits: Splits, backbone: Backbone, seed: int) -> Task:
    """The task with one set of demonstrations for all texts, as words of its template."""
    chosen, rows = _shown_and_read(recipe, settings, splits, seed)
    template = recipe.parsed_template()
    words = {name: listed[0] for name, listed in recipe.verbalizer().words.items()}
    shown = [demo_text(template, example, words[str(example.label)]) for example in chosen]
    text = settings.separator.join(shown)
    whole = place_demos(template, Text(text + settings.separator))
    task = run(showing(recipe, whole, backbone, len(backbone.tokens.ids(text)), rows))
    task.facts["demonstrations"] = {"texts": shown, "separator": settings.separator}
    return task


def _shown_and_read(
    recipe: Recipe, settings: InContextSettings, splits: Splits, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Demonstrations, and the rows that are read behind them: all, or where a prompt learns, those not shown."""
    names = recipe.label_names()
    chosen = choose_demos(splits.train, names, settings.num_shown, seed, settings.order)
    is_trained = parse_method(recipe.method).name != "hard"
    return chosen, _others(splits.train, chosen, names) if is_trained else splits.train


def _others(rows: Sequence[Example], shown: Sequence[Example], labels: Sequence[str]) -> tuple[Example, ...]:
    """The rows that are not shown: one that is would be read behind its own label.

    Raises:
        DataError: a label of which none is left.
    """
    left = tuple(row for row in rows if row not in shown)
    bare = next((name for name in labels if not any(row.label == name for row in left)), None)
    if bare is not None:
        raise DataError(
            f"all rows of label {bare!r} are shown, so none is left to learn from",
            where="icl",
            fix="show fewer, or give more rows",
        )
    return left


def _nearest(recipe: Recipe, settings: InContextSettings, splits: Splits, backbone: Backbone) -> Task:
    """The task whose texts have demonstrations of their own."""
    near = near_demos(
        recipe,
        splits.train,
        backbone,
        count=settings.num_shown,
        by_label=settings.count is None,
        separator=settings.separator,
        encoder=settings.encoder,
    )
    return show_nearest(recipe, near, backbone, splits.train)


def _how_many(settings: InContextSettings) -> str:
    return f"{settings.num_shown} demonstrations" + ("" if settings.count else " of each label")


def choose_demos(
    examples: Sequence[Example], labels: Sequence[str], per_label: int, seed: int, order: Order
) -> tuple[Example, ...]:
    """So many examples of each label, in the order asked for.

    Args:
        examples: labelled rows.
        labels: names in order.
        per_label: examples of each.
        seed: draws them, and shuffles.
        order: see `InContextSettings`.

    Raises:
        DataError: a label with fewer rows.
    """
    drawn = sample_shots(examples, per_label, seed=seed, labels=LabelSet(tuple(labels)))
    of_label = [[example for example in drawn if example.label == name] for name in labels]
    if order == "by-label":
        return tuple(example for group in of_label for example in group)
    if order == "alternating":
        return tuple(group[number] for number in range(per_label) for group in of_label)
    shuffled = list(drawn)
    random.Random(seed).shuffle(shuffled)
    return tuple(shuffled)


def _check(recipe: Recipe) -> None:
    if recipe.task != "classification" or recipe.head is not None:
        raise RecipeError(
            "in-context learning is for classification by label words", where="task", fix="leave task and head out"
        )
    template = recipe.parsed_template()
    if recipe.tune != "frozen" or recipe.augment:
        raise RecipeError(
            "demonstrations are for a frozen model and texts as they are", where="icl", fix="leave tune and augment out"
        )
    for key in ("patience", "keep_candidates"):
        if getattr(recipe, key) not in (None, "ensemble"):
            raise RecipeError(
                "the validation rows judge demonstrations, and choose nothing in a training", where=key, fix="leave it out"
            )
    if not any(isinstance(node, Demos) for node in template.nodes):
        raise RecipeError(
            "the template has no place for demonstrations", where="template", fix='write "{demos}{text} It was{mask}"'
        )
