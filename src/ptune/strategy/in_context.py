"""In-context learning: nothing is trained, the model reads a few labelled texts in front of each new one.

In: a recipe with `method: hard` and a template with `{demos}`. Out: a `Task` for each set of demonstrations, and what they say
together. Demonstrations become hard words of the template, so that the engine computes them once for all texts, the calibration
sees them too, and the bundle holds them. Sources: Brown et al. 2020; Zhao et al. 2021 (balance, order, contextual calibration).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from ptune.backbone import load_backbone
from ptune.data import Example
from ptune.errors import RecipeError
from ptune.model import judge_scores
from ptune.objective import Report
from ptune.recipe import Recipe, read_splits, run
from ptune.task import Task, as_classifier
from ptune.template import Demos, FieldSegment, MaskSegment, Template, Text, TextSegment

__all__ = ["InContext", "InContextSettings", "choose_demos", "demo_text", "run_in_context", "with_demos"]

Order = Literal["shuffled", "by-label", "alternating"]
_QUERY_TOKENS = 256


class InContextSettings(BaseModel):
    """The section `icl:` of a recipe.

    Args:
        per_label: demonstrations of each label.
        order: `shuffled` with the seed, `by-label`, or `alternating` labels.
        sets: sets of demonstrations, each drawn with a seed of its own; the mean of their probabilities is judged too.
        separator: text between demonstrations, and between them and the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_label: int = Field(default=4, ge=1)
    order: Order = "shuffled"
    sets: int = Field(default=1, ge=1)
    separator: str = "\n\n"


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
    """Chooses demonstrations among the training rows and judges them.

    Args:
        recipe: with `method: hard` and `{demos}` in its template; without a `calibration` of its own it takes `contextual`.
        settings: its section `icl`.
        say: told what happens.

    Raises:
        RecipeError: another kind of task or method, or no place for the demonstrations.
        DataError: a label with too few rows.
    """
    _check(recipe)
    splits = read_splits(recipe)
    judged = splits.test or splits.validation
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    words = {name: listed[0] for name, listed in recipe.verbalizer().words.items()}
    tasks: list[Task] = []
    reports: list[Report] = []
    each: list[torch.Tensor] = []
    for number in range(settings.sets):
        chosen = choose_demos(splits.train, recipe.label_names(), settings.per_label, recipe.seed + number, settings.order)
        template = recipe.parsed_template()
        text = settings.separator.join(demo_text(template, example, words) for example in chosen)
        whole = with_demos(template, text + settings.separator)
        task = run(_with_demos(recipe, whole, backbone, len(backbone.tokens.ids(text)), splits.train))
        model = as_classifier(task)
        tasks.append(task)
        if judged:
            scores = model.scores(model.prepare(judged))
            reports.append(judge_scores(model, judged, scores))
            say(f"set {number + 1} of {settings.sets}: {len(chosen)} demonstrations, accuracy {reports[-1].accuracy:.3f}")
            each.append(torch.softmax(scores, 1))
    if not each:
        return InContext(tuple(tasks))
    joined = judge_scores(as_classifier(tasks[0]), judged, torch.stack(each).mean(0).clamp(min=1e-12).log())
    return InContext(tuple(tasks), tuple(reports), joined)


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
    from ptune.data import LabelSet, sample_shots

    drawn = sample_shots(examples, per_label, seed=seed, labels=LabelSet(tuple(labels)))
    of_label = [[example for example in drawn if example.label == name] for name in labels]
    if order == "by-label":
        return tuple(example for group in of_label for example in group)
    if order == "alternating":
        return tuple(group[number] for number in range(per_label) for group in of_label)
    shuffled = list(drawn)
    random.Random(seed).shuffle(shuffled)
    return tuple(shuffled)


def demo_text(template: Template, example: Example, words: dict[str, str]) -> str:
    """One demonstration: the template with the example's texts, and its label's word in the answer slot.

    Args:
        template: with or without `{demos}`, which is left out.
        example: labelled.
        words: label to the word that stands for it.
    """
    assert example.label is not None
    word = words[example.label]
    parts: list[str] = []
    for segment in _without_demos(template).render(example.fields):
        match segment:
            case TextSegment(text) | FieldSegment(text):
                parts.append(text)
            case MaskSegment():
                parts.append(_without_demos(template).word_prefix(word) + word)
    return "".join(parts)


def with_demos(template: Template, text: str) -> Template:
    """The template with these words in the place of `{demos}`."""
    return Template(tuple(Text(text) if isinstance(node, Demos) else node for node in template.nodes))


def _without_demos(template: Template) -> Template:
    return Template(tuple(node for node in template.nodes if not isinstance(node, Demos)))


def _with_demos(recipe: Recipe, template: Template, backbone: Any, num_tokens: int, rows: Sequence[Example]) -> Recipe:
    """The recipe that reads the demonstrations as words of its template; its texts keep their room beside them."""
    room = num_tokens + (recipe.max_length or _QUERY_TOKENS)
    limit = backbone.spec.max_positions
    changed = {
        "template": template,
        "backbone": backbone,
        "max_length": room if limit is None else min(room, limit),
        "train": tuple(rows),
        **dict.fromkeys(("shots", "hold_out", "validation", "test", "patience", "dtype", "device", "text_start")),
    }
    if "calibration" not in recipe.model_fields_set and recipe.prior == "correct":
        changed["calibration"] = "contextual"
    values = {key: getattr(recipe, key) for key in recipe.model_fields_set}
    return Recipe.of({**values, **changed}, where="icl")


def _check(recipe: Recipe) -> None:
    if recipe.task != "classification" or recipe.head is not None:
        raise RecipeError(
            "in-context learning is for classification by label words", where="task", fix="leave task and head out"
        )
    template = recipe.parsed_template()
    if template.has_soft:
        raise RecipeError("in-context learning trains nothing", where="template", fix="take {soft} out and set method: hard")
    if not any(isinstance(node, Demos) for node in template.nodes):
        raise RecipeError(
            "the template has no place for demonstrations", where="template", fix='write "{demos}{text} It was{mask}"'
        )
