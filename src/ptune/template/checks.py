"""What can be said about a template before any model is loaded: findings, each one line, none of them an exception.

Errors make training impossible or pointless, warnings usually cost accuracy, hints cost time or taste.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ptune.template.nodes import Choice, Demos, Field, Mask, Node, Soft, Text
from ptune.template.script import dominant_script, written_with_spaces
from ptune.template.template import Template
from ptune.template.writer import write_nodes

__all__ = ["Finding", "check_template"]

Sample = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Finding:
    """One remark about a template."""

    level: Literal["error", "warning", "hint"]
    message: str


def check_template(
    template: Template,
    *,
    kind: Literal["decoder", "encoder", "encoder-decoder"],
    sample_fields: Sequence[Sample],
    needs_mask: bool = True,
) -> tuple[Finding, ...]:
    """Looks at a template beside a few rows of data.

    Args:
        template: the template.
        kind: the kind of backbone that will read it.
        sample_fields: the fields of some rows; with none, what needs data is not checked.
        needs_mask: whether the task scores label words, for which there must be an answer slot.

    Returns:
        The findings, errors first.
    """
    findings = [
        *(_mask(template) if needs_mask else ()),
        *_fields(template, sample_fields),
        *_language(template, sample_fields),
        *_separators(template.nodes),
        *(_behind_mask(template) if kind == "decoder" else ()),
    ]
    return tuple(sorted(findings, key=lambda finding: ("error", "warning", "hint").index(finding.level)))


def _mask(template: Template) -> Iterator[Finding]:
    if template.num_masks == 0:
        yield Finding("error", "the template has no {mask}, the place where the label words are scored; add one")
    if template.num_masks > 1:
        yield Finding("hint", f"the template has {template.num_masks} masks, so each label needs a word for each of them")


def _fields(template: Template, samples: Sequence[Sample]) -> Iterator[Finding]:
    if not samples:
        return
    present = tuple(dict.fromkeys(name for sample in samples for name in sample))
    for name in template.field_names:
        missing = sum(name not in sample for sample in samples)
        if missing == len(samples):
            near = difflib.get_close_matches(name, present, n=1)
            meant = f'; did you mean "{near[0]}"?' if near else ""
            yield Finding("error", f'the data has no field "{name}", only {", ".join(present) or "none"}{meant}')
        elif missing:
            yield Finding("error", f'{missing} of {len(samples)} rows have no field "{name}"')


def _language(template: Template, samples: Sequence[Sample]) -> Iterator[Finding]:
    hard = " ".join(_words(node) for node in template.nodes)
    values = (sample[name] for sample in samples for name in template.field_names if name in sample)
    data = "\n".join(value if isinstance(value, str) else "\n".join(value) for value in values)
    scripts = dominant_script(hard), dominant_script(data)
    if scripts == ("spaced", "unspaced"):
        message = "the template is in a language written with spaces (such as English), the data is not (such as Chinese)"
        yield Finding("warning", f"{message}; write the template in the language of the data")
    if scripts == ("unspaced", "spaced"):
        message = "the template is in a language written without spaces (such as Chinese), the data is not (such as English)"
        yield Finding("warning", f"{message}; write the template in the language of the data")


def _words(node: Node) -> str:
    if isinstance(node, Text):
        return node.text
    return node.words or "" if isinstance(node, Soft) else ""


def _separators(nodes: tuple[Node, ...]) -> Iterator[Finding]:
    for left, right in pairwise(nodes):
        if not (_is_slot(left) or _is_slot(right)):
            continue
        edges = (_edge(left, -1), _edge(right, 0))
        if all(char is None or char.isalnum() for char in edges):
            without_spaces = any(char and written_with_spaces(char) is False for char in edges)
            place = write_nodes((left, right))
            message = f'nothing separates the parts of "{_short(place)}"; put a space, a line break or a mark between'
            yield Finding("hint" if without_spaces else "warning", message)


def _is_slot(node: Node) -> bool:
    return isinstance(node, Field | Choice | Demos)


def _edge(node: Node, edge: int) -> str | None:
    """The character at the edge of hard text; None for a slot, whose text is not known; "" where all is separate."""
    if isinstance(node, Text):
        return node.text[edge]
    return None if _is_slot(node) else ""


def _short(text: str, width: int = 40) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= width else f"{line[: width // 2 - 1]}...{line[-width // 2 + 2 :]}"


def _behind_mask(template: Template) -> Iterator[Finding]:
    """Names what a causal model cannot see from the mask, and a template that ends with the mask."""
    if template.num_masks != 1:
        return
    before, after = template.before_mask(), template.after_mask()
    mask = template.nodes[len(before)]
    slots = tuple(node for node in after if _is_slot(node))
    words = any(dominant_script(_words(node)) != "none" for node in after)
    soft = tuple(node for node in after if isinstance(node, Soft))
    if not after or not (slots or soft or any(_words(node).strip() for node in after)):
        return
    things = {"fields": slots, "learned tokens": soft, "words": words, "marks": not (slots or soft or words)}
    names = " and ".join(name for name, there in things.items() if there)
    message = (
        f"{names} behind the mask: a causal model scores them again with each candidate, which is exact but slow"
        f'; cheaper: "{_mask_last(before, mask, slots, soft)}"'
    )
    yield Finding("hint" if names == "marks" else "warning", message)


def _mask_last(before: tuple[Node, ...], mask: Node, slots: tuple[Node, ...], soft: tuple[Node, ...]) -> Template:
    """The template with its slots in front, its learned tokens before the mask, and what was behind left out."""
    front: list[Node] = []
    for slot in slots:
        front += [slot, Text(" ")]
    head = list(before)
    if front and head and isinstance(head[0], Text):
        head[0] = Text(head[0].text.lstrip())
    space: list[Node] = [Text(" ")] if soft and head and isinstance(head[-1], Text) and isinstance(mask, Mask) else []
    return Template((*front, *head, *soft, *space, mask))
