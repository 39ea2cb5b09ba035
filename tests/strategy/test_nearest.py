"""Demonstrations chosen for each text: nearness as plain transformers say it, scores of texts typed by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.model import PromptModel
from ptune.model.near_demos import mean_states
from ptune.recipe import Recipe
from ptune.strategy import InContextSettings, run_in_context
from ptune.strategy.in_context import InContext
from ptune.strategy.section import section_of
from tiny import tiny_backbone, tiny_model, tiny_tokenizer

ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("The film was great", "a good story", "It was good", "wonderful cast"),
        "bad": ("It was bad", "the plot was bad", "a bad film", "terrible food"),
    }.items()
    for text in texts
]
WORDS = {"good": ["great"], "bad": ["terrible"]}
WRITTEN = {"good": "great", "bad": "terrible"}
QUERIES = [Example({"text": "the cast was great"}, "good"), Example({"text": "bad"}, "bad")]


def recipe(kind: str = "gpt2", **keys: Any) -> Recipe:
    words = {"train": ROWS, "labels": WORDS, "method": "hard", "template": "{demos}{text} It was{mask}", "test": ROWS[:3]}
    return Recipe.of({**words, "backbone": tiny_backbone(kind), "max_length": 24, **keys})


def settings(**keys: Any) -> InContextSettings:
    return InContextSettings(**{"choose": "nearest", "separator": " / ", **keys})


def near(kind: str = "gpt2", *, shown: InContextSettings | None = None, **keys: Any) -> InContext:
    return run_in_context(recipe(kind, **keys), shown or settings(per_label=1))


def plain_states(kind: str, texts: list[str]) -> torch.Tensor:
    """Mean last hidden states by transformers alone, one text at a time, a causal model's start token left out."""
    model, tokenizer = tiny_model(kind), tiny_tokenizer(kind)
    rows = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if kind == "gpt2":  # its tokenizer writes no start token, ptune does
            ids = torch.cat([torch.tensor([[tokenizer.bos_token_id]]), ids], 1)
        trunk = model.encoder if kind == "t5" else model.base_model
        states = trunk(input_ids=ids).last_hidden_state[0]
        rows.append(states[1:].mean(0) if kind in ("gpt2", "llama", "gemma3") else states.mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "gemma3", "t5"])
def test_states_are_those_of_plain_transformers(kind: str) -> None:
    texts = ["The film was great", "bad", "It was good"]
    torch.testing.assert_close(mean_states(tiny_backbone(kind), texts), plain_states(kind, texts), rtol=1e-4, atol=1e-4)


def test_a_text_without_tokens_has_a_state_too() -> None:
    assert mean_states(tiny_backbone("gpt2"), ["", "bad"])[0].abs().sum() == 0


def nearest_by_hand(kind: str, query: str) -> list[int]:
    """Rows by falling cosine, centred on the rows' mean."""
    rows = plain_states(kind, [row["text"] for row in ROWS])
    one = plain_states(kind, [query])
    similarity = torch.cosine_similarity(one - rows.mean(0), rows - rows.mean(0))
    return similarity.argsort(descending=True).tolist()


@pytest.mark.parametrize("shown", [{"count": 3}, {"per_label": 2}])
def test_each_text_is_shown_what_is_nearest_to_it_last(shown: dict[str, int]) -> None:
    model = near(shown=settings(**shown)).tasks[0].model
    assert isinstance(model, PromptModel) and model.near_demos is not None
    for query, found in zip(QUERIES, model.near_demos.nearest(QUERIES), strict=True):
        ranked = nearest_by_hand("gpt2", str(query.fields["text"]))
        if "count" in shown:
            expected = ranked[:3]
        else:
            first = [[number for number in ranked if ROWS[number]["label"] == name][:2] for name in WORDS]
            expected = sorted((number for group in first for number in group), key=ranked.index)
        assert list(found) == expected[::-1]


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_scores_are_those_of_the_text_written_out(kind: str) -> None:
    task = near(kind, shown=settings(count=2), calibration="none").tasks[0]
    got = task.scores(QUERIES)
    for number, query in enumerate(QUERIES):
        shown = [ROWS[at] for at in nearest_by_hand(kind, str(query.fields["text"]))[:2]][::-1]
        typed = "".join(f"{row['text']} It was {WRITTEN[row['label']]} / " for row in shown) + "{text} It was{mask}"
        hand = PromptModel.build(backbone=tiny_backbone(kind), template=typed, labels=WORDS, method="hard", max_length=60)
        expected = hand.scores(hand.prepare([query]))[0]
        torch.testing.assert_close(got[number, 0] - got[number, 1], expected[0] - expected[1], rtol=0, atol=1e-4)


