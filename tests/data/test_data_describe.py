"""The description of a data set: numbers, findings, and both ways to hand them on."""

import json

import pytest

from ptune.data import Example, describe


def rows(*pairs, name="train"):
    return [Example({"text": text}, label, f"{name}.csv:{line}") for line, (text, label) in enumerate(pairs, start=2)]


@pytest.fixture
def messy():
    return describe(
        {
            "train": rows(("Good  film", "pos"), ("Good  film", "pos"), ("ｇｏｏｄ film", "neg"), ("", None)),
            "test": rows(("good\tFILM ", "pos"), ("很好", "mixed"), name="test"),
        },
        count_tokens=lambda text: len(text.split()),
    )


def test_numbers_of_a_split(messy):
    train = messy.splits["train"]
    assert (train.num_rows, train.num_unlabelled, train.num_duplicates) == (4, 1, 1)
    assert train.labels == {"neg": 1, "pos": 2}
    text = train.fields["text"]
    assert text.num_filled == 3
    assert (text.characters.min, text.characters.median, text.characters.max) == (9, 10, 10)
    assert (text.tokens.min, text.tokens.p95) == (2, 2)


def test_percentiles_are_nearest_rank():
    description = describe({"data": rows(*(("x" * length, "a") for length in range(1, 101)))})
    lengths = description.splits["data"].fields["text"].characters
    assert (lengths.min, lengths.median, lengths.p95, lengths.max) == (1, 50, 95, 100)
    assert description.splits["data"].fields["text"].tokens is None


def test_same_texts_across_splits(messy):
    (overlap,) = messy.overlaps
    assert (overlap.first, overlap.second, overlap.num_texts) == ("train", "test", 1)
    assert overlap.samples == (("train.csv:2", "test.csv:2"),)


def test_conflicting_labels(messy):
    assert messy.num_conflicts == 1
    assert messy.conflicts[0].text == "good film"
    assert messy.conflicts[0].rows == (("pos", "train.csv:2"), ("neg", "train.csv:4"))


def test_conflicts_show_five_samples_and_count_all():
    pairs = [(f"text {number}", label) for number in range(7) for label in ("a", "b")]
    description = describe({"train": rows(*pairs)})
    assert (description.num_conflicts, len(description.conflicts)) == (7, 5)


def test_labels_that_training_does_not_show(messy):
    assert messy.labels_not_in_train == {"test": ("mixed",)}
    assert describe({"train": rows(("x", None)), "test": rows(("y", "a"))}).labels_not_in_train == {}
    assert describe({"data": rows(("x", "a"))}).labels_not_in_train == {}


def test_only_named_fields_count(fails):
    splits = {"train": [Example({"text": "x", "id": "1"}, "a"), Example({"text": "x", "id": "2"}, "b")]}
    assert describe(splits).num_conflicts == 0
    chosen = describe(splits, fields=["text"])
    assert chosen.num_conflicts == 1 and list(chosen.splits["train"].fields) == ["text"]
    assert fails(describe, splits, fields=["txt"]) == "no row has field 'txt' (the fields are 'text', 'id')"


def test_lists_are_joined():
    description = describe({"train": [Example({"tokens": ("a", "bc")}, "x")]})
    assert description.splits["train"].fields["tokens"].characters.max == 4


def test_no_splits(fails):
    assert "no splits to describe" in fails(describe, {})
    assert "train" in describe({"train": []}).to_text()


def test_dict_is_json(messy):
    plain = messy.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["splits"]["train"]["fields"]["text"]["characters"] == {"min": 9, "median": 10, "p95": 10, "max": 10}
    assert plain["labels_not_in_train"] == {"test": ["mixed"]}


def test_text(messy):
    assert messy.to_text() == TEXT


def test_text_without_findings_or_labels():
    text = describe({"data": rows(("x", None))}).to_text()
    assert "tokens" not in text and "label" not in text.splitlines()[0]
    assert text.endswith("no duplicates, shared texts or conflicting labels")


def test_wide_characters_keep_the_columns_straight():
    lines = describe({"train": rows(("x", "积极"), ("y", "no"))}).to_text().splitlines()
    assert "no         1" in lines and "积极       1" in lines


def test_many_labels_are_cut_in_the_text_only():
    description = describe({"train": rows(*((str(number), f"{number:03}") for number in range(40)))})
    assert "(10 more labels)     10" in description.to_text()
    assert len(description.splits["train"].labels) == 40


TEXT = """\
split  rows  field  filled  chars min  median  p95  max  tokens min  median  p95  max
train     4  text        3          9      10   10   10           2       2    2    2
test      2  text        2          2       2   10   10           1       1    2    2

label       train  test
mixed           0     1
neg             1     0
pos             2     1
(no label)      1     0

rows of train that repeat an earlier row exactly: 1
texts in both train and test: 1 (train.csv:2 = test.csv:2)
texts with more than one label: 1
  'good film': 'pos' at train.csv:2, 'neg' at train.csv:4
labels of test that train does not have: 'mixed'"""
