"""OpenPrompt's way of writing templates, as its tutorials and scripts use it."""

from pathlib import Path

import pytest

from ptune.errors import TemplateError
from ptune.template import Template

SAME = {
    '{"placeholder":"text_a"} It was {"mask"}.': "{text_a} It was {mask}.",
    "{'placeholder': 'text_a'} It was {'mask'}.": "{text_a} It was {mask}.",
    '{ "placeholder" : "text_a", "shortenable": False }{"mask": None}': "{text_a keep}{mask}",
    '{"placeholder":"text_a","shortenable":"False"}{"mask"}': "{text_a keep}{mask}",
    '{"soft"}{"soft": null}{"soft": ""}': "{soft}{soft}{soft}",
    '{"soft": "Question:"} {"placeholder":"text_b"}?': '{soft:"Question:"} {text_b}?',
    '{"soft": None, "duplicate": 5, "same": True}': "{soft:5 same}",
    '{"soft": null, "duplicate": 5, "same": true}': "{soft:5 same}",
    '{"soft": "the", "duplicate": 4}': '{soft:4 "the"}',
    '{"soft": None} {"soft": "the", "soft_id": 1} {"soft": "it", "soft_id": 3} {"soft_id": 1} {"mask"}': (
        '{soft} {soft:"the" id=1} {soft:"it" id=3} {soft:"the" id=1} {mask}'
    ),
    '{"soft_id": 1} {"soft_id": 1}': "{soft id=1} {soft id=1}",
    '{"meta":"context", "shortenable": True} {"meta": "entity"}': "{context} {entity keep}",
    '{"special":"<eos>"}{"sep"}': '{special:"<eos>"}{sep}',
    '{"text": "It was {so}"} {"mask"}': "It was {{so}} {mask}",
    'A {"text": "b", "add_prefix_space": ""} {"mask"}': "Ab {mask}",
    'A{"placeholder": "t", "add_prefix_space": " "}{"mask"}': "A {t}{mask}",
    'A  {"soft": None, "add_prefix_space": " "}{"mask"}': "A {soft}{mask}",
    '{"placeholder":"text_a"} It was {soft:3} {mask}.': "{text_a} It was {soft:3} {mask}.",
    '{"meta": "a", "post_processing": None} {"mask"}': "{a keep} {mask}",
}


@pytest.mark.parametrize("source", SAME)
def test_reads_as_the_short_form(source: str) -> None:
    assert str(Template.parse(source)) == SAME[source]


BAD = {
    '{"meta": "a", "post_processing": lambda s: s.rstrip()} {"mask"}': ('"lambda"', "holds no code"),
    '{"meta": "a", "post_processing": str.strip} {"mask"}': ('"str.strip"', "holds no code"),
    '{"soft": None, "post_processing": "mlp"}': ('"post_processing": which is not supported', "holds no code"),
    '{"soft": [1]}': ('"[1]"', "holds no code"),
    '{"soft": -1}': ('"-1"', "holds no code"),
    '{"soft": 3}': ('"soft": no text', "words"),
    '{"soft": None, "duplicate": "3"}': ("no whole number", '"duplicate": 5'),
    '{"soft": None, "duplicate": True}': ("no whole number", '"duplicate": 5'),
    '{"soft": None, "duplicate": 0}': ("0 learned tokens", "10000"),
    '{"soft": None, "same": 1}': ("neither True nor False", "True"),
    '{"placeholder": "a b"}': ('"a b" which is no field name', "letters"),
    '{"placeholder"}': ('"placeholder": no text', "words"),
    '{"placeholder": }': ('":" in place of a text', "code"),
    '{"mask": None, "size": 3}': ('"size": no key of "mask"', "add_prefix_space"),
    '{"name": "x"}': ('unknown key "name"', "{{ and }}"),
    '{"a" "b"}': ('"b" in place of a comma', "code"),
    '{"soft": None, soft_id: 1}': ('"soft_id" in place of a quoted key', "short form"),
    '{"soft": None, "soft": "a"}': ('"soft" given twice', "once"),
    '{"text": "b", "add_prefix_space": "  "}': ("neither an empty text nor a space", '" "'),
    '{"soft": "a", "soft_id": 1} {"soft": "b", "soft_id": 1}': ("differ from the first", "{soft id=1}"),
}


@pytest.mark.parametrize("source", BAD)
def test_refuses_with_remedy(source: str) -> None:
    what, fix = BAD[source]
    with pytest.raises(TemplateError) as caught:
        Template.parse(source)
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.__notes__


@pytest.mark.parametrize("code", ["__import__('os').system('touch {path}')", "open('{path}', 'w')", "[open('{path}', 'w')]"])
@pytest.mark.parametrize("form", ['{"soft": CODE}', '{"meta": "a", "post_processing": lambda s: CODE}', "{CODE}"])
def test_never_evaluates(code: str, form: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(TemplateError):
        Template.parse(form.replace("CODE", code.replace("{path}", str(witness))))
    assert not witness.exists()
