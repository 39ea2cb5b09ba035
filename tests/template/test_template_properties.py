"""Laws that hold for every template: written and read it stays itself; rendered it loses neither mask nor soft tokens."""

import string
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ptune.template
from ptune.errors import TemplateError
from ptune.template import (
    Choice,
    Demos,
    Field,
    FieldSegment,
    Mask,
    MaskSegment,
    Node,
    Sep,
    Soft,
    SoftSegment,
    Special,
    Template,
    Text,
    TextSegment,
    caret,
)

unhurried = settings(deadline=None)  # the machine may be busy

LETTERS = st.text(alphabet="ab Z1{}\"'\\\n\t:=,.!_-总体好，：“”{}{}", min_size=1, max_size=12)
FOREIGN = st.sampled_from(["[MASK]", "[SEP]", "[V1]", "<mask>", "<text_a>", "____", "{mask}", "｛", "｝", "[CLS"])
WORDS = LETTERS | st.lists(LETTERS | FOREIGN, min_size=1, max_size=4).map("".join)
NAMES = st.text(alphabet=string.ascii_letters + string.digits + "_-文本é", min_size=1, max_size=6)
COUNTS = st.integers(1, 12)
SOFT = st.one_of(
    st.builds(Soft, COUNTS, st.none(), st.none() | NAMES, st.booleans()),
    st.builds(Soft, st.none() | COUNTS, WORDS, st.none() | NAMES, st.booleans()),
)
FIELDS = st.one_of(
    st.builds(Field, NAMES, st.none() | COUNTS, st.sampled_from(["head", "tail"])),
    st.builds(Field, NAMES, st.none(), st.sampled_from(["head", "tail"]), st.just(False)),
)
NODES: st.SearchStrategy[Node] = st.one_of(
    st.builds(Text, WORDS),
    FIELDS,
    SOFT,
    st.builds(Mask, st.booleans()),
    st.builds(Special, WORDS),
    st.sampled_from([Sep(), Choice(), Demos()]),
)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    try:
        return Template(tuple(draw(st.lists(NODES, min_size=1, max_size=8))))
    except TemplateError:
        assume(False)
        raise


@unhurried
@given(templates())
def test_written_and_read_it_is_the_same_template(template: Template) -> None:
    assert Template.parse(str(template)) == template
    assert str(Template.parse(str(template))) == str(template)


@unhurried
@given(templates(), st.text(alphabet="a b\n{}好", max_size=8))
def test_rendering_keeps_masks_learned_tokens_and_fields(template: Template, value: str) -> None:
    row = dict.fromkeys(template.field_names, value)
    segments = template.render(row, choice=value, demos=value)
    assert sum(isinstance(segment, MaskSegment) for segment in segments) == template.num_masks
    indices = tuple(segment.node_index for segment in segments if isinstance(segment, SoftSegment))
    assert indices == tuple(index for index, _ in template.soft_nodes)
    fields = [segment for segment in segments if isinstance(segment, FieldSegment)]
    assert all(segment.text == value.strip() for segment in fields)
    assert len(fields) == sum(isinstance(node, Field | Choice | Demos) for node in template.nodes)
    assert all(segment.text for segment in segments if isinstance(segment, TextSegment))
    for left, right in pairwise(segments):
        assert not (isinstance(left, TextSegment) and isinstance(right, TextSegment))
        if isinstance(left, TextSegment) and isinstance(right, SoftSegment):
            assert left.text == left.text.rstrip()
        if isinstance(left, TextSegment) and isinstance(right, MaskSegment):
            assert left.text.rstrip() == left.text or left.text.endswith("\n")


@unhurried
@given(templates())
def test_the_hard_template_has_no_learned_tokens_and_all_else(template: Template) -> None:
    try:
        hard = template.without_soft()
    except TemplateError:
        assume(False)
        raise
    assert not hard.has_soft
    assert hard.num_masks == template.num_masks and hard.field_names == template.field_names
    assert hard.without_soft() == hard
    if not template.has_soft:
        assert hard == template


@unhurried
@given(templates(), st.sampled_from(["good", "好", "5", "", " x"]))
def test_the_prefix_of_a_word_is_white_space(template: Template, word: str) -> None:
    assume(template.num_masks)
    assert template.word_prefix(word).strip() == ""


@unhurried
@given(st.text(alphabet="{}\"'\\:=, a1softmaskmax[]_总\n", max_size=24))
def test_any_text_is_read_or_refused_in_one_line(source: str) -> None:
    try:
        template = Template.parse(source)
    except TemplateError as error:
        assert "\n" not in str(error)
    else:
        assert Template.parse(str(template)) == template


@unhurried
@given(st.text(alphabet="a好\t\n{", min_size=1), st.data())
def test_a_caret_picture_has_two_lines(source: str, data: st.DataObject) -> None:
    column = data.draw(st.integers(1, len(source)))
    assert len(caret(source, column).split("\n")) == 2


def test_the_front_door_names_what_it_exports() -> None:
    assert sorted(ptune.template.__all__) == list(dict.fromkeys(sorted(ptune.template.__all__)))
    assert all(hasattr(ptune.template, name) for name in ptune.template.__all__)
    assert callable(ptune.template.template)
