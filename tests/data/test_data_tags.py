"""Tags and spans: conlleval's rules against a second implementation of them, schemes there and back, transitions."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.data import TagSpan, convert_tags, may_follow, tag_names, tag_scheme, tag_spans, tag_types, tags_of, transitions

SCHEMES = ("IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES")

# What tags with a letter may look like at all, in any order, as a bad model writes them.
any_tags = st.lists(st.sampled_from(["O", *(f"{letter}-{name}" for letter in "BIES" for name in ("PER", "LOC"))]), max_size=12)


@st.composite
def spans_and_length(draw):
    """Spans that do not overlap; neighbours may touch and may share a type."""
    cuts = sorted(draw(st.lists(st.integers(0, 15), max_size=8, unique=True)))
    pieces = [(start, end) for start, end in itertools.pairwise(cuts) if draw(st.booleans())]
    spans = tuple(TagSpan(draw(st.sampled_from(["PER", "LOC", "part-of"])), start, end) for start, end in pieces)
    return spans, 15 + draw(st.integers(0, 2))


def conlleval_spans(tags):
    """conlleval's two questions for each pair of neighbours, as tables of letters: did a chunk end, did one start?"""
    ends = {"BB", "BO", "BS", "IB", "IO", "IS"} | {left + right for left in "ES" for right in "BIESO"}
    starts = {"BB", "IB", "OB", "OI", "OE", "BS", "IS", "OS"} | {left + right for left in "ES" for right in "BIES"}
    cut = [("O", "")] + [(tag[0], tag[2:]) for tag in tags] + [("O", "")]
    found, begun = set(), None
    for place, ((left, left_type), (right, right_type)) in enumerate(itertools.pairwise(cut)):
        if left != "O" and (left + right in ends or left_type != right_type):
            found.add((left_type, begun, place))
        if right != "O" and (left + right in starts or left_type != right_type):
            begun = place
    return found


@given(any_tags)
def test_spans_are_those_of_conlleval(tags):
    found = tag_spans(tags)
    assert set(found) == conlleval_spans(tags)
    assert list(found) == sorted(found, key=lambda span: span.start)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER B-PER", [("PER", 0, 2), ("PER", 2, 3)]),
        ("I-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("S-PER B-PER I-PER E-PER", [("PER", 0, 1), ("PER", 1, 4)]),
        ("U-PER B-PER I-PER L-PER O", [("PER", 0, 1), ("PER", 1, 4)]),
        ("B-PER M-PER E-PER W-PER", [("PER", 0, 3), ("PER", 3, 4)]),
        ("E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("PER PER O LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B M E S B E", [("", 0, 3), ("", 3, 4), ("", 4, 6)]),
        ("B-part-of I-part-of", [("part-of", 0, 2)]),
        ("per-son per-son", [("per-son", 0, 2)]),
    ],
)
def test_spans_by_hand(tags, spans):
    assert list(tag_spans(tags.split())) == spans


def test_no_tags():
    assert tag_spans([]) == () and tags_of([], 0) == ()


@given(spans_and_length())
def test_every_scheme_but_io_gives_the_spans_back(drawn):
    spans, length = drawn
    for scheme in SCHEMES[1:]:
        tags = tags_of(spans, length, scheme)
        assert len(tags) == length and tag_spans(tags) == spans, scheme
        table = transitions(tag_names(tag_types([tags]), scheme), scheme)
        assert all(map(any, table)), scheme
        assert all(may_follow(left, right, scheme) for left, right in itertools.pairwise([None, *tags, None])), scheme
        assert convert_tags(tags, "BIO") == tags_of(spans, length, "BIO"), scheme


@given(spans_and_length())
def test_io_joins_what_touches(drawn):
    spans, length = drawn
    tags = tags_of(spans, length, "IO")
    inside = {(span.type, place) for span in spans for place in range(span.start, span.end)}
    assert {(span.type, place) for span in tag_spans(tags) for place in range(span.start, span.end)} == inside
    assert convert_tags(tags, "IO") == tags


