"""What a bundle shows of its making: texts by label, spans by type, the course of the loss; and how to keep texts out."""

from pathlib import Path

import pytest

import ptune
from ptune.bundle import read_bundle
from ptune.data import read_examples
from ptune.recipe.showing import candidate_facts, shown_examples, training_log
from ptune.train import TrainResult
from tiny import tiny_backbone

ROWS = [{"text": f"a {word} day {number}", "label": word} for number in range(4) for word in ("good", "bad")]


def shown(rows, fields, count, labels=(), columns=None, targets=()):
    return shown_examples(read_examples(rows), fields, count, labels=labels, columns=columns or {}, targets=targets)


def test_the_first_texts_of_each_label():
    rows = [*ROWS[:2], {"text": "a good day 0", "label": "good"}, *ROWS[2:]]
    expected = {"bad": ["a bad day 0", "a bad day 1"], "good": ["a good day 0", "a good day 1"]}
    assert shown(rows, ["text"], 2, ["good", "bad"]) == expected
    assert shown(rows, ["text"], 1, ["good"]) == {"good": ["a good day 0"]}
    assert shown(rows, ["text"], 0, ["good", "bad"]) == {}


def test_several_fields_and_long_texts():
    rows = [{"a": "x" * 60, "b": ["y", "z" * 60], "c": "not shown", "label": "l"}]
    (text,) = shown(rows, ["a", "b"], 3, ["l"])["l"]
    assert text == ("x" * 60 + " | y " + "z" * 60)[:99] + "…" and len(text) == 100


def test_rows_with_several_labels_show_for_each():
    rows = [{"text": "a", "topics": ["art", "law"]}, {"text": "b", "topics": []}, {"text": "c", "topics": ["law", "x"]}]
    assert shown(rows, ["text"], 2, ["art", "law"], targets=["topics"]) == {"art": ["a"], "law": ["a", "c"]}


def test_spans_of_tagged_rows():
    rows = [
        {"tokens": ["Anna", "Berg", "met", "Bo"], "tags": ["B-PER", "I-PER", "O", "B-PER"]},
        {"tokens": ["在", "北", "京"], "tags": ["O", "B-LOC", "I-LOC"]},
    ]
    expected = {"LOC": ["北京"], "PER": ["Anna Berg", "Bo"]}
    assert shown(rows, [], 2) == expected
    renamed = [{"words": row["tokens"], "ner": row["tags"]} for row in rows]
    assert shown(renamed, [], 2, columns={"tokens": "words", "tags": "ner"}) == expected
    assert shown([{"input": "x", "target": "y"}], ["input"], 2) == {}


def test_the_log_has_about_ten_lines():
    result = TrainResult(
        losses=[float(number) for number in range(25)], validations=[(5, 0.5, 0.9), (6, 0.75, 0.8), (25, 1.0, 0.1)]
    )
    log = training_log(result)
    assert [line["step"] for line in log] == [3, 6, 9, 12, 15, 18, 21, 24, 25]
    assert [line["loss"] for line in log] == [1.0, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0, 22.0, 24.0]
    assert [(line["step"], line["validation"], line["validation loss"]) for line in log if "validation" in line] == [
        (6, 0.75, 0.8),
        (25, 1.0, 0.1),
    ]
    assert [line["step"] for line in training_log(TrainResult(losses=[0.5, 0.25]))] == [1, 2]
    assert training_log(TrainResult()) == []


@pytest.mark.parametrize("count", [None, 0])
def test_a_bundle_shows_them_unless_told_not_to(count: int | None, tmp_path: Path):
    words: dict = {"template": "{text}{soft:2} It was{mask}", "labels": {"good": ["good"], "bad": ["bad"]}, "steps": 4}
    settings = {} if count is None else {"card_examples": count}
    folder = ptune.fit(train=ROWS, validation=ROWS, backbone=tiny_backbone("llama"), **words, **settings).save(tmp_path / "b")
    card, text = read_bundle(folder).card, (folder / "README.md").read_text(encoding="utf-8")
    found = [name for name in ("a good day 0", "a bad day 1") if name in text and name in (folder / "bundle.json").read_text()]
    assert found == ([] if count == 0 else ["a good day 0", "a bad day 1"])
    assert [line["step"] for line in card["training"]["log"]] == [1, 2, 3, 4]
    assert "| step | loss | validation | validation loss |\n" in text
    assert f"| 4 | {card['training']['log'][-1]['loss']:.4f} |" in text


def test_a_run_that_noted_no_candidates_says_nothing_of_them() -> None:
    """As when a run that an older version finished is read again."""
    assert candidate_facts(TrainResult()) == {} == candidate_facts(TrainResult(candidate_rates=[0.1, 0.3]))
    told = candidate_facts(TrainResult(candidate_rates=[0.1, 0.3], candidate_scores=[0.5, 0.75], chosen=1))
    assert told["chosen"] == 2 and told["candidates"][1] == {"number": 2, "learning_rate": 0.3, "score": 0.75}
