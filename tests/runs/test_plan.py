"""The plan against what the engine really computes: tokens that enter the layers, in training and in prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from ptune.errors import BackboneError
from ptune.model import Prepared, PromptModel
from ptune.recipe import Plan, Recipe, build_model, plan_recipe, read_splits
from ptune.recipe.cost import num_parameters
from ptune.recipe.keeping import decide_keeping, storage
from ptune.recipe.phases import Phase
from ptune.template import Template
from tiny import DECODERS, ENCODER_DECODERS, ENCODERS, EXAMPLES, POSITIONS, WIDTH, tiny_backbone, tiny_model

ROWS = [{"text": example.fields["text"], "label": example.label} for example in EXAMPLES]
SINGLE = {"yes": ["great"], "no": ["bad"]}
SEVERAL = {"yes": ["great", "wonderful"], "no": ["bad", "disappointing"]}
BEHIND = "It says : {text}{soft:3} It was{mask}"
FRONT = "{soft:5} It says : {text} It was{mask}"
TAIL = "{text}{soft:2} It was {mask} for me"
TEMPLATES = {"behind": BEHIND, "front": FRONT, "tail": TAIL, "soft behind the slot": "All in all {text} it is {mask}{soft:2}"}


def recipe_of(kind: str, **words: Any) -> Recipe:
    return Recipe.of({"train": ROWS, "template": BEHIND, "labels": SINGLE, "backbone": tiny_backbone(kind), **words})


@contextmanager
def tokens_entering(model: PromptModel) -> Iterator[list[int]]:
    """Tokens that enter the stack that reads the text, and then those of an encoder-decoder's decoder."""
    counts = [0, 0]
    own = model.backbone.model

    def count_text(module: Any, args: Any, given: dict[str, Any]) -> None:
        mask = given.get("attention_mask")  # where an example has rows of its own that differ in length
        counts[0] += given["inputs_embeds"].shape[:2].numel() if mask is None else int(mask.sum())

    def count_decoder(module: Any, args: Any, given: dict[str, Any]) -> None:
        counts[1] += given["input_ids"].numel()

    if model.backbone.kind == "encoder-decoder":
        hooks = [own.get_decoder().register_forward_pre_hook(count_decoder, with_kwargs=True)]
        stack = own.get_encoder()
    else:
        hooks, stack = [], own.base_model
    hooks.append(stack.register_forward_pre_hook(count_text, with_kwargs=True))
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def computed_in_training(recipe: Recipe) -> tuple[float, float, PromptModel]:
    """Mean tokens of a training row, each by itself so that nothing is padded, as a run prepares them."""
    splits = read_splits(recipe)
    model = build_model(recipe, recipe.backbone, splits)
    rows = model.prepare(splits.train)
    if decide_keeping(model, recipe, rows.encoded).is_kept:
        rows = model.prepare(splits.train, keep_context=True, **storage(recipe))
    assert model.backbone.reads_where_needed in (True, False)  # its trial comes first
    with tokens_entering(model) as counts, torch.no_grad():
        for number in range(len(rows)):
            model(model.batch(rows, [number]))
    shared = tokens_read_once(model, rows)
    return (counts[0] - (len(rows) - 1) * shared) / len(rows), counts[1] / len(rows), model


def tokens_read_once(model: PromptModel, rows: Prepared) -> int:
    """Of a step on all rows: what enters in a row by itself."""
    alone = [0]

    def note(module: Any, args: Any, given: dict[str, Any]) -> None:
        alone[0] += given["inputs_embeds"].shape[1] if len(given["inputs_embeds"]) == 1 else 0

    if model.backbone.kind != "decoder":
        return 0
    hook = model.backbone.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    model(model.batch(rows, range(len(rows))))
    hook.remove()
    return alone[0]


def computed_in_prediction(model: PromptModel, recipe: Recipe) -> tuple[float, float]:
    """Mean tokens of a row that is scored, without those that are computed once for the task."""
    rows = model.prepare(read_splits(recipe).train)
    model.scores(rows, batch_size=1)  # the lead is computed here
    with tokens_entering(model) as counts:
        model.scores(rows, batch_size=1)
    return counts[0] / len(rows), counts[1] / len(rows)


