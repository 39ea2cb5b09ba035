"""Column files of tokens and tags: the same sentences in every spelling, and a place in every message."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptune.data import Example, load_splits, read_examples

LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="# \ufeff")
TOKEN = st.text(LETTERS, min_size=1, max_size=5)
SENTENCES = st.lists(
    st.lists(st.tuples(TOKEN, st.sampled_from(["O", "B-PER", "I-PER"])), min_size=1, max_size=6), min_size=1, max_size=4
)

PLAIN = """\
Anna B-PER
lives O

北 B-LOC
京 I-LOC
"""


def sentences(source, **settings):
    return [(row.fields["tokens"], row.fields.get("tags"), row.where) for row in read_examples(source, label=None, **settings)]


def test_sentences_and_where_they_begin(write):
    assert read_examples(write("a.conll", PLAIN)) == (
        Example({"tokens": ("Anna", "lives"), "tags": ("B-PER", "O")}),
        Example({"tokens": ("北", "京"), "tags": ("B-LOC", "I-LOC")}),
    )
    assert [where for _, _, where in sentences(write("a.bio", PLAIN))] == ["a.bio:1", "a.bio:4"]


@settings(deadline=None, max_examples=60)
@given(SENTENCES, st.sampled_from(["\t", " ", "   "]), st.sampled_from(["\n", "\r\n"]), st.integers(1, 3))
def test_what_is_written_is_read(rows, between, end, num_blank):
    blocks = ["".join(f"{token}{between}{tag}{end}" for token, tag in row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.iob"
        path.write_bytes((end * num_blank).join(blocks).encode())
        found = [list(zip(tokens, tags, strict=True)) for tokens, tags, _ in sentences(path)]
    assert found == rows


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n\t\n", "\r\n"])
def test_the_end_of_the_file(write, end):
    assert len(sentences(write("a.conll", PLAIN.rstrip() + end))) == 2


def test_documents_and_comments_are_skipped(write):
    text = "-DOCSTART- -X- O\n\n# id 17 domain=news\n# text = Anna runs fast\nAnna NNP B-PER\nruns VBZ O\n-DOCSTART-\n# # O\n"
    assert sentences(write("a.conll", text)) == [
        (("Anna", "runs"), ("B-PER", "O"), "a.conll:5"),
        (("#",), ("O",), "a.conll:8"),
    ]


def test_a_number_sign_that_is_a_token(write):
    assert sentences(write("a.conll", "#fun\tO\nis\tO\n#\tO\n")) == [(("#fun", "is", "#"), ("O", "O", "O"), "a.conll:1")]
    assert sentences(write("b.conll", "# O\n#a B-X\n")) == [(("#", "#a"), ("O", "B-X"), "b.conll:1")]


def test_tokens_that_are_white_space_elsewhere(write):
    assert sentences(write("a.conll", "\u3000 O\n\u2028 O\n\x85 O\n"))[0][0] == ("\u3000", "\u2028", "\x85")
    assert sentences(write("b.conll", "New York\tB-LOC\n \tO\n"))[0][0] == ("New York", " ")


def test_more_columns_have_names_and_can_be_picked(write):
    path = write("a.conll", "EU NNP I-NP B-ORG\nrejects VBZ I-VP O\n")
    (row,) = read_examples(path)
    assert row.fields == {
        "tokens": ("EU", "rejects"),
        "column_2": ("NNP", "VBZ"),
        "column_3": ("I-NP", "I-VP"),
        "tags": ("B-ORG", "O"),
    }
    assert sentences(path, columns={"tags": "ner", "column_2": "tags"})[0][1] == ("NNP", "VBZ")


def test_one_column_is_tokens_without_tags(write):
    assert sentences(write("a.conll", "Anna\nlives\n\nhere\n")) == [
        (("Anna", "lives"), None, "a.conll:1"),
        (("here",), None, "a.conll:4"),
    ]


def test_lines_that_do_not_fit(write, fails):
    assert fails(read_examples, write("a.conll", "# c\nAnna O\n\nlives\n")) == (
        "a.conll:4: columns in the line: 1, in line 2: 2 (separate the columns by spaces and sentences by a blank line)"
    )
    assert "a.conll:2: columns in the line: 3" in fails(read_examples, write("a.conll", "Anna\tO\nlives\tin\tO\n"))
    assert "a.conll:2: columns in the line: 1" in fails(read_examples, write("a.conll", "Anna\tO\nlives\t\n"))
    assert "a.conll:2: columns in the line: 3" in fails(read_examples, write("a.conll", "Anna O\n# is it\n"))
    assert fails(read_examples, write("a.conll", "Anna\tO\n\tO\n")) == (
        "a.conll:2: the line has no token (fill it in or remove the line)"
    )
    assert "a.conll: the file is empty" in fails(read_examples, write("a.conll", "\n\n"))
    assert "a.conll: the file is empty" in fails(read_examples, write("a.conll", "-DOCSTART- O\n"))


def test_text_files_only_by_name(write, fails):
    path = write("folder/train.txt", PLAIN)
    assert len(read_examples(path)) == 2
    assert "it holds no data file" in fails(read_examples, path.parent)
    line = fails(read_examples, write("b.txt", "A fine film.\nA film that I would never see again.\n"))
    assert line.startswith(
        "b.txt:2: columns in the line: 8, in line 1: 3 (a .txt file is read as one token and its tag a line;"
    )


def test_folders_of_splits(write):
    write("set/train.bio", PLAIN)
    folder = write("set/dev.bio", "Anna B-PER\n").parent
    assert {name: len(rows) for name, rows in load_splits(folder).items()} == {"train": 2, "validation": 1}
