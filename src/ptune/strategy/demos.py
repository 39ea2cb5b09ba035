"""Demonstrations as words: a labelled row written as the template says, and the recipe that reads such texts in front of each.

In: a template with `{demos}` and labelled rows. Out: texts to stand there. Ways to choose them are files of their own.
"""

from collections.abc import Sequence
from typing import Any

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import TemplateError
from ptune.recipe import Recipe
from ptune.template import Demos, FieldSegment, MaskSegment, Node, SpecialSegment, Template, Text, TextSegment

__all__ = ["demo_text", "place_demos", "showing"]

_QUERY_TOKENS = 256
_OF_RUN = ("shots", "hold_out", "validation", "test", "patience", "temperature", "dtype", "device", "text_start")
"""Recipe keys that have been seen to where demonstrations are chosen."""


def demo_text(template: Template, example: Example, answer: str) -> str:
    """One demonstration: the template with the example's texts, and an answer in the answer slot.

    Args:
        template: with or without `{demos}`, which is left out.
        example: the row.
        answer: its label's word, say.

    Raises:
        TemplateError: several answer slots, or special tokens between the template's texts: a demonstration is text alone.
    """
    bare = place_demos(template)
    if bare.num_masks > 1:
        raise TemplateError("demonstrations fill one answer slot", where="template", fix="keep one {mask}")
    parts: list[str] = []
    segments = list(bare.render(example.fields))
    for end in (0, -1):  # where there is nothing to set apart
        while isinstance(segments[end], SpecialSegment):
            del segments[end]
    for segment in segments:
        match segment:
            case SpecialSegment(token):
                raise TemplateError(
                    f"demonstrations are text, which cannot hold the special token {token}",
                    where="template",
                    fix="write a line break or a mark in its place",
                )
            case TextSegment(text) | FieldSegment(text):
                parts.append(text)
            case MaskSegment():
                parts.append(bare.word_prefix(answer) + answer)
    return "".join(parts)


def place_demos(template: Template, *nodes: Node) -> Template:
    """The template with these nodes in the place of `{demos}`; without any, it is left out."""
    whole: list[Node] = []
    for node in template.nodes:
        whole += nodes if isinstance(node, Demos) else (node,)
    return Template(tuple(node for node in whole if node != Text("")))


def showing(recipe: Recipe, template: Template, backbone: Backbone, num_tokens: int, rows: Sequence[Example]) -> Recipe:
    """The recipe that reads demonstrations in front of its texts, which keep their room beside them.

    Args:
        recipe: with a template that has `{demos}`; without a `calibration` of its own it takes `contextual`.
        template: with something in the place of `{demos}`.
        backbone: loaded.
        num_tokens: of the demonstrations.
        rows: training rows.
    """
    room = num_tokens + (recipe.max_length or _QUERY_TOKENS)
    limit = backbone.spec.max_positions
    changed: dict[str, Any] = {
        "template": template,
        "backbone": backbone,
        "max_length": room if limit is None else min(room, limit),
        "train": tuple(rows),
        **dict.fromkeys(_OF_RUN),
    }
    has_prior = recipe.prior == "correct" and recipe.label_loss != "decoupled"
    if "calibration" not in recipe.model_fields_set and has_prior:
        changed["calibration"] = "contextual"
    values = {key: getattr(recipe, key) for key in recipe.model_fields_set}
    return Recipe.of({**values, **changed}, where="icl")
