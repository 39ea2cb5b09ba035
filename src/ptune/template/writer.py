"""Writes nodes back as text, in the one canonical short form that `ptune.template.parser` reads to the same nodes."""

from collections.abc import Sequence
from typing import assert_never

from ptune.template.nodes import Choice, Demos, Field, Mask, Node, Sep, Soft, Special, Text
from ptune.template.scanner import quoted

__all__ = ["write_nodes"]


def write_nodes(nodes: Sequence[Node]) -> str:
    """Writes a template in the short form; options that have their default value are left out."""
    return "".join(map(_written, nodes))


def _written(node: Node) -> str:
    match node:
        case Text(text):
            return text.replace("{", "{{").replace("}", "}}")
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
