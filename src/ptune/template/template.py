"""A template: its nodes, the text it is written as, and what it becomes with the texts of one row.

`Template.parse` reads either form, `str(template)` writes the short form, `render` fills in a row and settles the white
space: what stands in front of the mask or of learned tokens belongs to them, so that the tokenizer never meets a lone
space. A line break in front of the mask stays with the hard text: it is a token of its own, not the space of a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ptune.errors import TemplateError
from ptune.template.nodes import (
    Choice,
    Demos,
    Field,
    FieldSegment,
    Mask,
    MaskSegment,
    Node,
    Segment,
    Segments,
    Sep,
    Soft,
    SoftSegment,
    Special,
    SpecialSegment,
    Text,
    TextSegment,
)
from ptune.template.parser import parse_nodes
from ptune.template.rules import merged, node_fault, sharing_fault, whole_fault
from ptune.template.script import OPEN_SLOT, leading_space, written_with_spaces
from ptune.template.writer import write_nodes

__all__ = ["Template"]


@dataclass(frozen=True)
class Template:
    """Nodes in reading order; adjacent hard texts are joined, so equal templates have equal nodes.

    Args:
        nodes: at least one that is more than white space.

    Raises:
        TemplateError: a node that cannot be written in the template language, or nothing to read.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", merged(self.nodes))
        named: dict[str, Soft] = {}
        for node in self.nodes:
            if fault := node_fault(node) or sharing_fault(node, named):
                raise TemplateError(fault.what, where="template", fix=fault.fix)
        if fault := whole_fault(self.nodes):
            raise TemplateError(fault.what, where="template", fix=fault.fix)

    @classmethod
    def parse(cls, source: str) -> Self:
        """Reads a template in the short form, in OpenPrompt's form, or in a mixture of both.

        Args:
            source: the template, such as `{text} It was {mask}.`

        Raises:
            TemplateError: a mistake, with its column, and a picture of the place as a note; or something that is not
                text, as an unquoted template in a YAML file is.
        """
        return cls(parse_nodes(_text(source)))

    def __str__(self) -> str:
        return write_nodes(self.nodes)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields that a row must have, each once, in order."""
        return tuple(dict.fromkeys(node.name for node in self.nodes if isinstance(node, Field)))

    @property
    def num_masks(self) -> int:
        return sum(isinstance(node, Mask) for node in self.nodes)

    @property
    def soft_nodes(self) -> tuple[tuple[int, Soft], ...]:
        """Where learned tokens stand: index into `nodes`, and the node."""
        return tuple((index, node) for index, node in enumerate(self.nodes) if isinstance(node, Soft))

    @property
    def has_soft(self) -> bool:
        return bool(self.soft_nodes)

    @property
    def has_choice(self) -> bool:
        """Whether a text that is judged stands in it."""
        return any(isinstance(node, Choice) for node in self.nodes)

    def before_mask(self, number: int = 0) -> tuple[Node, ...]:
        """The nodes in front of a mask, the first of which is 0; all nodes where there is none."""
        return self.nodes[: self._mask(number)]

    def after_mask(self) -> tuple[Node, ...]:
        """The nodes behind the first mask; none where there is no mask."""
        return self.nodes[self._mask(0) + 1 :]

    def _mask(self, number: int) -> int:
        masks = [i for i, node in enumerate(self.nodes) if isinstance(node, Mask)]
        return masks[number] if number < len(masks) else len(self.nodes)

    def prepend(self, nodes: Sequence[Node]) -> "Template":
        """Returns the template with `nodes` in front."""
        return Template((*nodes, *self.nodes))

    def without_soft(self) -> "Template":
        """Returns the hard template that remains: words of learned tokens become hard text, others vanish.

        Where tokens vanish, one stretch of white space is left between what stood around them, and none at the start.

        Raises:
            TemplateError: nothing remains.
        """
        remaining: list[Node] = []
        closing = False
        for node in self.nodes:
            if isinstance(node, Soft) and node.words is None:
                closing = True
                continue
            hard: Node = Text(node.words or "") if isinstance(node, Soft) else node
            if closing:
                hard = _close_gap(remaining, hard)
            if hard != Text(""):
                remaining.append(hard)
                closing = False
        if closing and remaining and isinstance(remaining[-1], Text):
            remaining[-1] = Text(remaining[-1].text.rstrip())
        return Template(tuple(remaining))

    def with_soft_behind(self) -> "Template":
        """Returns the template with all learned tokens behind the last field that stands in front of the mask.

        What surrounds the place that they leave closes up as in `without_soft`.
        """
        last = max((i for i, node in enumerate(self.before_mask()) if isinstance(node, Field)), default=-1)
        front = self.nodes[: last + 1]
        moved = tuple(node for node in front if isinstance(node, Soft))
        if not moved:
            return self
        bare = Template(tuple(Soft() if isinstance(node, Soft) else node for node in front)).without_soft()
        return Template((*bare.nodes, *moved, *self.nodes[last + 1 :]))

    def word_prefix(self, word: str, number: int = 0) -> str:
        """The white space that a label word gets in front when it fills a mask, the first of which is 0.

        The prompt that the model reads is the rendered hard text, then this, then the word. With `{mask raw}` it is the
        white space written before the mask (a line break there is part of the hard text); otherwise `leading_space`
        decides by the scripts. Words that learned tokens start from count as hard text; what stands before a separator
        or another special token does not count.

        Raises:
            TemplateError: the template has no such mask.
        """
        if number >= self.num_masks:
            raise TemplateError(f'no mask for the word "{word}"', where="template", fix="add {mask} to the template")
        before = self.before_mask(number)
        mask = self.nodes[len(before)]
        if isinstance(mask, Mask) and mask.raw:
            return _split_before_mask(before[-1].text)[1] if before and isinstance(before[-1], Text) else ""
        left = ""
        left_is_open = False
        for node in before:
            match node:
                case Text(text):
                    left += text
                case Sep() | Special():
                    left, left_is_open = "", False
                case Soft(words=str(words)):
                    left, left_is_open = left + words, True
                case _:
                    left, left_is_open = left + OPEN_SLOT, True
        return leading_space(left, word, left_is_open=left_is_open)

    def render(
        self,
        fields: Mapping[str, str | tuple[str, ...]],
        *,
        joiner: str = " ",
        choice: str | None = None,
        demos: str | None = None,
    ) -> Segments:
        """Fills in one row.

        Args:
            fields: the row's texts by name; surplus ones are ignored. White space around a text is dropped.
            joiner: what stands between the texts of a list.
            choice: the candidate answer, for `{choice}`.
            demos: the demonstrations, for `{demos}`.

        Returns:
            Segments in reading order. White space before learned tokens is dropped; white space before the mask is
            handed to its segment as `leading`.

        Raises:
            TemplateError: a field, the choice or the demonstrations are missing.
        """
        segments: list[Segment] = []
        for index, node in enumerate(self.nodes):
            match node:
                case Text(text):
                    if kept := _kept_text(text, self.nodes[index + 1 : index + 2]):
                        segments.append(TextSegment(kept))
                case Mask(raw):
                    previous = self.nodes[index - 1] if index else None
                    leading = _split_before_mask(previous.text)[1] if isinstance(previous, Text) else ""
                    segments.append(MaskSegment(leading, raw))
                case Field():
                    value = _field_value(node.name, fields, joiner)
                    segments.append(FieldSegment(value, node.name, node.max_tokens, node.trim, node.shortenable))
                case Soft():
                    segments.append(SoftSegment(index))
                case Sep():
                    segments.append(SpecialSegment("<sep>"))
                case Special(token):
                    segments.append(SpecialSegment(token))
                case Choice():
                    segments.append(FieldSegment(_given("choice", choice), "choice", shortenable=False))
                case Demos():
                    segments.append(FieldSegment(_given("demos", demos), "demos", trim="head"))
        return tuple(segments)


def _text(source: object) -> str:
    """Refuses what YAML makes of a template without quotes."""
    if isinstance(source, str):
        return source
    kind = {dict: "a mapping", list: "a list", type(None): "empty"}.get(type(source), f"of type {type(source).__name__}")
    fix = "put it in quotes in the YAML file: template: '{text} It was {mask}.'"
    raise TemplateError(f"the template is {kind}, not text", where="template", fix=fix)


def _split_before_mask(text: str) -> tuple[str, str]:
    """Splits hard text before a mask into what stays and the white space that the mask takes (behind a line break)."""
    bare = text.rstrip()
    end = max(len(bare), text.rfind("\n", len(bare)) + 1)
    return text[:end], text[end:]


def _kept_text(text: str, following: tuple[Node, ...]) -> str:
    match following:
        case (Soft(),):
            return text.rstrip()
        case (Mask(),):
            return _split_before_mask(text)[0]
    return text


def _field_value(name: str, fields: Mapping[str, str | tuple[str, ...]], joiner: str) -> str:
    if name not in fields:
        present = ", ".join(fields) or "none"
        fix = f"use one of the fields that are there: {present}"
        raise TemplateError(f'the row has no field "{name}"', where="template", fix=fix)
    value = fields[name]
    return (value if isinstance(value, str) else joiner.join(value)).strip()


def _given(name: str, value: str | None) -> str:
    if value is None:
        raise TemplateError(f"{{{name}}} has nothing to stand for", where="template", fix=f"give render a text as {name}=")
    return value.strip()


def _close_gap(before: list[Node], node: Node) -> Node:
    """Closes the gap that vanished tokens left between the last of `before` (changed in place) and `node`."""
    right = node.text if isinstance(node, Text) else ""
    if all(isinstance(earlier, Text) and not earlier.text.strip() for earlier in before):
        before.clear()
        return Text(right.lstrip()) if isinstance(node, Text) else node
    left = before[-1].text if isinstance(before[-1], Text) else ""
    space_left, space_right = left[len(left.rstrip()) :], right[: len(right) - len(right.lstrip())]
    breaks = max(space_left, space_right, key=lambda space: space.count("\n"))
    space = breaks if "\n" in breaks else (space_left or space_right)[:1]
    if not space and _reads_on(before[-1], -1) and _reads_on(node, 0):
        space = " "
    if isinstance(before[-1], Text):
        before[-1] = Text(left.rstrip())
    if isinstance(node, Text):
        return Text(space + right.lstrip())
    before.append(Text(space))
    return node


def _reads_on(node: Node, edge: int) -> bool:
    """Whether a node's edge would run together with words beside it: fields, and letters of a script with spaces."""
    if isinstance(node, Text):
        return bool(node.text) and written_with_spaces(node.text[edge]) is True
    return isinstance(node, Field | Choice | Demos) or (isinstance(node, Mask) and edge == -1)
