"""Demonstrations: drawn, ordered, written as a person would, computed once for all texts, calibrated as they are read."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.data import Example
from ptune.errors import PtuneError, TemplateError
from ptune.model import PromptModel
from ptune.readout import best_temperature, contextual_prior
from ptune.recipe import Recipe
from ptune.strategy import InContextSettings, run_in_context
from ptune.strategy.demos import demo_text
from ptune.strategy.in_context import choose_demos
from ptune.template import Template, TextSegment
from tiny import tiny_backbone

ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("The film was great", "a good story", "It was good"),
        "bad": ("It was bad", "the plot was bad", "a bad film"),
    }.items()
    for text in texts
]
EXAMPLES = [Example({"text": row["text"]}, row["label"]) for row in ROWS]
WORDS = {"good": ["great"], "bad": ["terrible"]}
LEARNS: dict[str, Any] = {"template": "{demos}{text}{soft:2} It was{mask}", "method": "p-tuning", "steps": 4}


def recipe(kind: str = "gpt2", **keys: Any) -> Recipe:
    words = {"train": ROWS, "labels": WORDS, "method": "hard", "template": "{demos}{text} It was{mask}", "test": ROWS[:3]}
    return Recipe.of({**words, "backbone": tiny_backbone(kind), **keys})


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{demos}{text} It was{mask} .", "It was bad It was terrible ."),
        ("{demos}Review: {text}\nAnswer: {mask}", "Review: It was bad\nAnswer: terrible"),
    ],
)
def test_a_demonstration_reads_as_the_template_with_its_answer(template: str, text: str) -> None:
    assert demo_text(Template.parse(template), EXAMPLES[3], "terrible") == text


def test_a_demonstration_is_text_alone() -> None:
    """Special tokens at its ends have nothing to set apart and are left out; between its texts they would be lost."""
    assert demo_text(Template.parse("{demos}{sep}{text} It was{mask}{sep}"), EXAMPLES[3], "bad") == "It was bad It was bad"
    with pytest.raises(TemplateError, match="cannot hold the special token <sep>"):
        demo_text(Template.parse("{demos}{text}{sep}It was{mask}"), EXAMPLES[3], "bad")


@pytest.mark.parametrize("choose", ["random", "nearest"])
def test_renamed_columns_are_renamed_once(choose: str, tmp_path: Path) -> None:
    rows = [{"review": row["text"], "stars": row["label"], "text": "another column"} for row in ROWS]
    renamed = {"columns": {"review": "text", "text": "old", "stars": "label"}, "train": rows, "test": rows[:3]}
    (tmp_path / "free.csv").write_text("review,text,stars\na film,,\nthe food,,\n", encoding="utf-8")
    texts = {"name": "contextual", "texts": str(tmp_path / "free.csv")}
    settings = InContextSettings(choose=choose, per_label=1)
    got = run_in_context(recipe(**renamed, calibration=texts, max_length=40), settings)
    plain = {"name": "contextual", "texts": ["a film", "the food"]}
    expected = run_in_context(recipe(calibration=plain, max_length=40), settings)
    torch.testing.assert_close(got.tasks[0].scores(EXAMPLES), expected.tasks[0].scores(EXAMPLES), rtol=0, atol=1e-5)


def test_texts_of_the_data_may_look_like_another_tools_template(tmp_path: Path) -> None:
    odd = ("a [SEP] film", "<mask> was ｛great｝", "[V] {text} {mask} ____", "[MASK]", "[CLS] bad", "<extra_id_0>")
    rows = [{"text": text, "label": row["label"]} for text, row in zip(odd, ROWS, strict=True)]
    settings = InContextSettings(per_label=3, order="by-label", separator=" / ")
    task = run_in_context(recipe("t5", train=rows, max_length=40), settings).tasks[0]
    demos = choose_demos([Example({"text": row["text"]}, row["label"]) for row in rows], ("good", "bad"), 3, 0, "by-label")
    shown = "".join(f"{one.fields['text']} It was {WORDS[str(one.label)][0]} / " for one in demos)
    assert task.model.template.render({"text": "bad"})[0] == TextSegment(shown)
    again = ptune.load(task.save(tmp_path / "task"), backbone=tiny_backbone("t5"))
    assert again.model.template == task.model.template
    torch.testing.assert_close(again.scores(EXAMPLES), task.scores(EXAMPLES), rtol=0, atol=1e-5)


@pytest.mark.parametrize("choose", ["random", "nearest"])
def test_temperature_is_chosen_on_the_validation_rows(choose: str) -> None:
    settings = InContextSettings(choose=choose, per_label=1)
    keys = {"validation": ROWS[1:5], "max_length": 40}
    plain = run_in_context(recipe(**keys), settings).tasks[0].model
    model = run_in_context(recipe(**keys, temperature=True, abstain_below=0.6), settings).tasks[0].model
    held = EXAMPLES[1:5]
    labels = torch.tensor([0 if one.label == "good" else 1 for one in held])
    assert model.temperature == pytest.approx(best_temperature(plain.scores(plain.prepare(held)), labels))
    assert plain.temperature == 1 != model.temperature and model.abstain_below == 0.6


def test_orders() -> None:
    names = ("good", "bad")
    by_label = choose_demos(EXAMPLES, names, 2, 1, "by-label")
    assert [one.label for one in by_label] == ["good", "good", "bad", "bad"]
    assert [one.label for one in choose_demos(EXAMPLES, names, 2, 1, "alternating")] == ["good", "bad"] * 2
    shuffled = choose_demos(EXAMPLES, names, 2, 1, "shuffled")
    assert sorted(one.fields["text"] for one in shuffled) == sorted(one.fields["text"] for one in by_label)
    assert choose_demos(EXAMPLES, names, 2, 1, "shuffled") == shuffled
    assert any(choose_demos(EXAMPLES, names, 2, seed, "shuffled") != shuffled for seed in range(2, 6))


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_scores_are_those_of_the_text_written_out(kind: str) -> None:
    """Against a template into which the demonstrations were typed by hand, without a kept beginning."""
    chosen = recipe(kind, calibration="none", max_length=40)
    task = run_in_context(chosen, InContextSettings(per_label=1, order="by-label", separator=" / ")).tasks[0]
    demos = choose_demos(EXAMPLES, ("good", "bad"), 1, 0, "by-label")
    first, second = (str(demo.fields["text"]) for demo in demos)
    typed = f"{first} It was great / {second} It was terrible / {{text}} It was{{mask}}"
    hand = PromptModel.build(backbone=tiny_backbone(kind), template=typed, labels=WORDS, method="hard", max_length=60)
    queries = [Example({"text": "the cast was great"}), Example({"text": "bad"})]
    expected = torch.cat([hand.scores(hand.prepare([one])) for one in queries])
    got = task.scores(queries)
    torch.testing.assert_close(got[:, 0] - got[:, 1], expected[:, 0] - expected[:, 1], rtol=0, atol=1e-4)


def test_demonstrations_are_computed_once() -> None:
    task = run_in_context(recipe(max_length=40), InContextSettings(per_label=1)).tasks[0]
    model = task.model
    rows = model.prepare([Example({"text": "bad"}), Example({"text": "a day"})])
    num_demo_tokens = len(rows.encoded[0]) - len(model.backbone.tokens.ids("bad It was"))
    assert model.num_lead(rows.encoded) >= num_demo_tokens - 2 > 8


def test_calibration_reads_the_same_demonstrations() -> None:
    settings = InContextSettings(per_label=1, order="by-label")
    task = run_in_context(recipe(max_length=40), settings).tasks[0]
    plain = run_in_context(recipe(max_length=40, calibration="none"), settings).tasks[0]
    free = plain.scores([Example({"text": text}) for text in ("N/A", "", "[MASK]")])
    torch.testing.assert_close(task.model.prior, contextual_prior(free), rtol=0, atol=1e-4)


def test_sets_speak_together() -> None:
    found = run_in_context(recipe(max_length=30), InContextSettings(per_label=1, sets=2))
    queries = [Example({"text": row["text"]}, row["label"]) for row in ROWS[:3]]
    mean = torch.stack([torch.softmax(task.scores(queries), 1) for task in found.tasks]).mean(0)
    guessed = [("good", "bad")[number] for number in mean.argmax(1).tolist()]
    right = sum(guess == query.label for guess, query in zip(guessed, queries, strict=True)) / 3
    assert found.ensemble is not None and found.ensemble.accuracy == pytest.approx(right) and len(found.reports) == 2


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"template": "{text} It was{mask}"}, "no place for demonstrations"),
        ({"augment": {"copies": 1}}, "leave tune and augment out"),
        ({"tune": "lm"}, "leave tune and augment out"),
        ({**LEARNS, "patience": 2, "hold_out": 1}, "patience"),
        ({**LEARNS, "candidates": 2, "keep_candidates": "best", "hold_out": 1}, "keep_candidates"),
        ({"template": "{demos}{text}{sep}It was{mask}"}, "cannot hold the special token"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        run_in_context(recipe(**keys), InContextSettings(per_label=1))


def test_a_prompt_learns_behind_demonstrations_from_the_other_rows(tmp_path: Path) -> None:
    found = run_in_context(recipe(**LEARNS, max_length=30), InContextSettings(per_label=1, sets=2))
    for number, task in enumerate(found.tasks):
        assert task.facts["training"]["steps"] == 4 and task.facts["data"]["train_rows"] == 4
        shown = [str(demo.fields["text"]) for demo in choose_demos(EXAMPLES, ("good", "bad"), 1, number, "shuffled")]
        learned_from = str(task.facts["data"]["examples"])
        assert all(text in str(task.model.template) and text not in learned_from for text in shown)
    found.tasks[0].save(tmp_path / "bundle")
    again = ptune.load(tmp_path / "bundle", backbone=tiny_backbone("gpt2"))
    assert again.predict(["the cast was great"]) == found.tasks[0].predict(["the cast was great"])


def test_too_few_rows_are_named() -> None:
    with pytest.raises(PtuneError, match="fewer rows"):
        run_in_context(recipe(), InContextSettings(per_label=9))
    with pytest.raises(PtuneError, match="none is left to learn from"):
        run_in_context(recipe(**LEARNS), InContextSettings(per_label=3))
