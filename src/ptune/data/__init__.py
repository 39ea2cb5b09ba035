"""Data: files, folders, hub data sets and rows in memory go in, checked `Example`s come out.

Also here: label sets, few-shot samples, held-out rows, fingerprints, the description of a data set, and `nearest`, the
"did you mean" that other rooms use. No torch, no transformers; pyarrow and datasets only when a source needs them.
"""

from ptune.data.answers import Answer, read_answers
from ptune.data.augment import Augment, augmented
from ptune.data.describe import Conflict, Description, FieldStats, Lengths, Overlap, SplitStats, describe
from ptune.data.dialogue import DialogueColumns, DialogueMessage, dialogue_messages
from ptune.data.encoding import decode
from ptune.data.example import Example, FieldValue, LabelSet
from ptune.data.labels import check_labels, label_set, label_text
from ptune.data.names import did_you_mean, listed, nearest
from ptune.data.readers import Source, has_splits, load_splits, read_examples
from ptune.data.sampling import fingerprint, hold_out, sample_rows, sample_shots
from ptune.data.tags import (
    TagScheme,
    TagSpan,
    convert_tags,
    may_follow,
    tag_names,
    tag_scheme,
    tag_spans,
    tag_types,
    tags_of,
    transitions,
)

__all__ = [
    "Answer",
    "Augment",
    "Conflict",
    "Description",
    "DialogueColumns",
    "DialogueMessage",
    "Example",
    "FieldStats",
    "FieldValue",
    "LabelSet",
    "Lengths",
    "Overlap",
    "Source",
    "SplitStats",
    "TagScheme",
    "TagSpan",
    "augmented",
    "check_labels",
    "convert_tags",
    "decode",
    "describe",
    "dialogue_messages",
    "did_you_mean",
    "fingerprint",
    "has_splits",
    "hold_out",
    "label_set",
    "label_text",
    "listed",
    "load_splits",
    "may_follow",
    "nearest",
    "read_answers",
    "read_examples",
    "sample_rows",
    "sample_shots",
    "tag_names",
    "tag_scheme",
    "tag_spans",
    "tag_types",
    "tags_of",
    "transitions",
]
