"""CSV, TSV, JSON Lines, JSON and Parquet: the same rows from each, and a place in every message."""

import csv
import io
import json
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptune.data import Example, read_examples

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=30)
LABEL = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=8)
ROWS = st.lists(st.fixed_dictionaries({"text": TEXT, "note": TEXT, "label": LABEL}), min_size=1, max_size=8)


def as_csv(rows, path, delimiter=","):
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(buffer.getvalue().encode())


def as_tsv(rows, path):
    as_csv(rows, path, "\t")


def as_jsonl(rows, path):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")


def as_json(rows, path):
    path.write_text(json.dumps({"data": rows}), encoding="utf-8")


def as_parquet(rows, path):
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {".csv": as_csv, ".tsv": as_tsv, ".jsonl": as_jsonl, ".json": as_json, ".parquet": as_parquet}


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_every_format_gives_the_same_examples(rows):
    expected = tuple(Example({"text": row["text"], "note": row["note"]}, row["label"]) for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, writer in WRITERS.items():
            path = Path(folder) / f"rows{suffix}"
            writer(rows, path)
            assert read_examples(path, fields=["text", "note"], require_label=True) == expected, suffix
    assert read_examples(rows) == expected


# ---- CSV and TSV


def test_csv_rows_know_the_physical_line_where_they_begin(write):
    path = write("a.csv", 'text,label\r\n"one\r\ntwo",a\r\n\r\nthree,b\r\n"four\n\n",a\nfive,b\n')
    examples = read_examples(path)
    assert [example.where for example in examples] == ["a.csv:2", "a.csv:5", "a.csv:6", "a.csv:9"]
    assert examples[0].fields["text"] == "one\r\ntwo"


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_the_delimiter_of_a_csv_file_follows_its_header(write, mark):
    path = write("a.csv", f"text{mark}label\nfine{mark}good\n")
    assert read_examples(path) == (Example({"text": "fine"}, "good"),)


def test_a_header_with_a_comma_means_commas(write):
    assert read_examples(write("a.csv", "text;x,label\na;b,good\n")) == (Example({"text;x": "a;b"}, "good"),)


def test_too_many_and_too_few_cells(write, fails):
    path = write("a.csv", "text,label\nfine,good\nwell, well,good\n")
    assert fails(read_examples, path) == (
        'a.csv:3: cells in the row: 3, in the header: 2 (put a cell that holds a comma into quotation marks ("..."))'
    )
    path = write("b.tsv", "text\tlabel\nfine\n")
    assert fails(read_examples, path) == (
        "b.tsv:2: cells in the row: 1, in the header: 2 (add the missing cells; they are separated by a tab)"
    )


def test_header_that_lacks_a_field(write, fails):
    path = write("a.csv", "\nreview,label\nfine,good\n")
    assert fails(read_examples, path, fields=["text"]) == (
        "a.csv:2: the header lacks column 'text'; it has 'review', 'label' "
        "(rename the column that holds it, for example columns: {review: text})"
    )
    assert "did you mean 'texts'? rename it with columns: {texts: text}" in fails(
        read_examples, write("a.csv", "texts,label\nfine,good\n"), fields=["text"]
    )


def test_header_that_lacks_the_label(write, fails):
    line = fails(read_examples, write("a.csv", "text,lable\nfine,good\n"), require_label=True)
    assert line.startswith("a.csv:1: the header lacks column 'label'; it has 'text', 'lable' (did you mean 'lable'?")


def test_header_with_a_name_twice(write, fails):
    assert fails(read_examples, write("a.csv", "text,text\na,b\n")).startswith(
        "a.csv:1: the header names column 'text' twice ("
    )


def test_index_column_without_a_name_is_left_out(write):
    assert read_examples(write("a.csv", ",text, label\n0,fine,good\n")) == (Example({"text": "fine"}, "good"),)


def test_quotation_mark_that_is_never_closed(write, fails):
    line = fails(read_examples, write("a.csv", 'text,label\nfine,good\n"open,good\nmore,bad\n'))
    assert line.startswith("a.csv:3: a quoted cell does not end where it should (")
    assert fails(read_examples, write("a.csv", 'text,label\n"a" b,good\n')).startswith("a.csv:2: a quoted cell")


def test_tsv_that_quotes_nothing(write, caplog):
    examples = read_examples(write("a.tsv", 'text\tlabel\n"Great" film\tgood\n"Bad\tbad\n'))
    assert [example.fields["text"] for example in examples] == ['"Great" film', '"Bad']
    assert [example.where for example in examples] == ["a.tsv:2", "a.tsv:3"]
    assert caplog.messages[0].startswith("a.tsv:2: the file's quotation marks do not pair up")


def test_tsv_with_bad_quotes_and_bad_cells_keeps_the_first_message(write, fails):
    assert "a.tsv:2: a quoted cell" in fails(read_examples, write("a.tsv", 'text\tlabel\n"a" b\tgood\nx\n'))


def test_big_cells(write):
    big = "x" * 300_000
    assert read_examples(write("a.csv", f"text,label\n{big},good\n"))[0].fields["text"] == big


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
@pytest.mark.parametrize("content", ["", "\n", "\ufeff"])
def test_empty_files(write, fails, name, content):
    assert fails(read_examples, write(name, content)).startswith(f"{name}: the file is empty: it has no rows (")


def test_header_only(write, fails):
    assert "a.csv: the file is empty" in fails(read_examples, write("a.csv", "text,label\n"), fields=["text"])


# ---- JSON


def test_jsonl_skips_blank_lines_and_counts_them(write):
    path = write("a.jsonl", '{"text": "one"}\r\n\n  \n{"text": "two\u2028lines"}')
    assert [(example.where, example.fields["text"]) for example in read_examples(path)] == [
        ("a.jsonl:1", "one"),
        ("a.jsonl:4", "two\u2028lines"),
    ]


def test_jsonl_errors(write, fails):
    path = write("a.jsonl", '{"text": "one"}\n{"text": "two",}\n')
    assert fails(read_examples, path).startswith("a.jsonl:2:16: invalid JSON: ")
    path = write("a.jsonl", '{"text": "one"}\n["two"]\n')
    assert fails(read_examples, path) == (
        'a.jsonl:2: the row is a list, not an object (write each row as {"text": ..., "label": ...})'
    )
    assert "a.jsonl:1: JSON that cannot be read" in fails(read_examples, write("a.jsonl", '{"n": ' + "9" * 5000 + "}"))
    assert "a.jsonl:1: JSON that cannot be read" in fails(read_examples, write("a.jsonl", "[" * 100_000))


def test_json_forms(write):
    rows = [{"text": "one", "label": 1}]
    for content in (rows, {"version": "1", "data": rows}):
        example = read_examples(write("a.json", json.dumps(content)))[0]
        assert (example.fields, example.label, example.where) == ({"text": "one"}, "1", "a.json row 1")


def test_json_errors(write, fails):
    assert fails(read_examples, write("a.json", '{"text": "one"}\n{"text": "two"}')) == (
        "a.json:2:1: invalid JSON: Extra data (one object a line? then call the file .jsonl)"
    )
    assert "a.json: the file holds an object with 'rows' (write a list of objects" in fails(
        read_examples, write("a.json", '{"rows": []}')
    )
    assert "a.json: the file holds a text" in fails(read_examples, write("a.json", '"x"'))
    assert "a.json: the file holds null" in fails(read_examples, write("a.json", "null"))
    assert "a.json row 2: the row is a number, not an object" in fails(read_examples, write("a.json", '[{"a": 1}, 2]'))
    assert "a.json: the file is empty" in fails(read_examples, write("a.json", "[]"))


# ---- Parquet


def test_parquet_values(tmp_path):
    table = pa.table(
        {
            "text": ["one", "two"],
            "words": [["a", "b"], []],
            "score": [1.5, None],
            "label": pa.array([1.0, None], pa.float64()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read_examples(tmp_path / "a.parquet")
    assert first == Example({"text": "one", "words": ("a", "b"), "score": "1.5"}, "1")
    assert second == Example({"text": "two", "words": ()}, None)
    assert second.where == "a.parquet row 2"


def test_parquet_errors(tmp_path, write, fails):
    assert "a.parquet: the Parquet file cannot be read: " in fails(read_examples, write("a.parquet", b"not parquet"))
    pq.write_table(pa.table({"review": ["one"]}), tmp_path / "b.parquet")
    line = fails(read_examples, tmp_path / "b.parquet", fields=["text"])
    assert line.startswith("b.parquet: the header lacks column 'text'; it has 'review' (")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "c.parquet")
    assert "c.parquet: the file is empty" in fails(read_examples, tmp_path / "c.parquet")


def test_parquet_without_pyarrow(monkeypatch, write, fails):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert fails(read_examples, write("a.parquet", b"PAR1")) == (
        "a.parquet: reading Parquet needs the package pyarrow (pip install ptune[parquet])"
    )