@given(any_tags)
def test_tags_that_may_follow_are_those_that_conversion_leaves_alone(tags):
    """A row is legal in BIOES exactly where reading and writing it changes nothing."""
    legal = all(may_follow(left, right, "BIOES") for left, right in itertools.pairwise([None, *tags, None]))
    assert legal == (convert_tags(tags, "BIOES") == tuple(tags))


@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=10))
def test_the_same_for_schemes_with_two_letters(tags):
    for scheme in ("IOB1", "BIO"):
        legal = all(may_follow(left, right, scheme) for left, right in itertools.pairwise([None, *tags, None]))
        assert legal == (convert_tags(tags, scheme) == tuple(tags)), scheme


def test_the_table_of_transitions():
    names = tag_names(["PER"], "BIOES")
    assert names == ("O", "B-PER", "I-PER", "E-PER", "S-PER")
    rows = {
        name: "".join("01"[cell] for cell in row) for name, row in zip([*names, None], transitions(names, "BIOES"), strict=True)
    }
    assert rows == {"O": "110011", "B-PER": "001100", "I-PER": "001100", "E-PER": "110011", "S-PER": "110011", None: "110011"}
    assert all(map(all, transitions(("O", "PER", "I-LOC"), "IO")))


def test_names_of_tags():
    assert tag_names(["LOC", "PER"]) == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert tag_names([""], "BMES") == ("O", "B", "M", "E", "S")
    assert tag_names(["PER"], "IO") == ("O", "I-PER")
    assert tag_types([["O", "B-PER"], ["LOC", "E-ORG"]]) == ("LOC", "ORG", "PER")


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([], "BIO"),
        (["O O"], "BIO"),
        (["I-PER I-PER O", "O I-LOC"], "IO"),
        (["PER O"], "IO"),
        (["B-PER I-PER", "O I-LOC"], "BIO"),
        (["I-PER B-PER I-PER", "I-LOC"], "IOB1"),
        (["I-PER B-LOC"], "BIO"),
        (["B-PER E-PER O"], "BIOES"),
        (["S-PER", "O"], "BIOES"),
        (["B-PER L-PER", "U-LOC"], "BILOU"),
        (["B-PER M-PER E-PER", "S-LOC"], "BMES"),
        (["B I E S"], "BIOES"),
    ],
)
def test_the_scheme_shows(rows, scheme):
    assert tag_scheme([row.split() for row in rows]) == scheme


@given(spans_and_length())
def test_the_scheme_of_written_tags_is_recognised_once_it_can_show(drawn):
    spans, length = drawn
    telling = (
        *spans,
        TagSpan("PER", length, length + 1),
        TagSpan("PER", length + 1, length + 4),
        TagSpan("PER", length + 4, length + 6),
    )
    for scheme in SCHEMES:
        assert tag_scheme([tags_of(telling, length + 6, scheme)]) == scheme


def test_what_cannot_be_written(fails):
    assert fails(tags_of, [TagSpan("PER", 1, 4)], 3) == (
        "span ('PER', 1, 4) does not fit a row of 3 tokens (give 0 <= start < end <= length)"
    )
    assert "overlaps another one" in fails(tags_of, [TagSpan("PER", 0, 2), TagSpan("LOC", 1, 3)], 3)
    assert fails(convert_tags, ["O"], "BIOE") == "there is no tag scheme 'BIOE' (did you mean 'BIOES'?)"
    assert fails(tag_names, ["PER"], "xyz").endswith("(name one of IO, IOB1, BIO, BIOES, BILOU, BMES)")
    assert fails(may_follow, "O", "E-PER", "BIO") == (
        "tag 'E-PER' does not belong to BIO (its tags are O and those that begin with B-, I-)"
    )
    assert "tag 'PER' does not belong to BIO" in fails(may_follow, "PER", None, "BIO")
