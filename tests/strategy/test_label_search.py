"""Searched label words: figures by hand, assignments against all of them, words of several characters, the resulting text."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import yaml

from ptune.cli import main
from ptune.errors import TemplateError, VerbalizerError
from ptune.model import PromptModel
from ptune.readout import assign_words, log_prior, rank_words
from ptune.recipe import Recipe
from ptune.strategy import SearchSettings, search_labels
from ptune.strategy.label_search import mined_words, vocabulary_scores, vocabulary_words, word_ids
from ptune.template import Template
from tiny import EXAMPLES, tiny_backbone

ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("The film was great", "a good story", "服务很好，我很喜欢", "质量很好，我很喜欢"),
        "bad": ("It was bad", "the plot was bad", "服务很差，我不喜欢", "包装很差，我不喜欢"),
    }.items()
    for text in texts
]


def recipe(kind: str, **keys: Any) -> Recipe:
    words = {"train": ROWS, "labels": {"good": ["a"], "bad": ["b"]}, "method": "hard", "template": "{text} It was{mask}"}
    return Recipe.of({**words, "backbone": tiny_backbone(kind), **keys})


def test_figures_by_hand() -> None:
    log_p = torch.tensor([[-1.0, -2.0, -3.0], [-1.5, -2.0, -1.0], [-3.0, -2.0, -2.0], [-1.2, -2.0, -4.0]])
    ranked = rank_words(log_p, torch.tensor([0, 0, 1, 1]), ["fine", "dull", "odd"], num_classes=2, min_consistency=0.5)
    assert [one.word for one in ranked[0]] == ["odd", "fine"]
    fine = ranked[0][1]
    assert fine.likelihood == pytest.approx(-1.25) and fine.lift == pytest.approx(-1.25 + 2.1)
    assert fine.consistency == 0.75  # three of four pairs
    assert ranked[1] == []  # no word is likelier there


def test_words_of_one_spelling_count_once_and_rare_ones_do_not_count() -> None:
    log_p = torch.tensor([[-1.0, -1.1, -9.0], [-3.0, -3.0, -20.0]])
    ranked = rank_words(log_p, torch.tensor([0, 1]), ["Good", "good", "zzz"], num_classes=2, num_likely=2)
    assert [one.word for one in ranked[0]] == ["Good"]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_two_labels_get_the_best_of_all_assignments(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.arange(24) % num_classes
    log_p = torch.randn(24, 9, generator=generator)
    for number in range(num_classes):
        log_p[labels == number, number * 3 : number * 3 + 3] += 1.0
    ranked = rank_words(log_p, labels, list("abcdefghi"), num_classes=num_classes, min_consistency=0.5)
    chosen, accuracy = assign_words(ranked, log_p, labels)

    def value(columns: tuple[int, ...]) -> float:
        scores = log_p[:, list(columns)]
        return float(((scores - log_prior(scores)).argmax(1) == labels).float().mean())

    every = [tuple(one.column for one in words) for words in product(*ranked)]
    best = max(value(columns) for columns in every if len(set(columns)) == num_classes)
    assert accuracy == pytest.approx(value(tuple(one.column for one in chosen)), abs=1e-5)
    assert accuracy == pytest.approx(best, abs=1e-5) if num_classes == 2 else accuracy >= best - 1 / 24


def test_no_labels_word_begins_anothers() -> None:
    """Word 0 is best for the first label and word 1 for the second, but the one begins the other: a second choice is taken."""
    labels = torch.arange(8) % 2
    log_p = torch.full((8, 3), -5.0)
    log_p[labels == 0, 0] += 2
    log_p[labels == 1, 1] += 2
    log_p[labels == 1, 2] += 1
    ranked = rank_words(log_p, labels, ["很好", "很好看", "差"], num_classes=2)
    assert [one.word for one in assign_words(ranked, log_p, labels)[0]] == ["很好", "很好看"]
    chosen, _ = assign_words(ranked, log_p, labels, tokens=[(4, 5), (4, 5, 6), (7,)])
    assert [one.word for one in chosen] == ["很好", "差"]
    assert [one.word for one in assign_words(ranked, log_p, labels, tokens=[(4, 5, -1), (4, 5, 6, -1), (7, -1)])[0]] == [
        "很好",
        "很好看",
    ]
    with pytest.raises(VerbalizerError, match="are other labels'"):
        assign_words([ranked[0], ranked[1][:1]], log_p, labels, tokens=[(4, 5), (4, 5, 6), (7,)])


def test_a_label_without_a_word_is_an_error() -> None:
    with pytest.raises(VerbalizerError, match="label number 2"):
        assign_words([rank_words(torch.tensor([[0.0], [-1.0]]), torch.tensor([0, 1]), ["a"], num_classes=2)[0], []], *_two())


def _two() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[0.0], [-1.0]]), torch.tensor([0, 1])


@pytest.mark.parametrize("kind", ["gpt2", "bert", "t5"])
def test_vocabulary_scores_are_the_models_own(kind: str) -> None:
    """Against the label-word path: the difference of two words' scores is that of their log-probabilities."""
    model = PromptModel.build(
        backbone=tiny_backbone(kind), template="{text} It was{mask}", labels={"a": "great", "b": "bad"}, method="hard"
    )
    assert model.answers is not None and model.answers.single
    everything = vocabulary_scores(model, EXAMPLES, range(model.backbone.require_output().weight.shape[0]))
    torch.testing.assert_close(everything.exp().sum(1), torch.ones(len(EXAMPLES)), rtol=0, atol=1e-4)
    torch.testing.assert_close(vocabulary_scores(model, EXAMPLES, [9, 3]), everything[:, [9, 3]], rtol=0, atol=0)
    columns = everything[:, [ids[0] for ids in model.answers.ids]]
    scores = model.scores(model.prepare(EXAMPLES))
    torch.testing.assert_close(columns[:, 0] - columns[:, 1], scores[:, 0] - scores[:, 1], rtol=0, atol=1e-4)


