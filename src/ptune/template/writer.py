"""Writes nodes back as text, in the one canonical short form that `ptune.template.parser` reads to the same nodes."""

import re
from collections.abc import Sequence
from typing import assert_never

from ptune.template.nodes import Choice, Demos, Field, Mask, Node, Sep, Soft, Special, Text
from ptune.template.rules import foreign_notation
from ptune.template.scanner import quoted

__all__ = ["write_nodes"]


def write_nodes(nodes: Sequence[Node]) -> str:
    """Writes a template in the short form; options that have their default value are left out."""
    foreign = foreign_notation(nodes)
    return "".join(_written(node, foreign) for node in nodes)


def _written(node: Node, foreign: re.Pattern[str]) -> str:
    match node:
        case Text(text):
            return _hard(text, foreign)
        case Field():
            return _braces(
                node.name,
                "" if node.max_tokens is None else f"max={node.max_tokens}",
                "" if node.trim == "tail" else f"trim={node.trim}",
                "" if node.shortenable else "keep",
            )
        case Mask(raw):
            return "{mask raw}" if raw else "{mask}"
        case Soft():
            return _soft(node)
        case Sep():
            return "{sep}"
        case Special(token):
            return f"{{special:{quoted(token)}}}"
        case Choice():
            return "{choice}"
        case Demos():
            return "{demos}"
        case _:
            assert_never(node)


def _hard(text: str, foreign: re.Pattern[str]) -> str:
    """Words as they stand; other tools' notations in quotes."""
    parts = foreign.split(text)  # every second one is such a notation
    parts[::2] = [part.replace("{", "{{").replace("}", "}}") for part in parts[::2]]
    parts[1::2] = [f"{{hard:{quoted(part)}}}" for part in parts[1::2]]
    return "".join(parts)


def _soft(node: Soft) -> str:
    words = "" if node.words is None else quoted(node.words)
    count = "" if node.count is None or (node.count == 1 and not words) else str(node.count)
    start = " ".join(filter(None, (count, words)))
    return _braces(
        f"soft:{start}" if start else "soft",
        "" if node.name is None else f"id={node.name}",
        "same" if node.same else "",
    )


def _braces(*parts: str) -> str:
    return "{" + " ".join(filter(None, parts)) + "}"
