"""Rows of tagging: words and tags, the tokens that speak for them, windows, batches, and what a task says of a row."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Int
from torch import Tensor

from ptune.data import Example, TagSpan, tag_spans
from ptune.errors import DataError
from ptune.inputs import Batch, Unit, Words, join_words, split_words
from ptune.model.outcome import Prepared

__all__ = ["IGNORED", "BatchTags", "FoundSpan", "PreparedTags", "TagPrediction", "TagRow", "checked_tags", "words_of"]

IGNORED = -100
TEXT_FIELD = "tokens"


@dataclass(frozen=True)
class FoundSpan:
    """One span of a text.

    Args:
        type: its type.
        text: its characters.
        start, end: where they stand in the text.
        score: mean probability of its tags.
    """

    type: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class TagPrediction:
    """What the task says about one text.

    Args:
        text: as given, or the words as they were put together.
        words: the row's words, or those that the text was cut into.
        tags: of each word.
        spans: what the tags stand for, from left to right.
    """

    text: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[FoundSpan, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        spans = [{**vars(span), "score": round(span.score, 6)} for span in self.spans]
        return {"spans": spans, "words": list(self.words), "tags": list(self.tags), "text": self.text}

    def __str__(self) -> str:
        return ", ".join(f"{span.type}: {span.text}" for span in self.spans) or "(nothing)"


@dataclass(frozen=True)
class TagRow:
    """A row as it is read.

    Args:
        words: its words and their places.
        units: which token speaks for which of them.
        tags: of each word, in the task's scheme; None where they are not known.
    """

    words: Words
    units: tuple[Unit, ...]
    tags: tuple[str, ...] | None

    @property
    def unit_spans(self) -> tuple[TagSpan, ...]:
        """The true spans, counted in units; a span that lies inside one token, behind its first word, is lost."""
        begins, spans = [unit.begin for unit in self.units], []
        for span in tag_spans(self.tags or ()):
            first, last = bisect_left(begins, span.start), bisect_left(begins, span.end)
            spans += [TagSpan(span.type, first, last)] if first < last else []
        return tuple(spans)

    def in_words(self, spans: Iterable[TagSpan]) -> tuple[TagSpan, ...]:
        """Spans counted in units as spans of words."""
        return tuple(TagSpan(span.type, self.units[span.start].begin, self.units[span.end - 1].end) for span in spans)


@dataclass(frozen=True)
class PreparedTags(Prepared):
    """Windows of rows.

    Args:
        places: of each window, the tokens that are read in it.
        units: of each window, the numbers of the row's units that they speak for.
        row_of: of each window, the number of its row.
        targets: of each window, the tag of each place by number; `IGNORED` for one that the task does not have.
        rows: the rows themselves (a list, so that it is not taken for an entry a window).
    """

    places: tuple[tuple[int, ...], ...] = ()
    units: tuple[tuple[int, ...], ...] = ()
    row_of: tuple[int, ...] = ()
    targets: tuple[tuple[int, ...], ...] = ()
    rows: list[TagRow] = field(default_factory=list)

    def token_labels(self, number: int) -> tuple[int, ...]:
        """A label for every token of a window, `IGNORED` where there is none, as other tools' training data has it."""
        labels = [IGNORED] * len(self.encoded[number])
        for place, target in zip(self.places[number], self.targets[number], strict=True):
            labels[place] = target
        return tuple(labels)


@dataclass(frozen=True)
class BatchTags(Batch):
    """A batch with the tag number of each place; None where a row's are not known."""

    targets: Int[Tensor, " U"] | None = None


def words_of(example: Example) -> Words:
    """A row's words: as it gives them, or a text cut into words.

    Raises:
        DataError: the row has neither.
    """
    value = example.fields.get(TEXT_FIELD)
    if value is None:
        fix = "give a list of words or a text; columns: {words: tokens} renames a column"
        raise DataError(f"the row has no {TEXT_FIELD!r}", where=example.where, fix=fix)
    return split_words(value) if isinstance(value, str) else join_words(value)


def checked_tags(example: Example, column: str) -> tuple[str, ...]:
    """A row's tags, as many as it has words.

    Raises:
        DataError: they do not fit.
    """
    words, tags = example.fields.get(TEXT_FIELD), example.fields.get(column)
    if not isinstance(words, tuple) or not isinstance(tags, tuple):
        which = TEXT_FIELD if not isinstance(words, tuple) else column
        fix = 'give rows with lists, {"tokens": ["Ada"], "tags": ["B-PER"]}, or a column file (.conll)'
        raise DataError(f"{which!r} is no list, so that its words cannot be paired with tags", where=example.where, fix=fix)
    if len(words) != len(tags):
        raise DataError(
            f"the row has {len(words)} words and {len(tags)} tags", where=example.where, fix="give each word one tag"
        )
    return tags
