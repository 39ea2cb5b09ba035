"""Several masks against brute force on plain models: products over masks, what stands between them, files, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

import ptune
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.inputs import field_tokens, lay_out_filled, lay_out_hidden, trunk_start
from ptune.model import PromptModel
from ptune.readout import Verbalizer
from ptune.recipe import Recipe, build_model, check_recipe, plan_recipe, read_splits
from ptune.strategy import InContextSettings, run_in_context, search_labels, search_template
from ptune.template import Template
from tiny import tiny_backbone, tiny_model

TEMPLATE = "{soft:2} {text} . The{mask} was{mask} ."
BETWEEN = "{text}{soft:2} The{mask} of {other} was{mask} ."
LABELS = {"film": ["film", "good"], "bad film": ["film", "bad"], "food": ["food", "good"]}
LONG = {"film": ["film", "disappointing"], "bad film": ["mediocre", "bad"], "food": ["food", "good"]}
ROWS = [
    Example({"text": "I like this place", "other": "the day"}, "film"),
    Example({"text": "It was bad", "other": "a great story"}, "food"),
    Example({"text": "What a day !", "other": "it"}, "bad film"),
]


def build(kind: str, template: str = TEMPLATE, labels: Any = LABELS, *, length: Any = "sum", **more: Any) -> PromptModel:
    verbalizer = Verbalizer.parse(labels, length=length, num_slots=template.count("{mask}"))
    method = {"name": "p-tuning", "init": "random"}
    return PromptModel.build(backbone=tiny_backbone(kind), template=template, labels=verbalizer, method=method, seed=1, **more)


@torch.no_grad()
def plain_logits(kind: str, model: PromptModel, row: Any, parts: Any) -> Tensor:
    """[S, V] of a row with these tokens in its two slots, by one plain forward pass."""
    first, second = row.slots
    ids = [*row.ids[:first], *parts[0], *row.ids[first:second], *parts[1], *row.ids[second:]]
    gap = [[-1] * len(part) for part in parts]
    soft = [*row.soft[:first], *gap[0], *row.soft[first:second], *gap[1], *row.soft[second:]]
    rows, plain = model.prompt().rows, tiny_model(kind)
    assert rows is not None
    table = plain.get_input_embeddings()
    vectors = torch.stack([table(torch.tensor(i)) if s < 0 else rows[s] for i, s in zip(ids, soft, strict=True)])
    logits: Tensor = plain(inputs_embeds=vectors[None]).logits[0]
    return logits


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_label_is_the_product_of_its_words_at_the_masks(kind: str) -> None:
    """As PTR has it: at each mask a softmax over the words that are used at this mask."""
    labels = {"a": ["good", "good"], "b": ["good", "bad"], "c": ["great", "good"], "d": ["bad", "great"]}
    model = build(kind, labels=labels)
    assert model.answers is not None
    mask = model.backbone.tokens.slot_ids
    words = [model.answers.parts(number) for number in range(4)]
    assert all(len(part) == 1 for word in words for part in word)
    expected = []
    for row in model.prepare(ROWS).encoded:
        logits = plain_logits(kind, model, row, (mask, mask))
        product = torch.ones(4)
        for number, place in enumerate((row.slots[0], row.slots[1] + 1)):
            own = [word[number][0] for word in words]
            used = sorted(set(own))
            probabilities = torch.softmax(logits[place, used], 0)
            product = product * torch.stack([probabilities[used.index(token)] for token in own])
        expected.append(product / product.sum())
    torch.testing.assert_close(torch.softmax(model.scores(model.prepare(ROWS)), 1), torch.stack(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fill", ["parallel", "chain", "pet"])
@pytest.mark.parametrize("length", ["sum", "mean"])
def test_words_of_several_tokens_have_as_many_masks(fill: Any, length: Any) -> None:
    model = build("bert", labels=LONG, fill=fill, length=length)
    assert model.answers is not None
    mask = model.backbone.tokens.slot_ids[0]
    scores = model.scores(model.prepare(ROWS))
    for number, row in enumerate(model.prepare(ROWS).encoded):
        for word in range(3):
            flat, parts = model.answers.ids[word], model.answers.parts(word)
            places = [row.slots[0] + at for at in range(len(parts[0]))]
            places += [row.slots[1] + len(parts[0]) + at for at in range(len(parts[1]))]
            shown, total, left = [mask] * len(flat), 0.0, list(range(len(flat)))
            while left:
                logs = torch.log_softmax(plain_logits("bert", model, row, model.answers.parts(word, shown)), -1)
                each = {at: float(logs[places[at], flat[at]]) for at in left}
                done = {"parallel": left, "chain": left[:1], "pet": [max(left, key=each.__getitem__)]}[fill]
                total += sum(each[at] for at in done)
                for at in done:
                    shown[at] = flat[at]
                left = [at for at in left if at not in done]
            assert float(scores[number, word]) == pytest.approx(total / (len(flat) if length == "mean" else 1), rel=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("labels", [LABELS, LONG])
def test_a_causal_model_reads_each_word_behind_those_before_it(kind: str, labels: Any) -> None:
    """A label's score is the probability of all that stands behind the first mask's left side, texts between included."""
    model = build(kind, BETWEEN, labels)
    assert model.answers is not None
    whole, kept = model.prepare(ROWS), model.prepare(ROWS, keep_context=True)
    scores = model.scores(whole)
    for number, row in enumerate(whole.encoded):
        for word in range(3):
            parts = model.answers.parts(word)
            logs = torch.log_softmax(plain_logits(kind, model, row, parts), -1)
            first, second = row.slots
            ids = [*row.ids[:first], *parts[0], *row.ids[first:second], *parts[1], *row.ids[second:]]
            total = sum(float(logs[at - 1, ids[at]]) for at in range(first, len(ids)))
            assert float(scores[number, word]) == pytest.approx(total, rel=1e-4)
    torch.testing.assert_close(model.scores(kept), scores, rtol=1e-4, atol=1e-4)


def test_two_masks_of_a_causal_model_are_one_with_the_whole_phrase() -> None:
    both = build("gpt2", "{text}{soft:2} The{mask} was{mask}")
    one = PromptModel.build(
        backbone=tiny_backbone("gpt2"),
        template="{text}{soft:2} The{mask}",
        labels=Verbalizer.parse({name: f"{first} was {second}" for name, (first, second) in LABELS.items()}, length="sum"),
        method={"name": "p-tuning", "init": "random"},
        seed=1,
    )
    torch.testing.assert_close(both.scores(both.prepare(ROWS)), one.scores(one.prepare(ROWS)), rtol=1e-4, atol=1e-5)


def test_hidden_tokens_stand_where_they_stood_beside_filled_masks() -> None:
    """Label conditioning fills all masks; tokens behind them move on."""
    model = build("bert", "{soft:1} The{mask} was{mask} : {text}", LONG)
    assert model.answers is not None
    row, tokens = model.prepare(ROWS).encoded[0], model.backbone.tokens
    own = field_tokens(row)
    for word in range(3):
        batch = lay_out_hidden([row], [model.answers.parts(word)], [own], tokens)
        (shown,) = batch.live.ids.tolist()
        assert batch.reads.item_token is not None and batch.reads.item_token.tolist() == [row.ids[at] for at in own]
        assert [shown[at] for at in batch.reads.position.tolist()] == [tokens.slot_ids[0]] * len(own)
        assert shown.count(tokens.slot_ids[0]) == len(own) and len(shown) == len(row) + len(model.answers.ids[word])


def words(kind: str, **more: Any) -> dict[str, Any]:
    rows = [{"text": f"{text} {what}", "label": f"{text} {what}"} for text in ("good", "bad") for what in ("film", "food")] * 2
    labels = {f"{text} {what}": [what, text] for text in ("good", "bad") for what in ("film", "food")}
    given = {"train": rows, "labels": labels, "template": "{text}{soft:2} . The{mask} was{mask}"}
    return {**given, "backbone": tiny_backbone(kind), "steps": 30, "learning_rate": 0.1, **more}


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_run_learns_saves_and_loads(kind: str, tmp_path: Any) -> None:
    task = ptune.fit(**words(kind))
    assert task.facts["training"]["last_loss"] < 0.9 * task.facts["training"]["first_loss"]
    again = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    texts = ["good film", "bad food", "bad film"]
    assert again.predict(texts) == task.predict(texts)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("bert", {"label_loss": "decoupled", "label_conditioning": 1.0}),
        ("gpt2", {"label_loss": "decoupled", "candidates": 2}),
        ("gpt2", {"template": "{text} . The{mask} was{mask}", "learn": "words", "folds": 2}),
        ("bert", {"calibration": "contextual", "temperature": True, "hold_out": 1}),
    ],
)
def test_what_goes_with_one_mask_goes_with_two(kind: str, keys: dict[str, Any]) -> None:
    task = ptune.fit(**words(kind, steps=3, **keys))
    assert sum(task.predict(["good film"])[0].probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_plan_counts_all_that_is_read(kind: str) -> None:
    recipe = Recipe.of(words(kind))
    counted = plan_recipe(recipe).to_dict()
    model: Any = build_model(recipe, recipe.backbone, read_splits(recipe))
    rows = model.prepare(read_splits(recipe).train)
    own = sum(int(model.lay_out(rows, [number]).live.mask.sum()) for number in range(len(rows))) / len(rows)
    assert counted["training"]["plain"]["live_tokens"] == pytest.approx(own)


BEHIND = "{text}{soft:2} It was{mask} of {other}"
WITHIN = {
    "between": (BETWEEN, LONG),
    "between, words of one token": (BETWEEN, LABELS),
    "behind": (BEHIND, {"film": "good day", "bad film": "mediocre", "food": "good film"}),
    "behind, words of one token": (BEHIND, {"film": "good", "bad film": "bad", "food": "food"}),
}


@pytest.mark.parametrize("fill", ["parallel", "chain", "pet"])
@pytest.mark.parametrize(("template", "labels"), WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_batches_are_filled_by_all_that_is_laid_out(kind: str, template: str, labels: Any, fill: Any) -> None:
    """The text between and behind the slots too, once for each branch or row; of masks filled one by one, those of a pass."""
    model: Any = build(kind, template, labels, fill=fill)
    rows, tokens = model.prepare(ROWS), model.backbone.tokens
    laid_out = [model.lay_out(rows, [number]) for number in range(len(ROWS))]
    if fill == "pet" and kind == "bert" and not model.answers.single:
        laid_out = [lay_out_filled(batch.rows, model.answers, tokens, lambda *at: False) for batch in laid_out]
    assert model.live_lengths(rows) == [int(batch.live.mask.sum()) for batch in laid_out]
    if kind == "gpt2":
        kept = model.prepare(ROWS, keep_context=True)
        skipped = [trunk_start(row) for row in kept.encoded]
        own = [int(model.lay_out(kept, [at], skip=[skip]).live.mask.sum()) for at, skip in enumerate(skipped)]
        assert min(skipped) > 0 and model.live_lengths(kept) == own


def test_what_is_for_one_mask_says_so() -> None:
    recipe = Recipe.of({**words("bert"), "method": "hard", "template": "{text} . The{mask} was{mask}"})
    with pytest.raises(PtuneError, match="around one answer slot"):
        search_template(recipe)
    with pytest.raises(PtuneError, match="looked for in one answer slot"):
        search_labels(recipe)
    shown = Recipe.of({**words("bert"), "method": "hard", "template": "{demos}{text} . The{mask} was{mask}"})
    with pytest.raises(PtuneError, match="demonstrations fill one answer slot"):
        run_in_context(shown, InContextSettings(per_label=1))


def test_a_bundle_from_before_there_were_several_masks_is_read() -> None:
    kept = {"words": {"a": ["x"], "b": ["y"]}, "weights": None, "aggregate": "mean", "length": "auto", "terminator": ""}
    assert Verbalizer.from_dict(kept).num_slots == 1


def test_the_check_shows_each_word_at_its_mask() -> None:
    found = check_recipe(Recipe.of(words("bert", template="{text}{soft:2} . The{mask} was{mask} .")), num_rows=1)
    assert found.num_errors == 0
    assert [piece.source for piece in found.rows[0].pieces].count("answer") == 2
    assert [word.text for word in found.words[:2]] == [" film", " good"]
    assert any("each label needs a word for each of them" in finding.message for finding in found.findings)


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("t5", {}, "one text for one {mask}"),
        ("bert", {"labels": {"good film": ["film"], "bad film": ["film", "bad"]}}, "'good film' has 1 of 2 words"),
        ("bert", {"labels": {"a": "film", "b": "food"}}, "'a' has 1 of 2 words"),
        ("bert", {"labels": {"a": {"film": 1, "good": 2}, "b": ["food", "bad"]}}, "'a' has no list of 2 words"),
        ("bert", {"labels": {"a": ["film", ""], "b": ["food", "bad"]}}, "'' is no label word"),
        ("bert", {"labels": {"a": ["film", "bad"], "b": ["film", "bad"]}}, "'a' and 'b' have the same words"),
        ("gpt2", {"labels": {"a": ["film", "not"], "b": ["film", "not bad"]}}, "is the beginning of"),
        ("bert", {"head": "linear", "pool": "mask", "labels": ["a", "b"]}, "2 answer slots"),
        ("bert", {"head": "vectors"}, "2 answer slots"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, changes: dict[str, Any], says: str) -> None:
    given = words(kind, **changes)
    names = list(given["labels"])
    given["train"] = [{"text": "a film", "label": name} for name in names]
    with pytest.raises(PtuneError, match=says):
        ptune.fit(**given)


@pytest.mark.parametrize(
    ("num_slots", "template", "says"),
    [
        (1, TEMPLATE, "2 answer slots"),
        (2, "{soft:2} {text}{mask}{mask}{mask}", "3 answer slots for 2"),
        (3, TEMPLATE, "no mask"),
    ],
)
def test_words_for_some_masks_are_not_words_for_others(num_slots: int, template: str, says: str) -> None:
    words = {name: [name] * num_slots for name in ("good", "bad")}
    labels = Verbalizer.parse(words, num_slots=num_slots)
    with pytest.raises(PtuneError, match=says):
        PromptModel.build(backbone=tiny_backbone("bert"), template=Template.parse(template), labels=labels)


def test_each_mask_has_its_own_white_space() -> None:
    template = Template.parse("{text} It was{mask}，很{mask}\n{mask}")
    assert [template.word_prefix("good", number) for number in range(3)] == [" ", "", ""]
    assert [template.word_prefix("好", number) for number in range(3)] == ["", "", ""]
    assert [len(template.before_mask(number)) for number in range(4)] == [2, 4, 6, 7]


def test_masks_side_by_side_are_filled_in_order() -> None:
    """As the two characters of a Chinese word, one mask each (FewCLUE's P-tuning): the word of two tokens in one mask."""
    labels = {"很 好": ["很", "好"], "不 差": ["不", "差"]}
    two = PromptModel.build(backbone=tiny_backbone("bert"), template="{text} 我{mask}{mask} 。", labels=labels, method="hard")
    words = {name: ["".join(parts)] for name, parts in labels.items()}
    one = PromptModel.build(backbone=tiny_backbone("bert"), template="{text} 我{mask} 。", labels=words, method="hard")
    assert two.answers is not None and one.answers is not None and two.answers.ids == one.answers.ids
    torch.testing.assert_close(two.scores(two.prepare(ROWS)), one.scores(one.prepare(ROWS)))
