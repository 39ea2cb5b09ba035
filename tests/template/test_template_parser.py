"""What the short form reads to, what it is written as, and what is refused with which words."""

import pytest

from ptune.errors import TemplateError
from ptune.template import Choice, Demos, Field, Mask, Sep, Soft, Special, Template, Text, caret

GOOD = {
    "{text}": (Field("text"),),
    "{text max=64 trim=head}": (Field("text", 64, "head"),),
    "{text keep}": (Field("text", shortenable=False),),
    "{标题-1_a}": (Field("标题-1_a"),),
    "{mask}": (Mask(),),
    "{mask raw}": (Mask(raw=True),),
    "{soft}": (Soft(1),),
    "{soft:8}": (Soft(8),),
    '{soft:"情感分析"}': (Soft(None, "情感分析"),),
    '{soft:4 "two words"}': (Soft(4, "two words"),),
    "{soft:3 id=a}": (Soft(3, name="a"),),
    "{soft:5 same}": (Soft(5, same=True),),
    '{soft:"a}b{c \\"d\\" \\\\ \\n"}': (Soft(None, 'a}b{c "d" \\ \n'),),
    '{special:"<eos>"}': (Special("<eos>"),),
    '{text} a{hard:"[SEP]"}b {hard:"｛\\n\\"｝"} {{{mask}': (Field("text"), Text(' a[SEP]b ｛\n"｝ {'), Mask()),
    "{sep}{choice}{demos}": (Sep(), Choice(), Demos()),
    "{{a}} {text}": (Text("{a} "), Field("text")),
    "{{{text}}}": (Text("{"), Field("text"), Text("}")),
    '{{"a": 1}} {text}': (Text('{"a": 1} '), Field("text")),
    "《{text}》总之{mask}": (Text("《"), Field("text"), Text("》总之"), Mask()),
}


@pytest.mark.parametrize("source", GOOD)
def test_reads_and_writes_the_canonical_form(source: str) -> None:
    assert Template.parse(source).nodes == GOOD[source]
    assert str(Template.parse(source)) == source


@pytest.mark.parametrize(
    ("source", "canonical"),
    [
        ("{ text  max = 64 }", "{text max=64}"),
        ("{soft:1}", "{soft}"),
        ("{soft:'it was'}", '{soft:"it was"}'),
        ('{soft "it was"}', '{soft:"it was"}'),
        ('{soft:1 "it"}', '{soft:1 "it"}'),
        ("{soft:3 id=a}{mask}{soft id=a}", "{soft:3 id=a}{mask}{soft:3 id=a}"),
        ("{text trim=tail}", "{text}"),
        ("{special:'</s>'}", '{special:"</s>"}'),
        ("{hard:'a {b}'} {text}", "a {{b}} {text}"),
        ('{hard:"____"} {text}{mask}', "____ {text}{mask}"),
    ],
)
def test_other_spellings_become_canonical(source: str, canonical: str) -> None:
    assert str(Template.parse(source)) == canonical


