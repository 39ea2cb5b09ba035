"""Bytes to text: what is detected, what is refused, and where the message points."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.data import read_examples
from ptune.data.encoding import decode

REVIEW = "房间很整洁，床也很舒服。"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_and_plain_unicode_is_read_without_a_notice(encoding, caplog):
    text = f"text,label\n{REVIEW},好\ncafé,坏\n"
    assert decode(text.encode(encoding), "a.csv") == text
    assert not caplog.records


@pytest.mark.parametrize("mark, codec", [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_both_byte_orders(mark, codec):
    assert decode(mark + REVIEW.encode(codec), "a.csv") == REVIEW


def test_the_mark_goes_even_where_the_encoding_is_named():
    assert decode("\ufefftext".encode(), "a.csv", "utf-8") == "text"


def test_gb18030_is_read_with_a_notice(write, caplog):
    path = write("reviews.csv", f"text,label\n{REVIEW},好评\n".encode("gb18030"))
    with caplog.at_level(logging.WARNING, logger="ptune"):
        examples = read_examples(path)
    assert examples[0].fields == {"text": REVIEW} and examples[0].label == "好评"
    assert caplog.messages == ["reviews.csv is not UTF-8: read as GB18030; set encoding: gb18030 to silence"]


def test_named_gb18030_is_silent(write, caplog):
    path = write("reviews.csv", f"text,label\n{REVIEW},好评\n".encode("gb18030"))
    assert read_examples(path, encoding="gb18030")[0].label == "好评"
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    ["text,label\nschön,gut\n", "text,label\ntrès bien,français\n", "naïve\nMünchen\n", "text\ncafé\n"],
)
def test_latin_1_is_not_taken_for_chinese(text, fails):
    line = fails(decode, text.encode("latin-1"), "a.csv")
    assert "is not UTF-8 text (save the file as UTF-8 or name its encoding, for example encoding: cp1252" in line
    assert decode(text.encode("latin-1"), "a.csv", "latin-1") == text


def test_latin_1_that_decodes_as_gb18030_shows_why_the_check_is_there():
    assert "schön".encode("latin-1").decode("gb18030") == "sch鰊"


def test_first_bad_byte_and_its_line(fails):
    line = fails(decode, b"text\nfine\nbad \xff here\n\xfe\n", "a.csv")
    assert line.startswith("a.csv:3: byte 0xFF is not UTF-8 text (")


def test_bad_byte_in_a_named_encoding(fails):
    assert fails(decode, b"a\nb\xff", "a.csv", "ascii").startswith("a.csv:2: byte 0xFF is not ASCII text (")


def test_truncated_utf_16(fails):
    raw = "one\ntwo".encode("utf-16") + b"\x00"
    assert fails(decode, raw, "a.csv").startswith("a.csv:2: byte 0x00 is not UTF-16 text (")


def test_unknown_encoding(fails):
    assert fails(decode, b"a", "a.csv", "uft-8") == "a.csv: unknown encoding 'uft-8' (did you mean 'utf-8'?)"
    assert "unknown encoding 'klingon' (use a name that Python knows" in fails(decode, b"a", "a.csv", "klingon")
    assert "unknown encoding 'hex'" in fails(decode, b"a", "a.csv", "hex")


def test_utf_16_without_a_mark_is_named(fails):
    line = fails(decode, "text\nfine".encode("utf-16-le"), "a.csv")
    assert line.startswith("a.csv:1: the file holds NUL bytes") and "set encoding: utf-16-le" in line


@given(st.binary(max_size=200))
def test_any_bytes_give_text_or_a_data_error(raw):
    from ptune.errors import DataError

    try:
        assert isinstance(decode(raw, "a.csv"), str)
    except DataError as error:
        assert error.where.startswith("a.csv:") and error.fix


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")))
def test_utf_8_round_trip(text):
    assert decode(text.encode(), "a.csv") == text
