"""Reads a template's text into nodes: `{text} It was {soft:3} {mask}.`

A scanner goes from brace to brace; `{{` and `}}` are braces meant as text. A brace that opens with a quote holds a node
in OpenPrompt's form, every other brace one in the short form, so both may stand in one template. Nothing is evaluated.
Every error names the column and carries a picture of the place as a note.
"""

import re
from typing import Literal, NoReturn, cast

from ptune.template.nodes import Choice, Demos, Field, Mask, Node, Sep, Soft, Special, Text
from ptune.template.openprompt import parse_openprompt
from ptune.template.rules import KEYWORDS, foreign_fault, merged, node_fault, sharing_fault, whole_fault
from ptune.template.scanner import Token, closing_brace, error_at, tokens, whole_number

__all__ = ["parse_nodes"]

_HARD = re.compile(r"(?:[^{}]+|\{\{|\}\})+")

_PLAIN: dict[str, Node] = {"sep": Sep(), "choice": Choice(), "demos": Demos()}


def parse_nodes(source: str) -> tuple[Node, ...]:
    """Reads a template.

    Args:
        source: the template as text, in the short form, in OpenPrompt's form, or in both.

    Returns:
        The nodes in reading order, adjacent hard texts joined.

    Raises:
        TemplateError: a mistake in the template, with its column.
    """
    nodes: list[Node] = []
    written: list[str] = []
    named: dict[str, Soft] = {}
    position = 0
    while position < len(source):
        if hard := _HARD.match(source, position):
            written.append(hard.group().replace("{{", "{").replace("}}", "}"))
            nodes.append(Text(written[-1]))
            position = hard.end()
        elif source[position] == "}":
            raise error_at(source, position, "a closing brace without an opening one", "write }} for a brace as text")
        else:
            end = closing_brace(source, position)
            nodes.extend(_read_braces(source, position, end, nodes, named))
            position = end + 1
    if fault := whole_fault(nodes) or foreign_fault(written, nodes):
        raise error_at(source, max(source.find(fault.found), 0), fault.what, fault.fix)
    return merged(nodes)


def _read_braces(source: str, start: int, end: int, before: list[Node], named: dict[str, Soft]) -> list[Node]:
    """Reads the node between the braces at `start` and `end`; `before` loses the spaces that the node replaces."""
    body = tokens(source, start + 1, end)
    if not body:
        fix = "name a field, such as {text}, or write {{ and }} for braces meant as text"
        raise error_at(source, start, "empty braces", fix)
    prefix: str | None = None
    if body[0].kind == "string":
        prefix, node = parse_openprompt(source, body, named)
    else:
        node = _Reading(source, body, named).node()
    if fault := node_fault(node) or sharing_fault(node, named):
        raise error_at(source, start, fault.what, fault.fix)
    if prefix is None:
        return [node]
    if before and isinstance(before[-1], Text):
        before[-1] = Text(before[-1].text.rstrip(" "))
    return [Text(prefix), node]


