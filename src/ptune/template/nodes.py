"""The parts a template is made of (nodes), and what rendering one row gives (segments).

Nodes come from the parser and know nothing of a row; segments are nodes with a row's texts filled in, in reading order,
for the room that tokenises. No tokenizer and no torch here.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Choice",
    "Demos",
    "Field",
    "FieldSegment",
    "Mask",
    "MaskSegment",
    "Node",
    "Segment",
    "Segments",
    "Sep",
    "Soft",
    "SoftSegment",
    "Special",
    "SpecialSegment",
    "Text",
    "TextSegment",
]


@dataclass(frozen=True)
class Text:
    """Hard words, written as they stand (braces already unescaped), or `{hard:"[SEP]"}` where another tool's notation is meant
    as words."""

    text: str


@dataclass(frozen=True)
class Field:
    """`{name}`, `{name max=64 trim=head}`: a field of the row; lists are joined with `joiner`.

    `trim` names the end that is cut when the field is too long; a field that is not `shortenable` is never cut.
    """

    name: str
    max_tokens: int | None = None
    trim: Literal["tail", "head"] = "tail"
    shortenable: bool = True


@dataclass(frozen=True)
class Mask:
    """`{mask}`: the answer slot; `{mask raw}` takes label words exactly as they are written."""

    raw: bool = False


@dataclass(frozen=True)
class Soft:
    """`{soft}`, `{soft:8}`, `{soft:"words"}`, `{soft:3 id=a}`, `{soft:5 same}`: learned tokens.

    Exactly one of `count` and `words` leads: with `words` and no `count`, there are as many learned tokens as the words
    have tokens. Nodes with the same `name` share their rows; with `same` all tokens of the node share one row.
    """

    count: int | None = 1
    words: str | None = None
    name: str | None = None
    same: bool = False


@dataclass(frozen=True)
class Sep:
    """`{sep}`: the model's separator token."""


@dataclass(frozen=True)
class Special:
    """`{special:"<eos>"}`: a special token by its text, or by role (`<bos>`, `<eos>`, `<sep>`, `<cls>`)."""

    token: str


@dataclass(frozen=True)
class Choice:
    """`{choice}`: the candidate answer of a multiple-choice row."""


@dataclass(frozen=True)
class Demos:
    """`{demos}`: demonstrations for in-context learning."""


Node = Text | Field | Mask | Soft | Sep | Special | Choice | Demos


@dataclass(frozen=True)
class TextSegment:
    """Hard words of the template, white space settled."""

    text: str


@dataclass(frozen=True)
class FieldSegment:
    """The row's own words for one field."""

    text: str
    name: str
    max_tokens: int | None = None
    trim: Literal["tail", "head"] = "tail"
    shortenable: bool = True


@dataclass(frozen=True)
class SoftSegment:
    """Learned tokens: `node_index` points into `Template.nodes`, where their count, words and sharing stand."""

    node_index: int


@dataclass(frozen=True)
class MaskSegment:
    """The answer slot. `leading` is the white space that stood in front of it in the template."""

    leading: str = ""
    raw: bool = False


@dataclass(frozen=True)
class SpecialSegment:
    """A special token by text or role; `{sep}` becomes `<sep>`."""

    token: str


Segment = TextSegment | FieldSegment | SoftSegment | MaskSegment | SpecialSegment
Segments = tuple[Segment, ...]
