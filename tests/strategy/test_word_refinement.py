"""Refined lists of label words: the paper's figures written out in loops, the recipe that comes out, bad lists."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import ptune
from ptune.cli import main
from ptune.errors import PtuneError
from ptune.readout import kept_words, mean_calibrated, word_prior, word_relevance
from ptune.recipe import Recipe
from ptune.strategy import RefineSettings, refine_words
from tiny import tiny_backbone, tiny_model

LISTS = {"good": ["good", "great", "like", "film", "terrible", "day"], "bad": ["bad", "not", "plot", "zzz", "day", "not"]}
ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("The film was great", "a good story", "I like this place", "What a good day"),
        "bad": ("It was bad", "the plot was bad", "What a bad day", "the end was bad"),
    }.items()
    for text in texts
]


def recipe(kind: str, **keys: Any) -> Recipe:
    words = {"train": ROWS, "labels": {"good": ["a"], "bad": ["b"]}, "method": "hard", "template": "{text} It was{mask}"}
    return Recipe.of({**words, "backbone": tiny_backbone(kind), **keys})


def test_prior_relevance_and_scores_are_the_papers() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(7), size=11)  # [texts, words]
    labels, first = [0, 0, 1, 1, 2, 2, 2], [0, 2, 4]
    log_p = torch.tensor(np.log(p))
    prior = [sum(p[x][w] for x in range(11)) / 11 for w in range(7)]
    np.testing.assert_allclose(word_prior(log_p).exp().numpy(), prior, rtol=1e-9)

    def cosine(one: int, other: int) -> float:
        dot = sum(p[x][one] * p[x][other] for x in range(11))
        lengths = [math.sqrt(sum(p[x][w] ** 2 for x in range(11))) for w in (one, other)]
        return dot / (lengths[0] * lengths[1])

    relevance = [
        cosine(w, first[labels[w]]) * 2 / sum(cosine(w, first[y]) for y in range(3) if y != labels[w]) for w in range(7)
    ]
    np.testing.assert_allclose(word_relevance(log_p, labels, first).numpy(), relevance, rtol=1e-9)
    scores = mean_calibrated(log_p, word_prior(log_p), labels, 3)
    for x in range(11):
        for y in range(3):
            mine = [w for w in range(7) if labels[w] == y]
            mean = sum(p[x][w] / prior[w] for w in mine) / len(mine)
            assert scores[x, y].exp().item() == pytest.approx(mean, rel=1e-9)


def test_the_seldom_go_first_then_the_unspecific_and_first_words_stay() -> None:
    prior = torch.tensor([-9.0, -1.0, -2.0, -3.0, -8.0, -4.0])
    relevance = torch.tensor([0.1, 2.0, 0.9, 1.0, 3.0, 0.2])
    fates = kept_words(prior, relevance, [0, 3], share=0.5, min_relevance=1.0)
    assert fates == ["kept", "kept", "unspecific", "kept", "seldom", "seldom"]
    assert kept_words(prior, relevance, [0, 3], share=1.0, min_relevance=0.0) == ["kept"] * 6


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_recipe_that_comes_out_scores_the_mean_of_calibrated_probabilities(kind: str) -> None:
    """The priors are of a plain model, a text at a time; the scores those of the refined recipe, by the usual way."""
    found = refine_words(recipe(kind), RefineSettings(words=LISTS, keep=0.9, min_relevance=0.0))
    by_word = {(one.label, one.word): one for one in found.words if one.word != "not" or one.fate == "kept"}
    assert {one.word for one in found.words if one.fate == "shared"} == {"day", "not"}  # the second "not" too
    assert [one.fate for one in found.words if one.word == "not"].count("shared") == 1
    assert by_word["bad", "zzz"].fate in ("several tokens", "unknown")
    for words in found.labels.values():
        assert sum(words.values()) == pytest.approx(1, abs=1e-2)
    refined = yaml.safe_load(found.to_yaml())
    task = ptune.fit(
        train=ROWS, template="{text} It was{mask}", method="hard", backbone=tiny_backbone(kind), prior="keep", **refined
    )
    tokens, plain = tiny_backbone(kind).tokens, tiny_model(kind)
    prepared = task.model.prepare(task.examples([row["text"] for row in ROWS]))
    p = np.zeros((len(ROWS), len(tokens.tokenizer)))
    for number, row in enumerate(prepared.encoded):
        assert row.slot is not None
        ids = [*row.ids[: row.slot], *tokens.slot_ids, *row.ids[row.slot :]]
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([ids])).logits[0, row.slot if tokens.slot_ids else row.slot - 1]
        p[number] = torch.softmax(logits.double(), -1).numpy()[: p.shape[1]]
    kept = {name: [tokens.word_ids(f" {word}", "s")[0] for word in words] for name, words in found.labels.items()}
    prior = p.mean(0)
    for name, words in found.labels.items():
        for word in words:
            assert by_word[name, word].log_prior == pytest.approx(
                math.log(prior[tokens.word_ids(f" {word}", "s")[0]]), abs=1e-3
            )
    scores = task.scores(task.examples([row["text"] for row in ROWS])).numpy()
    expected = np.array([[np.mean([p[x, w] / prior[w] for w in ids]) for ids in kept.values()] for x in range(len(ROWS))])
    gap = (scores[:, 0] - scores[:, 1]) - (np.log(expected[:, 0]) - np.log(expected[:, 1]))
    np.testing.assert_allclose(gap, gap[0], atol=2e-3)  # one constant of the labels, which the prior takes out
    right = (expected.argmax(1) == np.array([0] * 4 + [1] * 4)).mean()
    assert found.accuracy == pytest.approx(right)


def test_an_encoder_decoders_words_are_refined_too() -> None:
    found = refine_words(recipe("t5"), RefineSettings(words={"good": ["good", "great"], "bad": ["bad", "not"]}, keep=1.0))
    assert all(one.log_prior is not None for one in found.words) and found.num_texts == len(ROWS)
    assert 0 <= found.accuracy <= 1


def test_lists_in_a_file_and_unlabelled_texts_beside_the_recipe(tmp_path: Path, tiny_folder: Any, capsys: Any) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (tmp_path / "more.csv").write_text("text\nthe food is good\nthe end\nI like it\n", encoding="utf-8")
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(LISTS), encoding="utf-8")
    values = {"train": "train.jsonl", "labels": ["good", "bad"], "head": "prototypes", "template": "{text} It was{mask}"}
    section = {"words": "words.yaml", "unlabelled": "more.csv", "num_texts": 2}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**values, "method": "hard", "backbone": tiny_folder("gpt2"), "refine": section}))
    assert main(["search", "refine", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_texts"] == 2 and set(found["labels"]) == {"good", "bad"}
    assert next(iter(found["labels"]["good"])) == "good" and next(iter(found["labels"]["bad"])) == "bad"
    assert main(["search", "refine", str(path)]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["aggregate"] == "logsumexp" and "# shared: day" in printed


def write_recipe(folder: Path, backbone: str, **section: Any) -> Path:
    """A recipe whose labels are names alone, as the documentation shows it."""
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    values = {"train": "train.jsonl", "labels": ["good", "bad"], "template": "{text} It was{mask}", "method": "hard"}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**values, "backbone": backbone, "refine": section}), encoding="utf-8")
    return path


def test_labels_may_be_names_alone(tmp_path: Path, tiny_folder: Any, capsys: Any) -> None:
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(LISTS), encoding="utf-8")
    path = write_recipe(tmp_path, tiny_folder("gpt2"), words="words.yaml")
    assert main(["search", "refine", str(path), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["labels"]) == {"good", "bad"}
    assert main(["search", "refine", str(write_recipe(tmp_path, tiny_folder("gpt2")))]) == 2
    assert "there are no lists of words" in capsys.readouterr().err
    path.write_text(path.read_text(encoding="utf-8").replace("- bad", "- good"), encoding="utf-8")
    assert main(["search", "refine", str(path)]) == 2
    assert "'good' is named twice" in capsys.readouterr().err


def test_lists_are_read_as_recipes_are(tmp_path: Path) -> None:
    """`no` is a word, and a label that stands twice is a mistake."""
    (tmp_path / "words.yaml").write_text("\ufeffgood: [good, great]\nbad: [bad, no, not]\n", encoding="utf-8")
    found = refine_words(recipe("gpt2"), RefineSettings(words=str(tmp_path / "words.yaml"), keep=1.0))
    assert [one.word for one in found.words] == ["good", "great", "bad", "no", "not"]
    (tmp_path / "words.yaml").write_text("good: [good]\ngood: [great]\nbad: [bad]\n", encoding="utf-8")
    with pytest.raises(PtuneError, match="stands twice"):
        refine_words(recipe("gpt2"), RefineSettings(words=str(tmp_path / "words.yaml")))


def test_texts_are_drawn_by_the_seed_and_not_the_first_ones() -> None:
    """Rows sorted by label: the first four are of one label, and priors from these alone would be that label's."""
    settings = RefineSettings(words=LISTS, num_texts=4, keep=1.0, min_relevance=0.0)
    first = refine_words(recipe("gpt2"), settings.model_copy(update={"unlabelled": ROWS[:4]}))
    drawn = [refine_words(recipe("gpt2", seed=seed), settings) for seed in range(4)]
    assert all(one.num_texts == 4 for one in drawn) and drawn[1] == refine_words(recipe("gpt2", seed=1), settings)
    priors = {tuple(one.log_prior for one in found.words) for found in (first, *drawn)}
    assert len(priors) > 3
    texts = [row["text"] for row in ROWS]
    unlabelled = [
        refine_words(recipe("gpt2", seed=seed), settings.model_copy(update={"unlabelled": texts})) for seed in range(4)
    ]
    for one, other in zip(drawn, unlabelled, strict=True):
        assert [word.log_prior for word in one.words] == pytest.approx([word.log_prior for word in other.words], abs=1e-5)


