"""Which part of a row is computed when: what a run keeps, what that costs and gains, what would be cheaper.

In: a recipe. Out: `Plan`: training and inference as `Phase`s, memory of kept contexts, and hints. A hint's factor comes from
planning the changed recipe in the same way. The formula of the costs stands in `ptune.recipe.cost`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from ptune.backbone import Backbone, load_backbone
from ptune.model import Prepared, PromptModel
from ptune.prompt import DeepConfig, parse_method
from ptune.recipe.classifier import build_classifier
from ptune.recipe.cost import computed, num_parameters
from ptune.recipe.fit import Splits, read_splits
from ptune.recipe.folds import with_folds
from ptune.recipe.keeping import Keeping, decide_keeping, decide_validation, memory_for_contexts
from ptune.recipe.phases import Phase, plan_inference, plan_training
from ptune.recipe.recipe import Recipe

__all__ = ["Plan", "plan_recipe"]

_NUM_ROWS = 64
_WORTH_A_HINT = 1.05


@dataclass(frozen=True)
class Plan:
    """What `plan_recipe` found.

    Args:
        template: with the method's own learned tokens in it.
        backbone, kind: the model.
        num_parameters: of the backbone, without embeddings.
        num_rows, num_train_rows: training rows that were counted, and that there are.
        num_validation_rows: that every look reads.
        training: None where nothing learns.
        inference: with the trained task.
        contexts: what becomes of the training texts' contexts.
        validation_contexts: what becomes of the validation texts', which take what those leave; None where none are kept.
        hints: what would be cheaper, or should be known.
    """

    template: str
    backbone: str
    kind: str
    num_parameters: int
    num_rows: int
    num_train_rows: int
    num_validation_rows: int
    training: Phase | None
    inference: Phase
    contexts: Keeping
    validation_contexts: Keeping | None = None
    hints: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        phases = {"training": None if self.training is None else self.training.to_dict(), "inference": self.inference.to_dict()}
        return {**asdict(self), **phases, "hints": list(self.hints)}


@dataclass(frozen=True)
class _Planned:
    """A recipe's phases with what they were taken from; `counted` are some of all `rows`."""

    model: PromptModel
    rows: Prepared
    counted: Prepared
    keeping: Keeping
    training: Phase | None
    inference: Phase


def plan_recipe(recipe: Recipe) -> Plan:
    """Plans a run on up to 64 of its training rows; what is kept is decided by all of them.

    Args:
        recipe: checked by `Recipe.of`.

    Raises:
        PtuneError: whatever would keep the run from beginning.
    """
    splits = read_splits(recipe)
    recipe = with_folds(recipe, splits.train, splits.validation)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    planned = _planned(recipe, backbone, splits)
    return Plan(
        template=str(planned.model.template),
        backbone=backbone.spec.name,
        kind=backbone.kind,
        num_parameters=sum(num_parameters(backbone)),
        num_rows=len(planned.counted),
        num_train_rows=len(planned.rows),
        num_validation_rows=len(splits.validation),
        training=planned.training,
        inference=planned.inference,
        contexts=planned.keeping,
        validation_contexts=_validation_contexts(recipe, splits, planned),
        hints=tuple(_hints(recipe, backbone, splits, planned)),
    )


