"""Stress tests: what each change does to a text, figures by hand, and that wordings really change what the model is asked."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from ptune import fit
from ptune.compare.stress import StressReport, stress, stress_markdown
from ptune.compare.stress.chinese import _TRADITIONAL, full_width, half_width, homophones, simplified, traditional
from ptune.compare.stress.negation import negated, negated_in_chinese
from ptune.compare.stress.perturbation import Perturbations, generator
from ptune.compare.stress.wordings import label_variants, synonyms, template_variants
from ptune.compare.stress.writing import slip, slip_in_chinese
from ptune.data import Example
from ptune.errors import DataError
from ptune.task import Task
from tiny import tiny_backbone

DRAW = random.Random(0)
ROWS = tuple(
    Example({"text": text, "source": source}, label)
    for source in ("film", "shop")
    for text, label in (
        ("The film was great and the cast was not bad", "yes"),
        ("a good story", "yes"),
        ("What a bad day , the end was bad", "no"),
        ("It is bad", "no"),
    )
)


@pytest.fixture(scope="module")
def task() -> Task:
    train = [{"text": row.fields["text"], "label": row.label} for row in ROWS]
    words = {"labels": {"yes": ["great"], "no": ["bad"]}, "template": "Review: {text}{soft:2} It was{mask}"}
    return fit(train=train, **words, backbone=tiny_backbone("gpt2"), steps=10, batch_size=4, seed=1)


# -- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It is good.", "It is not good."),
        ("It is not good, it was bad.", "It is good, it was bad."),
        ("They weren't nice", "They were nice"),
        ("I can't complain", "I can complain"),
        ("It ca n't be good , it is", "It can be good , it is"),
        ("Won’t buy again", "Will buy again"),
        ("you cannot miss it", "you can miss it"),
        ("it is n't a bad film", "it is a bad film"),
        ("There is nothing", "There is not nothing"),
        ("IT IS GOOD", "IT IS NOT GOOD"),
        ("Lovely", "Lovely"),
    ],
)
def test_negation(before: str, after: str) -> None:
    assert negated(before, DRAW) == after


@pytest.mark.parametrize(
    ("before", "after"), [("质量很好", "质量不好"), ("质量不好", "质量好"), ("我喜欢", "我不喜欢"), ("收到了", "收到了")]
)
def test_chinese_negation(before: str, after: str) -> None:
    assert negated_in_chinese(before, DRAW) == after


def test_traditional_characters_are_those_of_the_standard() -> None:
    assert traditional("这个电视质量很好，买书学习", DRAW) == "這個電視質量很好，買書學習"
    assert traditional("飞机餐饭店银行问题", DRAW) == "飛機餐飯店銀行問題"
    assert all(one != other and len(one) == len(other) == 1 for one, other in _TRADITIONAL.items())
    assert len(set(_TRADITIONAL.values())) == len(_TRADITIONAL)
    everything = "".join(_TRADITIONAL)
    assert simplified(traditional(everything, DRAW), DRAW) == everything


def test_widths_go_there_and_back() -> None:
    assert full_width("A1! b", DRAW) == "Ａ１！　ｂ" and half_width("Ａ１！　ｂ", DRAW) == "A1! b"


def test_slips_change_little_and_keep_the_rest() -> None:
    text = "The service was wonderful and everyone enjoyed their evening together"
    for seed in range(20):
        changed = slip(text, random.Random(seed))
        assert abs(len(changed) - len(text)) <= 1
        assert sum(a != b for a, b in zip(text.split(), changed.split(), strict=True)) <= 1
    chinese = "这个台灯的质量很好我觉得值得买"
    assert all(abs(len(slip_in_chinese(chinese, random.Random(seed))) - len(chinese)) <= 1 for seed in range(20))
    assert slip("Oh no", DRAW) == "Oh no" and slip_in_chinese("abc", DRAW) == "abc"


def test_homophones_replace_a_quarter() -> None:
    text = "在的做他" * 4
    changed = homophones(text, random.Random(1))
    assert len(changed) == 16 and sum(a != b for a, b in zip(text, changed, strict=True)) == 4
    assert homophones("abc", DRAW) == "abc"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_changes_follow_seed_and_text_alone(language: str) -> None:
    text = {"en": "The service was great, and the soup is not bad.", "zh": "这个台灯的质量很好，我在家里用。"}[language]
    for one in Perturbations.of(language):
        first, second = (one.change(text, generator(one.name, text, 7)) for _ in range(2))
        assert first == second and first.strip()
        assert one.change("", generator(one.name, "", 7)) is not None


# -- wordings --------------------------------------------------------------------------------------------------------


def test_templates_are_put_otherwise_with_the_same_prompt(task: Task) -> None:
    variants = dict(template_variants(task))
    assert {"It was → It is", "Review → Comment"} <= set(variants)
    changed = variants["It was → It is"]
    assert str(changed.model.template) == "Review: {text}{soft:2} It is{mask}"
    assert np.array_equal(changed.bundle().tensors["rows"].numpy(), task.bundle().tensors["rows"].numpy())
    assert not np.allclose(changed.scores(ROWS).numpy(), task.scores(ROWS).numpy())


def test_label_words_are_put_otherwise(task: Task) -> None:
    variants = dict(label_variants(task))
    assert set(variants) == {"great → good", "bad → terrible"}
    assert variants["great → good"].model.verbalizer.words == {"yes": ("good",), "no": ("bad",)}


def test_synonyms_are_other_words_of_the_vocabulary(task: Task) -> None:
    change = synonyms(task).change
    text = "The film was great , a good story and a great cast"
    for seed in range(5):
        words = change(text, random.Random(seed)).split()
        assert len(words) == len(text.split())


# -- reports ---------------------------------------------------------------------------------------------------------


def test_figures_by_hand(task: Task) -> None:
    report = stress(task, ROWS, others={"far": ROWS[:3]})
    answers = [one.label for one in task.predict([str(row.fields["text"]) for row in ROWS])]
    assert report.accuracy.mean == np.mean([answer == row.label for answer, row in zip(answers, ROWS, strict=True)])
    upper = next(trial for trial in report.trials if trial.name == "upper-case")
    after = [one.label for one in task.predict([str(row.fields["text"]).upper() for row in ROWS])]
    assert upper.num_changed == 8 and upper.after == np.mean([a == row.label for a, row in zip(after, ROWS, strict=True)])
    assert upper.turned == np.mean([a != b for a, b in zip(answers, after, strict=True)]) and upper.difference is not None
    assert all(one.answers[0] != one.answers[1] and one.after == one.before.upper() for one in upper.examples)
    far = next(trial for trial in report.trials if trial.kind == "domain")
    assert far.num_changed == 3 and far.difference is None and far.turned is None
    assert "half-width" not in {trial.name for trial in report.trials}


def test_rows_that_do_not_change_do_not_count(task: Task) -> None:
    lower = next(trial for trial in stress(task, ROWS).trials if trial.name == "lower-case")
    assert lower.num_changed == sum(str(row.fields["text"]) != str(row.fields["text"]).lower() for row in ROWS) == 6


def test_a_negation_has_no_right_answer_to_lose(task: Task) -> None:
    trial = next(one for one in stress(task, ROWS).trials if one.name == "negation")
    assert not trial.keeps_label and trial.difference is None and trial.turned is not None


def test_slices_part_the_rows(task: Task) -> None:
    many = ROWS * 3
    slices = stress(task, many).slices
    for by in ("label", "source"):
        mine = [one for one in slices if one.by == by]
        assert len(mine) == 2 and sum(one.accuracy.num_rows for one in mine) == 24
    assert all(one.accuracy.num_rows >= 5 for one in slices)


def test_the_same_seed_gives_the_same_report(task: Task) -> None:
    assert stress(task, ROWS, seed=3) == stress(task, ROWS, seed=3)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_markdown_has_every_trial(task: Task, language: str) -> None:
    report = stress(task, ROWS, others={"far": ROWS[:3]})
    text = stress_markdown(report, language)
    assert all(trial.title[language == "zh"] in text for trial in report.trials)
    assert isinstance(report, StressReport) and json.loads(json.dumps(report.to_dict()))["language"] == "en"


def test_no_rows_is_an_error(task: Task) -> None:
    with pytest.raises(DataError, match="no rows to test on"):
        stress(task, ())


def test_a_bundle_is_stressed_as_the_task_is(task: Task, tmp_path: Path) -> None:
    from ptune import load

    again = load(task.save(tmp_path / "bundle"), backbone=tiny_backbone("gpt2"))
    assert stress(again, ROWS).trials == stress(task, ROWS).trials