class _Reading:
    """One node of the short form: `head:value key=value flag "words"`; what is not taken in the end is an error."""

    def __init__(self, source: str, body: tuple[Token, ...], named: dict[str, Soft]) -> None:
        self.source, self.named = source, named
        self.head, rest = body[0], list(body[1:])
        if self.head.kind == "sign":
            self.fail(self.head, f'"{self.head.text}" in place of a name', "name a field, such as {text}")
        if self.head.text not in KEYWORDS and (fault := node_fault(Field(self.head.text))):
            self.fail(self.head, fault.what, fault.fix)
        self.value = self._after_sign(":", rest)
        self.words: Token | None = None
        self.options: dict[str, tuple[Token, Token | None]] = {}
        while rest:
            token = rest.pop(0)
            if token.kind == "word" and token.text not in self.options:
                self.options[token.text] = (token, self._after_sign("=", rest))
            elif token.kind == "string" and self.words is None:
                self.words = token
            elif token.kind == "sign":
                fix = "separate options by spaces, such as {text max=64 keep}"
                self.fail(token, f'"{token.text}" out of place', fix)
            else:
                self.fail(token, f'"{token.text}" given twice', "give it once")

    def fail(self, token: Token, what: str, fix: str) -> NoReturn:
        raise error_at(self.source, token.start, what, fix)

    def _after_sign(self, sign: str, rest: list[Token]) -> Token | None:
        if not rest or (rest[0].kind, rest[0].text) != ("sign", sign):
            return None
        token = rest.pop(0)
        if not rest or rest[0].kind == "sign":
            self.fail(token, f'nothing behind "{sign}"', f"write the value behind {sign} or leave {sign} out")
        return rest.pop(0)

    def take(self, key: str) -> Token | None:
        """The value of `key=value`, or None where it is not given."""
        token, value = self.options.pop(key, (self.head, None))
        if token is not self.head and value is None:
            self.fail(token, f'"{key}" without a value', f"write {key}= and the value")
        return value

    def flag(self, key: str) -> bool:
        token, value = self.options.pop(key, (self.head, None))
        if value is not None:
            self.fail(value, f'a value for "{key}"', f"write only {key}")
        return token is not self.head

    def number(self, token: Token, fix: str) -> int:
        if (value := whole_number(token)) is None:
            self.fail(token, f'"{token.text}" in place of a number', fix)
        return value

    def finish(self, known: str) -> None:
        """Refuses whatever no one has taken."""
        for token, _ in self.options.values():
            self.fail(token, f'the unknown option "{token.text}" of {{{self.head.text}}}', known)
        for leftover in (self.words, self.value):
            if leftover is not None:
                self.fail(leftover, f'"{leftover.text}" out of place in {{{self.head.text}}}', known)

    def node(self) -> Node:
        match self.head.text:
            case "mask":
                node: Node = Mask(raw=self.flag("raw"))
                known = "write {mask} or {mask raw}"
            case "soft":
                node = self._soft()
                known = 'use a count, "words", id= and same, such as {soft:4 "words" id=a}'
            case "hard":
                known = 'write {hard:"[SEP]"}'
                node = Text(self._quoted("hard words that are not in quotes", known))
            case "special":
                known = 'write {special:"<eos>"}'
                node = Special(self._quoted("a special token that is not in quotes", known))
            case "sep" | "choice" | "demos" as keyword:
                node = _PLAIN[keyword]
                known = f"write {{{keyword}}}"
            case _:
                node = self._field()
                known = "the options of a field are max=64, trim=head, trim=tail and keep"
        self.finish(known)
        return node

    def _field(self) -> Field:
        most, trim = self.take("max"), self.take("trim")
        if trim is not None and trim.text not in {"head", "tail"}:
            self.fail(trim, f'trim="{trim.text}"', "write trim=head or trim=tail, the end that is cut")
        return Field(
            self.head.text,
            None if most is None else self.number(most, "give a number of tokens, such as max=64"),
            "tail" if trim is None else cast(Literal["head", "tail"], trim.text),
            not self.flag("keep"),
        )

    def _soft(self) -> Soft:
        first, words = self.value, self.words
        self.value = self.words = None
        if first is not None and first.kind == "string":
            if words is not None:
                self.fail(words, "words given twice", 'write them once, such as {soft:"words"}')
            first, words = None, first
        identifier, same = self.take("id"), self.flag("same")
        name = None if identifier is None else identifier.text
        if name is not None and name in self.named and first is None and words is None and not same:
            return self.named[name]
        count = None if words is not None else 1
        if first is not None:
            count = self.number(first, 'write {soft:8}, or words in straight quotes, such as {soft:"good"}')
        return Soft(count, None if words is None else words.text, name, same)

    def _quoted(self, what: str, fix: str) -> str:
        token, self.value = self.value, None
        if token is None or token.kind != "string":
            self.fail(token or self.head, what, fix)
        return token.text
