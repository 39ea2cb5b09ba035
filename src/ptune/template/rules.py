"""What makes nodes a valid template, said once: for the parser, which adds the place, and for nodes made by a program.

`node_fault` looks at one node, `sharing_fault` at one beside those before it, `whole_fault` at all. Each returns what
is wrong and how to mend it, or None. Notations of other tools (`[MASK]`, `[P]`, `<extra_id_0>`, `___`) are faults where a
person writes them, because as hard text they would be read as plain words; texts of data, which may hold them, are written
in quotes.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from ptune.template.nodes import Field, Mask, Node, Soft, Special, Text
from ptune.template.scanner import quoted

__all__ = [
    "KEYWORDS",
    "MAX_SOFT_TOKENS",
    "Fault",
    "foreign_fault",
    "foreign_notation",
    "is_name",
    "merged",
    "node_fault",
    "sharing_fault",
    "whole_fault",
]

KEYWORDS = ("mask", "soft", "hard", "sep", "special", "choice", "demos")
MAX_SOFT_TOKENS = 10_000


class Fault(NamedTuple):
    """A mistake: `what` it is, how to `fix` it, and the characters by which it is `found` in the template."""

    what: str
    fix: str
    found: str = ""


_FOREIGN = (
    (r"\[g?MASK\]|<mask>|<extra_id_\d+>", "write {mask} for the answer slot"),
    (r"\[[PV]\d*\]|\[v\d+\]|\[unused\d+\]", "write {soft} for one learned token, {soft:8} for eight"),
    (r"\[SEP\]", "write {sep} for the model's separator"),
    (r"\[CLS\]|\[PAD\]", "leave it out: the model's own special tokens are added by themselves"),
    (r"<text_[ab]>", "write a field in braces, such as {text}"),
    (r"｛[^｛｝]*｝", "write the half-width braces { and }"),
)
_FOREIGN_WITHOUT_MASK = (
    (r"_{3,}", "write {mask} for the answer slot"),
    (r"\{mask\}", "write {mask} with single braces: double braces are braces meant as text"),
)


def is_name(text: str) -> bool:
    """Tells whether `text` can name a field or a group of learned tokens: letters of any script, digits, _ and -."""
    return text != "" and all(c in "_-" or c.isalnum() or unicodedata.category(c)[0] == "M" for c in text)


def merged(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Joins adjacent hard texts and drops empty ones."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Text) and result and isinstance(result[-1], Text):
            result[-1] = Text(result[-1].text + node.text)
        elif node != Text(""):
            result.append(node)
    return tuple(result)


def node_fault(node: Node) -> Fault | None:
    """Returns what is wrong with one node by itself, or None."""
    match node:
        case Field():
            return _field_fault(node)
        case Soft():
            return _soft_fault(node)
        case Special(token) if not token.strip():
            return Fault("a special token without text", 'name it, such as {special:"<eos>"}')
    return None


def _field_fault(field: Field) -> Fault | None:
    name, lower = field.name, field.name.lower()
    if not is_name(name):
        fix = (
            "use the half-width signs : = and straight quotes"
            if set(name) & set("：＝“”‘’")
            else "use letters, digits, _ and -"
        )
        return Fault(f"{quoted(name)} which is no field name", fix)
    if name in KEYWORDS:
        return Fault(f'a field named "{name}", a word of the template language', "rename that column of the data")
    if lower in KEYWORDS:
        return Fault(f"the unknown {{{name}}}", f"write {{{lower}}} in small letters")
    if field.max_tokens is not None and field.max_tokens < 1:
        return Fault(f'max={field.max_tokens} for field "{name}"', "give at least one token, such as max=64")
    if field.max_tokens is not None and not field.shortenable:
        return Fault(f'both max and keep for field "{name}"', "use one: keep forbids shortening, max asks for it")
    return None


def _soft_fault(soft: Soft) -> Fault | None:
    if soft.count is None and soft.words is None:
        return Fault("learned tokens without count and words", 'give one, such as {soft:8} or {soft:"words"}')
    if soft.count is not None and not 1 <= soft.count <= MAX_SOFT_TOKENS:
        return Fault(f"{soft.count} learned tokens", f"use 1 to {MAX_SOFT_TOKENS}")
    if soft.words is not None and not soft.words.strip():
        return Fault("learned tokens that start from no words", "give words, or a count such as {soft:8}")
    if soft.name is not None and not is_name(soft.name):
        return Fault(f"the id {quoted(soft.name)} of learned tokens", "use letters, digits, _ and -")
    return None


def sharing_fault(node: Node, named: dict[str, Soft]) -> Fault | None:
    """Returns what is wrong between one node and the learned tokens `named` by earlier ones; remembers its own id."""
    if isinstance(node, Soft) and node.name is not None and named.setdefault(node.name, node) != node:
        fix = f"write {{soft id={node.name}}} to repeat the first, or take another id"
        return Fault(f'learned tokens with id "{node.name}" that differ from the first with that id', fix)
    return None


def whole_fault(nodes: Sequence[Node]) -> Fault | None:
    """Returns what is wrong with the nodes as a template, or None."""
    if all(isinstance(node, Text) and not node.text.strip() for node in nodes):
        return Fault("an empty template", "write one, such as {text} It was {mask}.")
    return None


def foreign_fault(texts: Sequence[str], nodes: Sequence[Node]) -> Fault | None:
    """Returns another tool's notation in the hard texts of a template as they were written, or None."""
    for pattern, fix in _foreign(nodes):
        for text in texts:
            if found := re.search(pattern, text):
                return Fault(f"{found.group()} which is not of this template language", fix, found.group())
    return None


def foreign_notation(nodes: Sequence[Node]) -> re.Pattern[str]:
    """What is written in quotes where a text of these nodes holds it."""
    return re.compile("(" + "|".join(pattern for pattern, _ in _foreign(nodes)) + ")")


def _foreign(nodes: Sequence[Node]) -> tuple[tuple[str, str], ...]:
    with_mask = any(isinstance(node, Mask) for node in nodes)
    return _FOREIGN if with_mask else _FOREIGN + _FOREIGN_WITHOUT_MASK
