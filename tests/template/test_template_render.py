"""Filling in a row, the white space rules, and the templates derived from a template."""

import pytest

from ptune.errors import TemplateError
from ptune.template import (
    Field,
    FieldSegment,
    Mask,
    MaskSegment,
    Soft,
    SoftSegment,
    SpecialSegment,
    Template,
    Text,
    TextSegment,
)

T, F, M, S = TextSegment, FieldSegment, MaskSegment, SoftSegment
ROW = {"text": " a film \n", "items": ("one", "two"), "empty": " "}


@pytest.mark.parametrize(
    ("source", "segments"),
    [
        ("{text} It was {mask}.", (F("a film", "text"), T(" It was"), M(" "), T("."))),
        ("{text}{mask}", (F("a film", "text"), M())),
        ("{text}  {mask}", (F("a film", "text"), M("  "))),
        ("Answer:\n{mask}", (T("Answer:\n"), M())),
        ("Answer: \n  {mask raw}", (T("Answer: \n"), M("  ", raw=True))),
        ("\n{mask}", (T("\n"), M())),
        ("情感：{mask}", (T("情感："), M())),
        ("{text} {soft:3} It was{soft} {mask}", (F("a film", "text"), S(2), T(" It was"), S(4), M(" "))),
        ("A\n{soft}\n{text}", (T("A"), S(1), T("\n"), F("a film", "text"))),
        ("{soft} {soft} {mask}", (S(0), S(2), M(" "))),
        ("{items} {empty}", (F("one two", "items"), T(" "), F("", "empty"))),
        ("{text max=5 trim=head}", (F("a film", "text", 5, "head"),)),
        ("{text keep}{sep}", (F("a film", "text", shortenable=False), SpecialSegment("<sep>"))),
        ('{special:"<eos>"} {mask}', (SpecialSegment("<eos>"), M(" "))),
        ("{{{text}}}", (T("{"), F("a film", "text"), T("}"))),
        ("{mask} and {mask}", (M(), T(" and"), M(" "))),
    ],
)
def test_white_space_belongs_to_what_follows(source: str, segments: tuple[object, ...]) -> None:
    assert Template.parse(source).render(ROW) == segments


def test_lists_are_joined_as_told() -> None:
    assert Template.parse("{items}").render(ROW, joiner="; ") == (F("one; two", "items"),)


def test_choice_and_demos_are_given_to_render() -> None:
    template = Template.parse("{demos}\n{text} {choice}{mask}")
    assert template.render(ROW, choice=" yes ", demos="x\n") == (
        F("x", "demos", trim="head"),
        T("\n"),
        F("a film", "text"),
        T(" "),
        F("yes", "choice", shortenable=False),
        M(),
    )
    with pytest.raises(TemplateError, match=r"\{demos\} has nothing to stand for .*demos="):
        template.render(ROW, choice="yes")
    with pytest.raises(TemplateError, match=r"\{choice\} has nothing to stand for .*choice="):
        template.render(ROW, demos="")


def test_a_missing_field_is_named_with_those_present() -> None:
    with pytest.raises(TemplateError, match=r'no field "sentence" .*text, items, empty'):
        Template.parse("{sentence}").render(ROW)


def test_text_of_a_row_is_never_read_as_a_template() -> None:
    assert Template.parse("{text}").render({"text": "{mask} {soft:3}"}) == (F("{mask} {soft:3}", "text"),)


def test_properties() -> None:
    template = Template.parse("{b} {soft:2}{a}{b} {mask}, {soft} x")
    assert template.field_names == ("b", "a")
    assert template.num_masks == 1
    assert template.soft_nodes == ((2, Soft(2)), (8, Soft(1)))
    assert template.has_soft and not Template.parse("{mask}").has_soft
    assert template.before_mask() == template.nodes[:6]
    assert template.after_mask() == (Text(", "), Soft(1), Text(" x"))
    assert Template.parse("{a} b").before_mask() == (Field("a"), Text(" b"))
    assert Template.parse("{a} b").after_mask() == ()
    assert Template.parse("x {mask}").prepend((Soft(20), Text("y "))).nodes == (Soft(20), Text("y x "), Mask())


@pytest.mark.parametrize(
    ("source", "hard"),
    [
        ("{text} {soft:5} {mask}", "{text} {mask}"),
        ("{text} {soft} {soft} {soft} {mask}", "{text} {mask}"),
        ("{soft:20} {text} It was {mask}", "{text} It was {mask}"),
        (" {soft} {soft} {text}", "{text}"),
        ("{text} It was {mask} {soft}", "{text} It was {mask}"),
        ("{text} It was{soft:3} {mask}", "{text} It was {mask}"),
        ('{text} {soft:"It was"} {soft:2} {mask}', "{text} It was {mask}"),
        ('{soft:"情感："}{text}{soft:3}{mask}', "情感：{text}{mask}"),
        ("A\n{soft} {text}", "A\n{text}"),
        ("A {soft}\n\n{text}", "A\n\n{text}"),
        ("A  {soft}  {text}", "A {text}"),
        ("A{soft}  {text}", "A {text}"),
        ("{text}{soft}{hypothesis}", "{text} {hypothesis}"),
        ("{text}{soft}It was {mask}{soft}now", "{text} It was {mask} now"),
        ("{text}。{soft}总之{mask}", "{text}。总之{mask}"),
    ],
)
def test_the_hard_template_that_remains(source: str, hard: str) -> None:
    assert str(Template.parse(source).without_soft()) == hard


def test_a_template_of_learned_tokens_alone_leaves_nothing() -> None:
    with pytest.raises(TemplateError, match="empty template"):
        Template.parse("{soft:20} {soft}").without_soft()