@pytest.mark.parametrize(
    ("keys", "section", "fault"),
    [
        ({}, {"words": "nowhere.yaml"}, "the lists cannot be read"),
        ({}, {"words": {"good": ["good"]}}, "the lists are of 'good', the recipe's labels are 'good', 'bad'"),
        ({}, {"words": {"good": "good", "bad": ["bad"]}}, "the list of 'good' is no list of words"),
        ({}, {"words": {"good": [1], "bad": ["bad"]}}, "the list of 'good' is no list of words"),
        ({}, {"words": ["good"]}, "no mapping of labels to words"),
        ({}, {"words": {"good": ["terrible"], "bad": ["bad"]}}, "'terrible' stands for 'good', but is of several tokens"),
        ({}, {"words": {"good": ["day"], "bad": ["day"]}}, "'day' stands for 'good', but is another label's too"),
        ({"labels": ["good", "bad"], "head": "prototypes"}, {}, "there are no lists of words"),
        ({}, {}, "there are no lists of words"),
        ({"template": "{text} It was{mask} ."}, {"words": LISTS}, "what stands behind {mask} is not seen"),
        ({"task": "regression", "labels": {1: "bad", 2: "good"}}, {}, "label words are for task: classification"),
    ],
)
def test_bad_lists(keys: dict[str, Any], section: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        refine_words(recipe("gpt2", **keys), RefineSettings(**section))
