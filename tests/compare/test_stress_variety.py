"""Stress tests beyond changed texts: demonstrations in other orders, and how varied the texts are that a task writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ptune
from ptune.compare.stress import DiversityReport, diversity, diversity_markdown, diversity_table, stress, stress_markdown
from ptune.compare.stress.demo_orders import demo_orders
from ptune.compare.stress.diversity import _alike
from ptune.data import Example
from ptune.errors import DataError, TrainError
from ptune.objective import text_report
from ptune.recipe import Recipe
from ptune.strategy import InContextSettings, run_in_context
from ptune.task import Task
from tiny import tiny_backbone

ROWS = tuple(
    Example({"text": f"{thing} is {word}"}, "yes" if word in ("great", "good") else "no")
    for thing in ("the film", "a story", "this place", "the food")
    for word in ("great", "good", "bad")
)
SHOWN = [
    {"text": text, "label": label}
    for label, texts in (("yes", ("great", "good", "It was good")), ("no", ("bad", "It was bad", "the end")))
    for text in texts
]
WORDS = {"train": SHOWN, "labels": {"yes": ["great"], "no": ["bad"]}, "method": "hard", "template": "{demos}{text} :{mask}"}
WRITING: dict[str, Any] = {
    "task": "generation",
    "train": [{"input": f"The {thing}", "target": f"It was {how}"} for thing, how in (("film", "great"), ("plot", "bad"))],
    "template": "{input} All{mask}",
    "method": {"name": "p-tuning-v2", "num_tokens": 4},
    "max_new_tokens": 6,
    "max_length": 40,
    "steps": 20,
    "learning_rate": 0.1,
}


def shown_with(**section: Any) -> Task:
    """A task with demonstrations."""
    recipe = Recipe.of({**WORDS, "backbone": tiny_backbone("llama")})
    return run_in_context(recipe, InContextSettings(**{"separator": " ; ", **section})).tasks[0]


@pytest.fixture(scope="module")
def writer() -> Task:
    return ptune.fit(**WRITING, backbone=tiny_backbone("llama"))


@pytest.fixture(scope="module")
def written(writer: Task) -> DiversityReport:
    return diversity(writer, writer.read_judged(WRITING["train"]), samples=4)


# -- demonstrations --------------------------------------------------------------------------------------------------


def test_one_set_of_demonstrations_is_put_in_other_orders() -> None:
    task = shown_with(per_label=3)
    texts = task.facts["demonstrations"]["texts"]
    found = {title[0]: other for title, other, _ in demo_orders(task, ROWS, seed=0)}
    assert set(found) == {"reversed", "shuffled 1", "shuffled 2", "shuffled 3"}
    orders = [str(other.model.template).removesuffix(" ; {text} :{mask}").split(" ; ") for other in found.values()]
    assert orders[0] == texts[::-1] and all(sorted(one) == sorted(texts) != one for one in orders)
    assert len({tuple(one) for one in (*orders, texts)}) == 5


def test_an_order_is_the_task_that_would_be_made_of_it() -> None:
    """Scores are those of a template written by hand, with the prior that was measured in the first order."""
    task = shown_with(per_label=2)
    _, other, rows = next(demo_orders(task, ROWS, seed=0))
    by_hand = " ; ".join(task.facts["demonstrations"]["texts"][::-1]) + " ; {text} :{mask}"
    plain = ptune.fit(**{**WORDS, "template": by_hand}, backbone=tiny_backbone("llama"), max_length=64, prior="keep")
    expected = plain.scores(ROWS) - task.model.prior  # type: ignore[operator]
    np.testing.assert_allclose(other.scores(rows).numpy(), expected.numpy(), atol=1e-5)


def test_the_nearest_demonstrations_of_each_text_change_places() -> None:
    task = shown_with(choose="nearest", count=3)
    near = task.model.near_demos  # type: ignore[union-attr]
    assert near is not None
    found = list(demo_orders(task, ROWS, seed=0))
    assert [title[0] for title, _, _ in found] == ["reversed", "shuffled 1", "shuffled 2", "shuffled 3"]
    for row, other, chosen in zip(ROWS, found[0][2], near.nearest(ROWS), strict=True):
        assert other.fields["demos"] == near.text(chosen[::-1]) and other.fields["text"] == row.fields["text"]
    trial = next(one for one in stress(task, ROWS).trials if one.name == "demonstration order: reversed")
    after = task.scores([Example(row.fields) for row in found[0][2]]).argmax(1).tolist()
    assert trial.after == np.mean([task.labels[at] == row.label for at, row in zip(after, ROWS, strict=True)])


@pytest.mark.parametrize("section", [{"per_label": 3}, {"choose": "nearest", "count": 3}])
def test_a_bundle_is_shown_in_the_same_orders(section: dict[str, Any], tmp_path: Path) -> None:
    task = shown_with(**section)
    report = stress(task, ROWS)
    mine = [one for one in report.trials if one.kind == "order"]
    assert len(mine) == 4 and all(one.num_changed == len(ROWS) and one.difference is not None for one in mine)
    assert all(len(one.examples) == min(5, round((one.turned or 0) * len(ROWS))) for one in mine)
    assert any(one.turned for one in mine), "no order turned an answer, so that the examples show nothing"
    again = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone("llama"))
    assert [one for one in stress(again, ROWS).trials if one.kind == "order"] == mine
    assert "示例顺序：倒序" in stress_markdown(report, "zh")


def test_a_prompt_behind_demonstrations_has_their_orders_too() -> None:
    recipe = {**WORDS, "template": "{demos}{text}{soft:2} :{mask}", "method": "p-tuning", "steps": 3}
    task = run_in_context(Recipe.of({**recipe, "backbone": tiny_backbone("llama")}), InContextSettings(per_label=1)).tasks[0]
    ((title, other, _),) = demo_orders(task, ROWS, seed=0)  # two demonstrations have one other order
    assert title[0] == "reversed" and np.array_equal(other.bundle().tensors["rows"], task.bundle().tensors["rows"])


@pytest.mark.parametrize("section", [None, {"choose": "nearest", "count": 1}])
def test_without_an_order_it_is_said(section: dict[str, Any] | None) -> None:
    plain = {**WORDS, "template": "{text} :{mask}", "backbone": tiny_backbone("llama")}
    report = stress(ptune.fit(**plain) if section is None else shown_with(**section), ROWS)
    assert not any(one.kind == "order" for one in report.trials)
    assert any(reason.startswith("demonstration order: the task notes no demonstrations") for reason in report.not_tried)


# -- written texts ---------------------------------------------------------------------------------------------------


def test_figures_of_written_texts_by_hand(writer: Task, written: DiversityReport) -> None:
    rows, right = WRITING["train"], [[row["target"]] for row in WRITING["train"]]
    people, own, cool, warm = written.varieties
    assert [one.num_texts for one in written.varieties] == [1, 1, 4, 4] and written.num_rows == 2
    assert (people.distinct_1, people.distinct_2, people.score) == (4 / 6, 3 / 4, None)  # it was great, it was bad
    assert own.score == text_report([one.text for one in writer.predict(rows)], right).score
    predictions = writer.predict(rows, temperature=0.7, returns=4, seed=0)
    drawn = [(one.text, *one.alternatives) for one in predictions]
    reports = [text_report(texts, right) for texts in zip(*drawn, strict=True)]
    assert cool.distinct_2 == pytest.approx(np.mean([one.distinct_2 for one in reports]))
    assert cool.drop == pytest.approx((own.score or 0.0) - np.mean([one.score for one in reports]))
    assert cool.different == pytest.approx(np.mean([len(set(texts)) / 4 for texts in drawn]))
    assert {one.texts for one in cool.examples} == set(drawn) and cool.examples != warm.examples


def test_likeness_is_that_of_the_nearest_other_text() -> None:
    assert _alike([("a b", "a b", "c d")]) == pytest.approx(2 / 3)  # two have a twin, the third shares nothing
    assert _alike([("a b", "c d")]) == 0.0 and _alike([("", ""), ("", "")]) == 0.0
    assert _alike([("a b", "a b"), ("", "c")]) == pytest.approx(1 / 2)


def test_the_same_seed_draws_the_same(writer: Task, written: DiversityReport) -> None:
    rows = writer.read_judged(WRITING["train"])
    assert diversity(writer, rows, samples=4) == written != diversity(writer, rows, samples=4, seed=1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_report_of_variety_has_every_line(written: DiversityReport, language: str) -> None:
    text = diversity_markdown(written, language)
    assert all(one.title[language == "zh"] in text for one in written.varieties)
    assert all(" ".join(sample.split()) in text for one in written.varieties for row in one.examples for sample in row.texts)
    assert len(diversity_table(written, language)) == 5 and json.loads(json.dumps(written.to_dict()))["language"] == "en"


def test_what_has_no_variety_is_an_error(writer: Task) -> None:
    rows = writer.read_judged(WRITING["train"])
    with pytest.raises(DataError, match="1 sample of a row has no variety"):
        diversity(writer, rows, samples=1)
    with pytest.raises(DataError, match="no rows to test on"):
        diversity(writer, ())
    with pytest.raises(TrainError, match="diversity is of tasks that write texts, this one is classification"):
        diversity(shown_with(per_label=1), ROWS)
