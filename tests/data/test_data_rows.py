"""What a value becomes: fields, labels, renamed columns, and everything that may be missing."""

import numpy as np
import pytest

from ptune.data import Example, read_examples


def one(row, **options):
    return read_examples([row], **options)[0]


@pytest.mark.parametrize(
    "value, text",
    [
        ("good", "good"),
        ("", ""),
        (3, "3"),
        (1.5, "1.5"),
        (2.0, "2.0"),
        (True, "true"),
        (["a", "b"], ("a", "b")),
        (("a", 1, None), ("a", "1", "")),
        ([], ()),
        ({"text": ["Köln"], "start": [3]}, '{"text": ["Köln"], "start": [3]}'),
        ([["a"], ["b"]], '[["a"], ["b"]]'),
        (b"bytes", "bytes"),
        (np.int64(3), "3"),
        (np.array(["a", "b"]), ("a", "b")),
    ],
)
def test_field_values(value, text):
    assert one({"text": value}).fields == {"text": text}


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan")])
def test_missing_values_are_left_out_unless_they_are_required(value, fails):
    assert one({"text": "x", "note": value}).fields == {"text": "x"}
    assert fails(read_examples, [{"text": value}], fields=["text"]) == (
        "row 1: field 'text' is missing: its value is null (fill it in or remove the row)"
    )


@pytest.mark.parametrize(
    "value, label",
    [(1, "1"), (1.0, "1"), (0.5, "0.5"), (True, "true"), (False, "false"), ("1.0", "1.0"), ("积极", "积极"), (0, "0")],
)
def test_labels(value, label):
    assert one({"text": "x", "label": value}, require_label=True).label == label
    assert one({"text": "x", "label": np.asarray([value])[0]}).label == label


def test_whole_numbers_with_a_point_in_csv_labels(write):
    examples = read_examples(write("a.csv", "text,score,label\nx,1.0,1.0\ny,2.0,-3.00\nz,1,1.5\n"))
    assert [example.label for example in examples] == ["1", "-3", "1.5"]
    assert examples[0].fields["score"] == "1.0"


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_missing_labels(write, fails, value):
    assert one({"text": "x", "label": value}).label is None
    assert fails(read_examples, [{"text": "x", "label": value}], require_label=True) == (
        "row 1: the row has no label: 'label' is empty (fill it in or remove the row)"
    )


def test_missing_label_names_file_and_line(write, fails):
    path = write("train.csv", "text,label\nfine,good\nbad,\n")
    assert fails(read_examples, path, require_label=True).startswith("train.csv:3: the row has no label")
    path = write("train.jsonl", '{"text": "x", "lable": "good"}')
    assert fails(read_examples, path, require_label=True) == (
        "train.jsonl:1: the row has no label: column 'label' is missing; the row has 'text', 'lable' "
        "(did you mean 'lable'? Set label: ...)"
    )


def test_missing_field_names_file_line_and_remedy(write, fails):
    path = write("train.jsonl", '{"text": "x", "label": 1}\n\n{"review": "y", "label": 1}')
    assert fails(read_examples, path, fields=["text"]) == (
        "train.jsonl:3: field 'text' is missing; the row has 'review', 'label' "
        "(rename the column that holds it, for example columns: {review: text})"
    )
    line = fails(read_examples, [{"Text": "x"}], fields=["text"])
    assert line.endswith("(did you mean 'Text'? rename it with columns: {Text: text})")
    assert "the row has nothing" in fails(read_examples, [{}], fields=["text"])


def test_label_column_by_another_name_or_none():
    row = {"text": "x", "label": "a", "sentiment": "b"}
    assert one(row, label="sentiment") == Example({"text": "x", "label": "a"}, "b")
    assert one(row, label=None) == Example({"text": "x", "label": "a", "sentiment": "b"}, None)


def test_a_label_must_be_one_value(fails):
    assert "row 1: the label is a list (give each row one label)" in fails(read_examples, [{"label": ["a"]}])
    assert "row 1: the label is an object" in fails(read_examples, [{"label": {"a": 1}}])


def test_renaming():
    row = {"review": "x", "stars": 5}
    assert one(row, columns={"review": "text", "stars": "label"}) == Example({"text": "x"}, "5")
    assert one({"a": "1", "b": "2"}, columns={"a": "b", "b": "a"}).fields == {"b": "1", "a": "2"}


def test_renaming_applies_to_a_header(write):
    path = write("a.csv", "review,stars\nx,5\n")
    examples = read_examples(path, fields=["text"], require_label=True, columns={"review": "text", "stars": "label"})
    assert examples == (Example({"text": "x"}, "5"),)


def test_renaming_errors(write, fails):
    rows = [{"review": "x"}, {"review": "x", "stars": 1}]
    assert read_examples(rows, columns={"stars": "label"})[1].label == "1"
    assert fails(read_examples, rows, columns={"reveiw": "text"}) == (
        "rows: columns renames 'reveiw', which is not there; the columns are 'review', 'stars' (did you mean 'review'?)"
    )
    assert fails(read_examples, write("a.csv", "a,b\n1,2\n"), columns={"c": "text"}).startswith("a.csv:1: columns")
    clash = [{"review": "x", "text": "y"}]
    line = fails(read_examples, clash, columns={"review": "text"})
    assert "row 1: after renaming, two columns are called 'text' (" in line
    assert "two columns are called 'x'" in fails(read_examples, clash, columns={"review": "x", "text": "x"})


def test_examples_have_been_read_before_and_keep_their_names(fails):
    swap = {"a": "b", "b": "a"}
    once = read_examples([{"a": "1", "b": "2"}], columns=swap)
    assert read_examples(once, columns=swap) == once
    assert read_examples([*once, {"a": "3", "b": "4"}], columns=swap)[1].fields == {"b": "3", "a": "4"}
    assert fails(read_examples, once, fields=["text"], columns=swap).endswith("(give the examples that field)")


def test_a_field_cannot_be_the_label(fails):
    line = fails(read_examples, [{"label": "a"}], fields=["label"])
    assert (
        line
        == "rows: 'label' is asked for as a field and as the label (take it out of fields, or name another column as label)"
    )


def test_half_a_character(write, fails):
    path = write("a.jsonl", '{"text": "fine"}\n{"text": "cut \\ud83d"}\n')
    assert fails(read_examples, path).startswith("a.jsonl:2: field 'text' holds half a character (\\ud83d) (")


def test_fields_may_be_one_name():
    assert one({"text": "x"}, fields="text").fields == {"text": "x"}