BAD = {
    "{text} It was {mask": ("never closed at column 15", "close it"),
    "{text It was {mask}": ("a brace inside braces at column 14", "close it"),
    "{text} was} {mask}": ("closing brace without an opening one at column 11", "}}"),
    "{}": ("empty braces at column 1", "{text}"),
    "{ }": ("empty braces at column 1", "{text}"),
    " \n ": ("empty template", "{mask}"),
    "": ("empty template", "{mask}"),
    "{text size=3}": ('unknown option "size" of {text} at column 7', "max=64"),
    "{text:64}": ('"64" out of place', "max=64"),
    "{text max=many}": ('"many" in place of a number at column 11', "max=64"),
    "{text max=99999999999999999999}": ("in place of a number", "max=64"),
    "{text max=0}": ("max=0", "at least one"),
    "{text max}": ('"max" without a value', "max="),
    "{text max=}": ('nothing behind "="', "value"),
    "{text max=2 max=3}": ('"max" given twice at column 13', "once"),
    "{text max=2, keep}": ('"," out of place', "spaces"),
    "{text max=2 keep}": ("both max and keep", "use one"),
    "{text keep=yes}": ('a value for "keep"', "only keep"),
    "{text trim=middle}": ('trim="middle"', "trim=head"),
    "{te.xt}": ('"te.xt" which is no field name', "letters"),
    "{text：max=3}": ("which is no field name", "half-width"),
    "{mask hard}": ('unknown option "hard"', "{mask raw}"),
    "{mask:2}": ('"2" out of place in {mask}', "{mask raw}"),
    "{soft:0}": ("0 learned tokens at column 1", "10000"),
    "{soft:10001}": ("10001 learned tokens", "10000"),
    "{soft:-3}": ('"-3" in place of a number', "{soft:8}"),
    "{soft:good}": ('"good" in place of a number', "straight quotes"),
    "{soft:“好”}": ("in place of a number", "straight quotes"),
    '{soft:""}': ("start from no words", "{soft:8}"),
    '{soft:"a" "b"}': ("words given twice", "once"),
    '{mask "a\nb"}': ('"a\\nb" out of place', "{mask raw}"),
    '{soft:"a}': ('a quote " that is never closed at column 7', 'close it with "'),
    '{soft:"a\\q"}': ("unknown escape \\q at column 9", "backslash"),
    "{soft id=a.b}": ('id "a.b"', "letters"),
    "{soft:3 id=a} {soft:4 id=a}": ("differ from the first with that id at column 15", "{soft id=a}"),
    "{special:<eos>}": ("not in quotes", '{special:"<eos>"}'),
    '{special:" "}': ("without text", "<eos>"),
    "{hard} {mask}": ("hard words that are not in quotes", '{hard:"[SEP]"}'),
    '{hard:"[SEP]"} [CLS] {mask}': ("[CLS]", "leave it out"),
    "{sep raw}": ('unknown option "raw"', "{sep}"),
    "{:3}": ('":" in place of a name', "{text}"),
    "{Mask}": ("unknown {Mask} at column 2", "{mask} in small letters"),
    "{SOFT:3}": ("unknown {SOFT}", "{soft} in small letters"),
    "{text} It was [MASK].": ("[MASK] which is not of this template language at column 15", "write {mask}"),
    "{text} It was <mask>.": ("<mask>", "write {mask}"),
    "{text} It was <extra_id_0>.": ("<extra_id_0>", "write {mask}"),
    "{text} It was ____.": ("____", "write {mask}"),
    "[P] {text} {mask}": ("[P]", "{soft:8}"),
    "[P1][P2] {text} {mask}": ("[P1]", "{soft:8}"),
    "[v1] {text} {mask}": ("[v1]", "{soft:8}"),
    "[unused1] {text} {mask}": ("[unused1]", "{soft:8}"),
    "{text} [SEP] {mask}": ("[SEP]", "{sep}"),
    "<text_a> It was {mask}": ("<text_a>", "{text}"),
    "{{text}} It was {{mask}}": ("{mask}", "single braces"),
    "｛text｝ {mask}": ("｛text｝", "half-width"),
}


@pytest.mark.parametrize("source", BAD)
def test_refuses_with_place_and_remedy(source: str) -> None:
    what, fix = BAD[source]
    with pytest.raises(TemplateError) as caught:
        Template.parse(source)
    error = caught.value
    assert what in error.what
    assert fix in error.fix
    assert "column" in error.what
    assert "\n" not in str(error) and str(error).startswith("template: ")
    assert len(error.__notes__) == 1 and error.__notes__[0].endswith("^")


@pytest.mark.parametrize("source", [None, {}, {"text": None}, ["{text}"], 3])
def test_something_that_is_not_text_is_about_quotes_in_yaml(source: object) -> None:
    with pytest.raises(TemplateError, match="put it in quotes in the YAML file"):
        Template.parse(source)  # type: ignore[arg-type]


def test_underscores_beside_a_mask_and_several_masks_are_allowed() -> None:
    assert Template.parse("____ {mask}{mask}").num_masks == 2


def test_caret_stands_under_the_place_beside_wide_characters() -> None:
    assert caret("总体{x}", 3) == "总体{x}\n    ^"
    assert caret("a\n\t好{", 5) == "\t好{\n\t  ^"
    assert caret("e\u0301{", 3) == "e\u0301{\n ^"


def test_the_line_is_named_in_templates_of_several_lines() -> None:
    with pytest.raises(TemplateError, match="at line 2, column 4") as caught:
        Template.parse("{text}\n情感：{} {mask}")
    assert caught.value.__notes__ == ["情感：{} {mask}\n      ^"]


def test_nodes_made_by_a_program_obey_the_same_rules() -> None:
    for nodes in ((), (Text(" "),), (Field("mask"),), (Soft(0),), (Soft(None),)):
        with pytest.raises(TemplateError):
            Template(nodes)
    with pytest.raises(TemplateError, match="differ from the first"):
        Template((Soft(2, name="a"), Mask(), Soft(3, name="a")))
    assert Template((Text("a"), Text(""), Text("b"))).nodes == (Text("ab"),)


@pytest.mark.parametrize("words", ["[MASK]", "a [SEP][V] <mask> b", "｛text｝", "[unused1] {x}", "____ {mask}", "<extra_id_0>"])
def test_words_that_look_like_another_tools_notation_are_written_in_quotes(words: str) -> None:
    """As hard words of a person they are a mistake; of a program, which shows a text of the data, they are words."""
    for template in (Template((Text(words), Field("text"))), Template((Text(words), Field("text"), Mask()))):
        assert Template.parse(str(template)) == template
