"""OpenPrompt's way to write a node: `{"placeholder": "text_a"}`, `{"mask"}`, `{"soft": None, "duplicate": 5}`.

Python and JSON literals are read by hand; anything else (a lambda, a call, a name) is refused and never evaluated.
White space stays as the template has it, which is OpenPrompt's own rule: a part gets a leading space when a space
stands in front of it; the key `add_prefix_space` overrides that. As there, only placeholders are shortened by default.
Source of the form: Ding et al. 2022, "OpenPrompt".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ptune.errors import TemplateError
from ptune.template.nodes import Field, Mask, Node, Sep, Soft, Special, Text
from ptune.template.scanner import Token, error_at, whole_number

__all__ = ["parse_openprompt"]

_CONSTANTS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
_SHORT_FORM = "write it in the short form, such as {text} {soft:8} {mask}, or {{ and }} for braces meant as text"
_NO_CODE = "prepare that column in the data instead, or use {text max=64 trim=head}: a template holds no code"

_Constant = str | int | bool | None


@dataclass(frozen=True)
class _Entry:
    value: _Constant
    token: Token


class _Entries:
    """The keys and values of one node, and the template they stand in, for the messages."""

    def __init__(self, source: str, entries: Mapping[str, _Entry]) -> None:
        self.source = source
        self.entries = dict(entries)

    def error(self, key: str, what: str, fix: str) -> TemplateError:
        return error_at(self.source, self.entries[key].token.start, f'"{key}": {what}', fix)

    def text(self, key: str) -> str:
        value = self.entries[key].value
        if not isinstance(value, str):
            raise self.error(key, "no text", f'give it a text, such as {{"{key}": "words"}}')
        return value

    def text_or_none(self, key: str) -> str | None:
        return None if key not in self.entries or self.entries[key].value is None else self.text(key)

    def number(self, key: str) -> int | None:
        value = self.entries[key].value if key in self.entries else None
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.error(key, "no whole number", f'give it a number, such as "{key}": 5')
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.entries[key].value if key in self.entries else default
        if isinstance(value, str) and value in _CONSTANTS:
            value = _CONSTANTS[value]
        if not isinstance(value, bool):
            raise self.error(key, "neither True nor False", f'write "{key}": True or "{key}": False')
        return value


def parse_openprompt(source: str, body: tuple[Token, ...], named: Mapping[str, Soft]) -> tuple[str | None, Node]:
    """Reads one node in OpenPrompt's form.

    Args:
        source: the whole template, for error messages.
        body: the tokens between the node's braces.
        named: the learned tokens that already carry an id in this template.

    Returns:
        The white space that `add_prefix_space` asks for in front of the node (None where it is not given) and the node.

    Raises:
        TemplateError: code instead of a literal, an unknown key, or a value of the wrong kind.
    """
    entries = _Entries(source, _literal(source, body))
    first = body[0]
    leading = next((key for key in _BUILDERS if key in entries.entries), None)
    if leading is None:
        raise error_at(source, first.start, f'the unknown key "{first.text}"', _SHORT_FORM)
    build, allowed = _BUILDERS[leading]
    for key, entry in entries.entries.items():
        if key == "post_processing" and entry.value is not None:
            raise entries.error(key, "which is not supported", _NO_CODE)
        if key not in {leading, "add_prefix_space", "post_processing", *allowed}:
            keys = ", ".join(f'"{name}"' for name in (*allowed, "add_prefix_space"))
            raise entries.error(key, f'no key of "{leading}"', f"use {keys}")
    space = entries.text_or_none("add_prefix_space")
    if space not in {None, "", " "}:
        raise entries.error("add_prefix_space", "neither an empty text nor a space", 'write "" or " "')
    return space, build(entries, named)


_Builder = Callable[[_Entries, Mapping[str, Soft]], Node]


def _field(key: str, shortenable: bool) -> _Builder:
    def build(entries: _Entries, named: Mapping[str, Soft]) -> Node:
        return Field(entries.text(key), shortenable=entries.flag("shortenable", shortenable))

    return build


def _soft(entries: _Entries, named: Mapping[str, Soft]) -> Node:
    words, number, count = entries.text_or_none("soft"), entries.number("soft_id"), entries.number("duplicate")
    name = None if number is None else str(number)
    if name is not None and name in named and words is None and count is None:
        return named[name]
    if words is not None and not words.strip():
        words = None
    return Soft(count if words or count is not None else 1, words, name, entries.flag("same", False))


_SHORTEN = ("shortenable",)
_BUILDERS: dict[str, tuple[_Builder, tuple[str, ...]]] = {
    "placeholder": (_field("placeholder", shortenable=True), _SHORTEN),
    "meta": (_field("meta", shortenable=False), _SHORTEN),
    "soft": (_soft, ("soft_id", "duplicate", "same")),
    "soft_id": (_soft, ("duplicate", "same")),
    "mask": (lambda entries, named: Mask(), ()),
    "sep": (lambda entries, named: Sep(), ()),
    "special": (lambda entries, named: Special(entries.text("special")), ()),
    "text": (lambda entries, named: Text(entries.text("text")), _SHORTEN),
}


def _literal(source: str, body: tuple[Token, ...]) -> dict[str, _Entry]:
    """Reads `"key": value, "key"` (a key alone has the value None)."""
    entries: dict[str, _Entry] = {}
    rest = list(body)
    while rest:
        key = rest.pop(0)
        if key.kind != "string":
            raise error_at(source, key.start, f'"{key.text}" in place of a quoted key', _SHORT_FORM)
        if key.text in entries:
            raise error_at(source, key.start, f'"{key.text}" given twice', "give it once")
        value: _Constant = None
        if rest and (rest[0].kind, rest[0].text) == ("sign", ":"):
            colon = rest.pop(0)
            value = _constant(source, rest.pop(0) if rest else colon)
        entries[key.text] = _Entry(value, key)
        if rest and (comma := rest.pop(0)).text != ",":
            raise error_at(source, comma.start, f'"{comma.text}" in place of a comma', _NO_CODE)
    return entries


def _constant(source: str, token: Token) -> _Constant:
    if token.kind == "string":
        return token.text
    if token.kind == "word" and token.text in _CONSTANTS:
        return _CONSTANTS[token.text]
    if (number := whole_number(token)) is not None:
        return number
    raise error_at(source, token.start, f'"{token.text}" in place of a text, a number, True, False or None', _NO_CODE)