def test_text_behind_the_slot_of_a_causal_model_is_refused_and_of_a_masked_one_is_not() -> None:
    with pytest.raises(TemplateError, match=r"behind \{mask\}") as error:
        search_labels(recipe("llama", template="{text} It was{mask} ."))
    assert error.value.fix == "write {mask} last"
    assert search_labels(recipe("bert", template="{text} It was{mask} .")).chosen


def test_runs_of_characters_are_mined_from_texts() -> None:
    found = mined_words(["服务很好，我很喜欢", "质量很好，我很喜欢", "The film 很好"], 9)
    assert "很好" in found and "我很喜欢" in found and "喜欢" not in found  # which never stands without 我很
    assert not any(run.isascii() or "，" in run for run in found)


def test_words_are_of_the_texts_script() -> None:
    tokens = tiny_backbone("gemma3").tokens
    chinese = vocabulary_words(Template.parse("{text}总体{mask}"), tokens, 50, ["服务很好 ok", "我很喜欢"])
    english = vocabulary_words(Template.parse("{text} It was{mask}"), tokens, 50, ["The film was great", "a 好 story"])
    assert chinese and not any(word.isascii() for word in chinese)
    assert "great" in english and all(word.isascii() for word in english)
    assert len(vocabulary_words(Template.parse("{text} It was{mask}"), tokens, 3, ["great"])) == 3


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "bert", "t5"])
def test_words_that_were_found_make_a_recipe(kind: str) -> None:
    found = search_labels(recipe(kind), SearchSettings(min_consistency=0.5, num_likely=400))
    printed = yaml.safe_load(found.to_yaml())
    labels = printed["labels"]
    assert list(labels) == ["good", "bad"] and found.to_yaml().count("lift") >= 2
    again = recipe(kind, **printed)
    scored = PromptModel.build(
        backbone=again.backbone, template=Template.parse("{text} It was{mask}"), labels=again.verbalizer(), method="hard"
    )
    scores = scored.scores(scored.prepare([_example(row) for row in ROWS]))
    assert again.verbalizer().length_rule(scored.answers) == "sum"  # as in the search
    guessed = (scores - log_prior(scores)).argmax(1).tolist()
    right = [("good", "bad")[guess] == row["label"] for guess, row in zip(guessed, ROWS, strict=True)]
    assert sum(right) / len(right) == pytest.approx(found.accuracy)


CHINESE = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("服务很好，我很喜欢", "质量很好，值得买", "电影很好，我很喜欢"),
        "bad": ("服务很差，我不喜欢", "包装很差，我不喜欢", "物流太慢，很差"),
    }.items()
    for text in texts
]


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "bert"])
def test_words_of_several_tokens_are_pasted_with_the_rule_that_they_were_scored_by(kind: str) -> None:
    """Words are given that differ in length, whatever the search itself would choose."""
    keys = {"train": CHINESE, "template": "{text}总体{mask}"}
    found = search_labels(recipe(kind, **keys), SearchSettings(min_consistency=0.5, num_likely=400))
    tokens, template = tiny_backbone(kind).tokens, Template.parse("{text}总体{mask}")
    lengths = {len(word_ids(one.word, template, tokens)) for one in found.chosen}
    assert found.are_unequal is (len(lengths) > 1)
    for unequal in (True, False):
        told = replace(found, are_unequal=unequal)
        assert yaml.safe_load(told.to_yaml()).get("length") == told.to_dict().get("length") == ("sum" if unequal else None)
    again = recipe(kind, **keys, **yaml.safe_load(found.to_yaml()))
    again.verbalizer().answers(template, tokens)  # no word begins another


def test_words_of_several_tokens_are_filled_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Any] = []
    build = PromptModel.build

    def noted(cls: Any, **keys: Any) -> PromptModel:
        orders.append(keys.get("fill"))
        return build(**keys)

    monkeypatch.setattr(PromptModel, "build", classmethod(noted))
    search_labels(recipe("bert", train=CHINESE, template="{text}总体{mask}", fill="chain"), SearchSettings(min_consistency=0.5))
    assert "chain" in orders


def _example(row: dict[str, str]) -> Any:
    from ptune.data import Example

    return Example({"text": row["text"]}, row["label"])


@pytest.mark.parametrize("labels", ["{good: [a], bad: [b]}", "[good, bad]"])
def test_the_command_prints_labels_to_paste(
    labels: str, tiny_folder: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(
        f"train: rows.json\nbackbone: {tiny_folder('gpt2')}\nmethod: hard\ntemplate: '{{text}} It was{{mask}}'\n"
        f"labels: {labels}\nsearch: {{min_consistency: 0.5, num_likely: 400}}\n",
        encoding="utf-8",
    )
    assert main(["search", "labels", str(tmp_path / "recipe.yaml")]) == 0
    assert list(yaml.safe_load(capsys.readouterr().out)["labels"]) == ["good", "bad"]