def check(recipe: Recipe) -> Plan:
    plan = plan_recipe(recipe)
    live, decoder, model = computed_in_training(recipe)
    assert plan.training is not None
    assert (plan.training.cost.live_tokens, plan.training.cost.decoder_tokens) == pytest.approx((live, decoder))
    if recipe.candidates > 1 and recipe.keeps_best(has_validation=recipe.hold_out is not None):
        model.keep_candidate(0)
    assert (plan.inference.cost.live_tokens, plan.inference.cost.decoder_tokens) == pytest.approx(
        computed_in_prediction(model, recipe)
    )
    for phase in (plan.training, plan.inference):
        cost = phase.cost
        total = sum(segment.tokens for segment in phase.segments if segment.decision == "live") * phase.num_candidates
        once = sum(segment.tokens for segment in phase.segments if segment.decision == "once for a batch")
        total += once / len(ROWS)
        assert total == pytest.approx(cost.live_tokens + cost.decoder_tokens)
    return plan


def decisions(phase: Phase) -> list[tuple[str, str]]:
    return [(segment.name, segment.decision) for segment in phase.segments]


@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one token", "several tokens"])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("kind", DECODERS)
def test_live_tokens_of_causal_models(kind: str, template: str, labels: dict[str, list[str]]) -> None:
    check(recipe_of(kind, template=template, labels=labels))


@pytest.mark.parametrize("fill", ["parallel", "chain", "pet"])
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one token", "several tokens"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_live_tokens_of_encoders(kind: str, labels: dict[str, list[str]], fill: str) -> None:
    plan = check(recipe_of(kind, template=FRONT, labels=labels, fill=fill))
    assert {segment.decision for segment in plan.inference.segments} == {"live"} and plan.contexts.place == "nowhere"
    assert all("causal" in segment.reason for segment in plan.inference.segments if segment.name == "field text")
    assert "each token of the text sees the learned ones" in plan.hints[0]


