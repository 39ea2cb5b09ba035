"""The template language: text is read into nodes, nodes and a row are rendered into segments.

>>> from ptune.template import Template
>>> str(Template.parse('{"placeholder": "text"} It was {"mask"}.'))
'{text} It was {mask}.'
"""

from ptune.template.checks import Finding, check_template
from ptune.template.gap import open_gap
from ptune.template.learned import has_words_to_learn, learn_words
from ptune.template.library import Entry, resolve, template, templates
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
from ptune.template.scanner import caret
from ptune.template.script import dominant_script, leading_space, written_with_spaces
from ptune.template.template import Template

__all__ = [
    "Choice",
    "Demos",
    "Entry",
    "Field",
    "FieldSegment",
    "Finding",
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
    "Template",
    "Text",
    "TextSegment",
    "caret",
    "check_template",
    "dominant_script",
    "has_words_to_learn",
    "leading_space",
    "learn_words",
    "open_gap",
    "resolve",
    "template",
    "templates",
    "written_with_spaces",
]
