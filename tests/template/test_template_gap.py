"""The answer slot at a marker in the row's own text."""

import pytest

from ptune.errors import TemplateError
from ptune.template import FieldSegment, MaskSegment, Template, TextSegment, open_gap


def test_the_slot_takes_the_markers_place_and_the_space_in_front_of_it() -> None:
    segments = Template.parse("Fill : {text max=5} .").render({"text": "one #idiom# two"})
    left, slot, right = open_gap(segments, "#idiom#")[1:4]
    assert left == FieldSegment("one", "text", max_tokens=5, trim="head")
    assert slot == MaskSegment(" ", raw=True)
    assert right == FieldSegment(" two", "text", max_tokens=5, trim="tail")
    assert [segment.text for segment in open_gap(segments, "#idiom#") if isinstance(segment, TextSegment)] == ["Fill : ", " ."]


@pytest.mark.parametrize("text", ["#", "#两", "一#"])
def test_gaps_at_the_ends_and_without_spaces(text: str) -> None:
    opened = open_gap(Template.parse("{text}").render({"text": text}), "#")
    assert [segment.text for segment in opened if isinstance(segment, FieldSegment)] == text.split("#")
    assert opened[1] == MaskSegment("", raw=True)


def test_one_field_of_several_has_it() -> None:
    opened = open_gap(Template.parse("{first}{soft}{second}").render({"first": "a", "second": "b # c"}), "#")
    assert [type(segment).__name__ for segment in opened] == [
        "FieldSegment",
        "SoftSegment",
        "FieldSegment",
        "MaskSegment",
        "FieldSegment",
    ]


@pytest.mark.parametrize(("text", "words"), [("none", "no gap"), ("# and #", "2 gaps")])
def test_none_or_several_are_refused(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        open_gap(Template.parse("# {text}").render({"text": text}), "#")