@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one token", "several tokens"])
@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_live_tokens_of_encoder_decoders(kind: str, labels: dict[str, list[str]]) -> None:
    plan = check(recipe_of(kind, template=BEHIND, labels=labels))
    assert ("decoder", "live") in decisions(plan.inference) and "encoder-decoder" in plan.hints[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"keep_context": False},
        {"keep_context": True, "template": FRONT},
        {"tune": "lm"},
        {"tune": "lm-head"},
        {"method": "prompt-tuning", "template": "{text} It was{mask}"},
        {"method": {"name": "prompt-tuning", "placement": "front"}, "template": "It says : {text} It was{mask}"},
        {"head": "linear", "labels": ["yes", "no"], "template": "It says : {text}{soft:3}"},
        {"head": "linear", "pool": "mean", "labels": ["yes", "no"], "template": "It says : {text}{soft:3}"},
        {"candidates": 3},
        {"candidates": 3, "template": FRONT, "labels": SEVERAL},
        {"candidates": 3, "keep_candidates": "best", "hold_out": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_live_tokens_under_other_settings(kind: str, settings: dict[str, Any]) -> None:
    check(recipe_of(kind, **settings))


def test_decisions_behind_the_text() -> None:
    plan = plan_recipe(recipe_of("llama", template="It says :{text}{soft:3} It was{mask}"))
    assert plan.training is not None and plan.contexts.place == "memory"
    assert decisions(plan.training) == [
        ("special token", "constant per example"),
        ("template words", "constant per example"),
        ("field text", "constant per example"),
        ("learned tokens", "live"),
        ("template words", "live"),
        ("answer slot", "live"),
    ]
    assert decisions(plan.inference) == [
        ("special token", "constant for the task"),
        ("template words", "constant for the task"),
        ("field text", "live"),
        ("learned tokens", "live"),
        ("template words", "live"),
        ("answer slot", "live"),
    ]


def test_a_beginning_that_differs_between_rows_is_live() -> None:
    """A space in front of the text is a token of its own where the text is Chinese, and part of the first word elsewhere."""
    shared, differs = plan_recipe(recipe_of("llama")).inference.segments[1:3]
    assert (shared.name, shared.decision) == ("template words", "constant for the task")
    assert (differs.name, differs.decision) == ("template words", "live") and "not the same in all rows" in differs.reason


def test_decisions_in_front_of_the_text_and_the_hint() -> None:
    recipe = recipe_of("llama", template=FRONT)
    plan = plan_recipe(recipe)
    assert plan.training is not None
    assert decisions(plan.training)[:4] == [
        ("special token", "once for a batch"),
        ("learned tokens", "once for a batch"),
        ("template words", "once for a batch"),
        ("template words", "live"),
    ]
    assert {decision for _, decision in decisions(plan.training)[3:]} == {"live"}
    assert "1.0 tokens a row" in plan.contexts.reason
    assert decisions(plan.inference)[:3] == [
        ("special token", "constant for the task"),
        ("learned tokens", "constant for the task"),
        ("template words", "constant for the task"),
    ]
    (hint,) = plan.hints
    behind = "It says : {text}{soft:5} It was{mask}"
    other = plan_recipe(recipe_of("llama", template=behind))
    assert other.training is not None and not other.hints
    assert behind in hint and f"{plan.training.cost.flops / other.training.cost.flops:.1f} times fewer" in hint


def test_the_hint_for_a_method_that_places_its_tokens_itself() -> None:
    (hint,) = plan_recipe(
        recipe_of("gpt2", method={"name": "prompt-tuning", "num_tokens": 4}, template="{text} It was{mask}")
    ).hints
    assert "{text}{soft:4} It was{mask}" in hint and "with method: p-tuning" in hint


def test_learned_tokens_that_a_step_reads_once_get_no_hint_to_move() -> None:
    """Twenty of them, once for five short texts, are less than twenty behind each."""
    plan = plan_recipe(recipe_of("gpt2", method="prompt-tuning", template="{text} It was{mask}"))
    assert plan.training is not None and not plan.hints
    assert ("learned tokens", "once for a batch") in decisions(plan.training)


def test_learned_keys_in_front_get_the_hint_that_they_could_stand_behind() -> None:
    method = {"name": "p-tuning-v2", "num_tokens": 4}
    template = "It says : {text} It was{mask}"
    plan = plan_recipe(recipe_of("llama", template=template, method=method))
    other = plan_recipe(recipe_of("llama", template=template, method={**method, "placement": "behind"}))
    assert "in front of the whole text" in plan.training.segments[0].reason
    assert any(segment.decision == "constant per example" for segment in other.training.segments)
    factor = plan.training.cost.flops / other.training.cost.flops
    (hint,) = [hint for hint in plan.hints if "stand in front" in hint]
    assert "placement: behind" in hint and f"{factor:.1f} times fewer" in hint
    assert not [hint for hint in other.hints if "stand in front" in hint]


@pytest.mark.parametrize(
    ("written", "behind"),
    [
        ("{soft:8} {text} It was{mask}", "{text}{soft:8} It was{mask}"),
        ('{soft:"Review"}{text}{mask}', '{text}{soft:"Review"}{mask}'),
        ("A:{soft:2} {a}{soft:3}{b}. {mask} {c}", "A: {a} {b}{soft:2}{soft:3}. {mask} {c}"),
        ("{soft:2 id=x}{text} and{soft:2 id=x}{mask}", "{text}{soft:2 id=x} and{soft:2 id=x}{mask}"),
        ("{text}{soft:2}{mask}", "{text}{soft:2}{mask}"),
        ("{soft:2} It was{mask} {text}", "{soft:2} It was{mask} {text}"),
    ],
)
def test_learned_tokens_move_behind_the_last_field(written: str, behind: str) -> None:
    assert str(Template.parse(written).with_soft_behind()) == behind


def test_hints_on_tails_cut_rows_and_keeping_turned_off() -> None:
    (tail,) = plan_recipe(recipe_of("gpt2", template=TAIL)).hints
    num_behind = len(tiny_backbone("gpt2").tokens.ids(" for me"))  # behind each word; the last one is only predicted
    assert f"each of the 2 label words: {2 * num_behind:.1f} tokens an example" in tail
    (cut,) = plan_recipe(recipe_of("gpt2", max_length=14)).hints
    assert "training texts are cut to 14 tokens" in cut
    (off,) = plan_recipe(recipe_of("gpt2", keep_context=False)).hints
    on = plan_recipe(recipe_of("gpt2")).training
    without = plan_recipe(recipe_of("gpt2", keep_context=False)).training
    assert on is not None and without is not None and f"{without.cost.flops / on.cost.flops:.1f} times fewer" in off


def test_reasons_are_the_engines() -> None:
    trained = plan_recipe(recipe_of("gpt2", tune="lm"))
    assert trained.contexts.reason == "the language model itself is trained" and not trained.hints
    assert trained.inference.segments[0].reason == "the language model itself is trained"
    assert plan_recipe(recipe_of("gpt2", keep_context=False)).contexts.reason == "keep_context is false"
    with pytest.raises(BackboneError, match="contexts cannot be kept: only a causal model"):
        plan_recipe(recipe_of("bert", keep_context=True))


def test_memory_and_the_file() -> None:
    plan = plan_recipe(recipe_of("llama", train=ROWS * 400, context_memory=1))
    kept = plan.contexts
    per_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, size, bytes
    assert kept.place == "file" and kept.num_bytes == per_token * kept.num_tokens and kept.memory_bytes == 1 << 20
    assert plan.num_rows <= 64 and plan.num_train_rows == 2000


def test_operations_are_those_of_the_formula() -> None:
    """Counted by hand: a tiny Llama of two layers, 4 heads, 2 of keys and values, size 8, MLP 48."""
    attention = 2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2
    parameters = 2 * (attention + 3 * WIDTH * 48 + 2 * WIDTH) + WIDTH
    assert num_parameters(tiny_backbone("llama")) == (parameters, 0)
    vocab_size = tiny_model("llama").config.vocab_size
    plan = plan_recipe(recipe_of("llama", batch_size=4, accumulate=2))
    training, inference = plan.training, plan.inference
    assert training is not None
    live, whole = training.cost.live_tokens, training.plain.live_tokens
    assert training.cost.flops == pytest.approx(4 * parameters * live + 4 * WIDTH * 2)
    assert training.plain.flops == pytest.approx(4 * (parameters + WIDTH * vocab_size) * whole)
    assert training.flops_per_step == pytest.approx(8 * training.cost.flops)
    assert inference.cost.flops == pytest.approx(2 * parameters * inference.cost.live_tokens + 2 * WIDTH * 2)
    assert training.gain == pytest.approx(training.plain.flops / training.cost.flops)
    assert f"4 x {parameters:,} non-embedding parameters" in training.formula and "attention not counted" in training.formula
    several = plan_recipe(recipe_of("llama", labels=SEVERAL)).inference
    assert several.cost.output_flops % (2 * WIDTH * vocab_size) == 0 and several.cost.output_flops > 0


def test_what_learns_sets_the_factor() -> None:
    assert plan_recipe(recipe_of("gpt2", tune="lm")).training.formula.startswith("6 x")  # type: ignore[union-attr]
    head = {"head": "linear", "labels": ["yes", "no"], "template": "{text}", "method": "hard"}
    assert plan_recipe(recipe_of("gpt2", **head)).training.formula.startswith("2 x")  # type: ignore[union-attr]
    assert plan_recipe(recipe_of("gpt2", method="hard", template="{text} It was{mask}")).training is None


def test_candidates_are_given_together_and_one_by_one() -> None:
    one, three = plan_recipe(recipe_of("gpt2")).training, plan_recipe(recipe_of("gpt2", candidates=3)).training
    assert one is not None and three is not None
    facts = three.to_dict()
    assert facts["flops_per_example"] == pytest.approx(3 * one.cost.flops)
    assert facts["per_candidate"]["flops_per_example"] == pytest.approx(one.cost.flops) and three.gain == pytest.approx(
        one.gain
    )


def test_a_row_at_the_limit_of_the_positions_is_planned() -> None:
    long = [{"text": "good day " * 60, "label": row["label"]} for row in ROWS]
    plan = check(recipe_of("gpt2", train=long))
    assert plan.training is not None and plan.training.plain.live_tokens <= POSITIONS