def test_a_row_is_never_its_own_demonstration_when_the_prior_is_measured() -> None:
    """Contextual calibration by hand: texts without content behind what each row would be shown if it were new."""
    task = near(shown=settings(count=2)).tasks[0]
    plain = near(shown=settings(count=2), calibration="none").tasks[0]
    states = plain_states("gpt2", [row["text"] for row in ROWS])
    centred = torch.nn.functional.normalize(states - states.mean(0), dim=1)
    similarity = centred @ centred.T
    probabilities = []
    for at in range(len(ROWS)):
        ranked = [number for number in similarity[at].argsort(descending=True).tolist() if number != at][:2][::-1]
        demos = " / ".join(f"{ROWS[n]['text']} It was {WRITTEN[ROWS[n]['label']]}" for n in ranked)
        free = [Example({"text": text, "demos": demos}) for text in ("N/A", "", "[MASK]")]
        probabilities.append(torch.softmax(plain.scores(free), 1))
    prior = torch.cat(probabilities).mean(0).log()
    torch.testing.assert_close(task.model.prior, prior - prior.mean(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["prior", "batch", "domain"])
def test_other_calibrations_read_demonstrations_too(name: str) -> None:
    keys = {"name": "batch", "texts": ["a film", "the food"]} if name == "batch" else name
    assert near(calibration=keys).tasks[0].model.prior.abs().sum() > 0


def test_saved_and_loaded_it_shows_the_same(tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    encoder = tiny_folder("bert")
    task = near(shown=settings(count=2, encoder=encoder)).tasks[0]
    task.save(tmp_path / "task")
    again = ptune.load(tmp_path / "task", backbone=tiny_backbone("gpt2"))
    torch.testing.assert_close(again.scores(QUERIES), task.scores(QUERIES), rtol=0, atol=1e-5)
    assert [one.label for one in again.predict(["bad", "good film"])] == [
        one.label for one in task.predict(["bad", "good film"])
    ]
    assert again.model.near_demos.nearest(QUERIES) == task.model.near_demos.nearest(QUERIES)


def test_another_encoder_of_that_name_is_refused(tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    near(shown=settings(count=2, encoder=tiny_folder("bert"))).tasks[0].save(tmp_path / "task")
    card = json.loads((tmp_path / "task" / "bundle.json").read_text(encoding="utf-8"))
    card["task"]["near_demos"]["encoder"]["fingerprint"] = "0" * 64
    (tmp_path / "task" / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(PtuneError, match="demonstrations were compared by"):
        ptune.load(tmp_path / "task", backbone=tiny_backbone("gpt2"))


def test_mixed_with_other_tasks_it_answers_as_alone() -> None:
    first, second = near().tasks[0], near(shown=settings(count=2)).tasks[0]
    mixed = ptune.predict_mixed([(first, "bad"), (second, "bad"), (first, "a good film")])
    alone = [*first.predict(["bad"]), *second.predict(["bad"]), *first.predict(["a good film"])]
    for one, other in zip(mixed, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


@pytest.mark.parametrize("shown", [{"count": 3}, {"per_label": 2}])
def test_texts_are_compared_a_few_at_a_time(shown: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = near(shown=settings(**shown)).tasks[0].model
    assert isinstance(model, PromptModel) and model.near_demos is not None
    examples = [Example({"text": row["text"]}) for row in ROWS]
    whole = model.near_demos.others(), model.near_demos.nearest(examples)
    assert all(number not in chosen for number, chosen in enumerate(whole[0]))
    monkeypatch.setattr("ptune.model.near_demos._COMPARED", 3)
    assert (model.near_demos.others(), model.near_demos.nearest(examples)) == whole


def test_it_is_judged() -> None:
    found = near()
    right = sum(p.label == row["label"] for p, row in zip(found.tasks[0].predict(ROWS[:3]), ROWS[:3], strict=True))
    assert len(found.tasks) == 1 and found.reports[0].accuracy == pytest.approx(right / 3)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"choose": "nearest", "order": "by-label"}, "order is for choose: random"),
        ({"choose": "nearest", "sets": 2}, "sets is for choose: random"),
        ({"count": 3}, "count is for choose: nearest"),
        ({"choose": "nearest", "count": 3, "per_label": 1}, "exclude each other"),
        ({"choose": "far"}, "icl.choose"),
    ],
)
def test_settings_that_cannot_be(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        section_of(keys, "icl", InContextSettings, where="recipe.yaml")


def test_too_few_rows_and_unknown_encoders_are_named() -> None:
    with pytest.raises(PtuneError, match="label 'good' has 4 different rows"):
        near(shown=settings(per_label=4))
    with pytest.raises(PtuneError, match="there are 8 different rows"):
        near(shown=settings(count=8))
    with pytest.raises(PtuneError, match="no-such-model"):
        near(shown=settings(count=2, encoder="no-such-model"))


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_prompt_learns_with_each_row_behind_the_others(kind: str) -> None:
    """The first step's loss by hand: each row behind the nearest other row, typed into its text."""
    keys = {"template": "{demos}{text}{soft:2} It was{mask}", "method": "p-tuning", "calibration": "none", "batch_size": 8}
    task = near(kind, shown=settings(count=1), **keys, steps=1).tasks[0]
    states = plain_states(kind, [row["text"] for row in ROWS])
    centred = torch.nn.functional.normalize(states - states.mean(0), dim=1)
    similarity = (centred @ centred.T).fill_diagonal_(-1)
    typed = []
    for row, best in zip(ROWS, similarity.argmax(1).tolist(), strict=True):
        shown = f"{ROWS[best]['text']} It was {WRITTEN[ROWS[best]['label']]} / "
        typed.append(Example({"text": shown + row["text"]}, row["label"]))
    hand = PromptModel.build(
        backbone=tiny_backbone(kind), template="{text}{soft:2} It was{mask}", labels=WORDS, method="p-tuning", max_length=60
    )
    assert task.facts["training"]["first_loss"] == pytest.approx(hand.mean_loss(hand.prepare(typed)), abs=1e-4)
    assert task.facts["data"]["train_rows"] == len(ROWS)


def test_the_model_itself_is_not_trained() -> None:
    with pytest.raises(PtuneError, match="leave tune and augment out"):
        near(tune="lm")


def test_a_row_that_is_there_twice_is_not_read_behind_its_own_label() -> None:
    twice = {"train": [*ROWS, ROWS[0], ROWS[5]]}
    task = near(shown=settings(count=1), **twice).tasks[0]
    demos = task.model.near_demos
    for number, chosen in enumerate(demos.others()):
        assert demos.texts[number] not in [demos.texts[at] for at in chosen]
    with pytest.raises(PtuneError, match="there are 8 different rows"):
        near(shown=settings(count=8), **twice)


@pytest.mark.parametrize("choose", ["random", "nearest"])
def test_each_label_by_itself_with_demonstrations(choose: str) -> None:
    keys = {"template": "{demos}{text}{soft:2} It was{mask}", "method": "p-tuning", "label_loss": "decoupled"}
    shown = InContextSettings(choose=choose, per_label=1)
    task = near(shown=shown, **keys, steps=2).tasks[0]
    assert task.facts["training"]["steps"] == 2 and not bool(task.model.prior.any())
