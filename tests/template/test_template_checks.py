"""What the static checks find, and that they stay quiet where all is well."""

from collections.abc import Mapping, Sequence
from typing import Literal

import pytest

from ptune.template import Finding, Template, check_template

Kind = Literal["decoder", "encoder", "encoder-decoder"]
Rows = Sequence[Mapping[str, str | tuple[str, ...]]]

ENGLISH: Rows = [{"text": "A fine film.", "title": "Up", "items": ("one", "two")}]
CHINESE: Rows = [{"text": "房间很干净，服务也好。", "title": "上海"}]


def messages(source: str, kind: Kind = "encoder", rows: Rows = ENGLISH, needs_mask: bool = True) -> list[str]:
    found = check_template(Template.parse(source), kind=kind, sample_fields=rows, needs_mask=needs_mask)
    assert all(isinstance(finding, Finding) for finding in found)
    return [f"{finding.level}: {finding.message}" for finding in found]


@pytest.mark.parametrize(
    ("source", "kind", "rows"),
    [
        ("{text} It was {mask}.", "encoder", ENGLISH),
        ("{text} It was {mask}.", "encoder-decoder", ENGLISH),
        ("{text} It was {mask}", "decoder", ENGLISH),
        ("{text}{soft:5}{mask}", "decoder", ENGLISH),
        ("{text}{soft:5}{title}{sep}{text}{mask}", "encoder", ENGLISH),
        ("《{title}》{text}\n总之很{mask}。", "encoder", CHINESE),
        ("{text}: {mask}", "decoder", CHINESE),
        ("{items} It was {mask} ", "decoder", ENGLISH),
        ("{anything} It was {mask}", "decoder", []),
    ],
)
def test_nothing_to_say(source: str, kind: Kind, rows: Rows) -> None:
    assert messages(source, kind, rows) == []


def test_a_missing_mask_is_an_error_only_where_words_are_scored() -> None:
    assert messages("{text} It was fine.")[0].startswith("error: the template has no {mask}")
    assert messages("{text} It was fine.", needs_mask=False) == []
    assert messages("{text} It was {mask} {mask}")[0].startswith("hint: the template has 2 masks")


def test_a_template_in_another_language_than_the_data() -> None:
    assert "warning: the template is in a language written with spaces" in messages("{text} It was {mask}.", rows=CHINESE)[0]
    assert "warning: the template is in a language written without spaces" in messages("{text} 总之很{mask}。")[0]
    assert "without spaces" in messages('{soft:"情感"} {text} {mask}')[0]


@pytest.mark.parametrize(
    ("source", "rows", "level"),
    [
        ("{text}Overall {mask}", ENGLISH, "warning"),
        ("Review{text} {mask}", ENGLISH, "warning"),
        ("{title}{text} {mask}", ENGLISH, "warning"),
        ("{text}{choice} {mask}", ENGLISH, "warning"),
        ("{text}总之很{mask}", CHINESE, "hint"),
    ],
)
def test_nothing_between_a_field_and_its_neighbour(source: str, rows: Rows, level: str) -> None:
    (message,) = messages(source, rows=rows)
    assert message.startswith(f"{level}: nothing separates the parts of")


@pytest.mark.parametrize(
    ("source", "level", "rewrite"),
    [
        ("{text} It was {mask}.", "hint", "{text} It was {mask}"),
        ("{text} It was a {mask} film.", "warning", "{text} It was a {mask}"),
        ("{mask} News: {text}", "warning", "{text} {mask}"),
        ("A {mask} film: {text} {title}", "warning", "{text} {title} A {mask}"),
        ("{text} It was {mask}{soft:3}", "warning", "{text} It was {soft:3} {mask}"),
    ],
)
def test_what_stands_behind_the_mask_of_a_causal_model(source: str, level: str, rewrite: str) -> None:
    (message,) = messages(source, "decoder")
    assert message.startswith(f"{level}: ")
    assert f'cheaper: "{rewrite}"' in message
    assert messages(source, "encoder-decoder") == []


def test_fields_that_the_data_lacks() -> None:
    assert messages("{txt} It was {mask}")[0] == (
        'error: the data has no field "txt", only text, title, items; did you mean "text"?'
    )
    rows: Rows = [{"text": "a"}, {"text": "b", "title": "c"}]
    assert messages("{title} It was {mask}", rows=rows) == ['error: 1 of 2 rows have no field "title"']


def test_errors_come_first() -> None:
    levels = [message.split(":")[0] for message in messages("{text}{nothing}It was {mask}.", "decoder")]
    assert levels == ["error", "warning", "warning", "hint"]