def _planned(recipe: Recipe, backbone: Backbone, splits: Splits) -> _Planned:
    model = build_classifier(recipe, backbone, splits)
    rows = model.prepare(splits.train)
    step = -(-len(rows) // _NUM_ROWS)
    counted = replace(rows, encoded=rows.encoded[::step], labels=rows.labels[::step])
    keeping = decide_keeping(model, recipe, rows.encoded)
    training = None
    if model.parameter_groups():
        training = plan_training(model, recipe, counted, keeping, len(rows))
    if recipe.num_folds or (recipe.candidates > 1 and recipe.keeps_best(has_validation=bool(splits.validation))):
        model.keep_candidate(0)  # any one: inference costs the same with each
    return _Planned(model, rows, counted, keeping, training, plan_inference(model, counted))


def _validation_contexts(recipe: Recipe, splits: Splits, planned: _Planned) -> Keeping | None:
    """As `ContextKeeper` does it. Folds are judged on training rows, whose contexts are kept already."""
    training = planned.keeping
    if not splits.validation or not training.is_kept:
        return None
    holds_none = training.place == "batch"
    memory = memory_for_contexts(recipe) if holds_none else max(0, training.memory_bytes - training.num_bytes)
    return decide_validation(planned.model, recipe, planned.model.prepare(splits.validation).encoded, memory)


# -- hints -----------------------------------------------------------------------------------------------------------


def _hints(recipe: Recipe, backbone: Backbone, splits: Splits, planned: _Planned) -> Iterator[str]:
    model, rows = planned.model, planned.rows
    if backbone.kind != "decoder":
        yield (
            f"{backbone.spec.name} is an {backbone.kind}: each token of the text sees the learned ones, so all of it is "
            "computed in each step; a causal model would keep what stands in front of them"
        )
    could_keep = isinstance(model.method, DeepConfig) and backbone.takes_plan  # with its learned tokens behind the text
    if planned.training is not None and (could_keep or not model.why_not_keep()):
        yield from _keep_hint(recipe, backbone, splits, planned.training)
        yield from _behind_hint(recipe, backbone, splits, planned.training, planned.inference)
    if backbone.kind == "decoder" and model.answers is not None:
        yield from _tail_hint(planned)
    if rows.num_cut:
        yield f"{rows.num_cut} of {len(rows)} training texts are cut to {model.max_length} tokens (max_length)"


def _keep_hint(recipe: Recipe, backbone: Backbone, splits: Splits, training: Phase) -> Iterator[str]:
    if recipe.keep_context is not False:
        return
    other = _planned(recipe.model_copy(update={"keep_context": "auto"}), backbone, splits)
    if other.training is not None and (factor := _factor(training, other.training)) > _WORTH_A_HINT:
        yield f"keep_context is false; with auto a training step would take {factor:.1f} times fewer FLOPs"


def _behind_hint(recipe: Recipe, backbone: Backbone, splits: Splits, training: Phase, inference: Phase) -> Iterator[str]:
    """Learned tokens in front of the text could stand behind it."""
    changed, how = _soft_behind(recipe)
    if changed is None:
        return
    other = _planned(changed, backbone, splits)
    if other.training is None or (factor := _factor(training, other.training)) <= _WORTH_A_HINT:
        return
    yield (
        f"the learned tokens stand in front of the text, so each step computes all of it; behind it, as in {how}, a training "
        f"step would take {factor:.1f} times fewer FLOPs, a prediction {_factor(other.inference, inference):.2f} times those"
    )


def _soft_behind(recipe: Recipe) -> tuple[Recipe | None, str]:
    """The recipe with its learned tokens behind the text, and how to write that; None where they stand there already."""
    method = parse_method(recipe.method)
    if isinstance(method, DeepConfig):
        if method.placement == "behind":
            return None, ""
        moved = method.model_copy(update={"placement": "behind"})
        return recipe.model_copy(update={"method": moved}), f"method: {{name: {method.name}, placement: behind}}"
    written = recipe.parsed_template()
    complete = recipe.complete_template()
    behind = complete.with_soft_behind()
    if behind == complete:
        return None, ""
    update: dict[str, Any] = {"template": behind}
    how = f"template: {str(behind)!r}"
    if complete != written:  # the method places its tokens itself
        default = Recipe.model_fields["method"].default
        update["method"] = default
        how += f" with method: {default}"
    return recipe.model_copy(update=update), how


def _tail_hint(planned: _Planned) -> Iterator[str]:
    """What stands behind the answer slot of a causal model is computed for each label word."""
    model, rows = planned.model, planned.counted
    ends = [len(row) if row.slot is None else row.slot for row in rows.encoded]
    if all(end == len(row) for end, row in zip(ends, rows.encoded, strict=True)):
        return
    cut = [
        replace(row, ids=row.ids[:end], soft=row.soft[:end], owner=row.owner[:end])
        for row, end in zip(rows.encoded, ends, strict=True)
    ]
    without = replace(rows, encoded=tuple(cut))
    whole, short = (
        sum(computed(model, given, number, 0).all_rows for number in range(len(rows))) / len(rows) for given in (rows, without)
    )
    num_words = len(model.answers or ())
    yield (
        f"what stands behind the answer slot is computed for each of the {num_words} label words: {whole - short:.1f} tokens "
        "an example; `ptune template check` shows a cheaper template"
    )


def _factor(now: Phase, then: Phase) -> float:
    return now.cost.flops / then.cost.flops
