"""What rows of other kinds than classification hold, told by their columns: examples of one split go in, `Contents` comes out.

Tagging (`tokens`, `tags`), qa (`context`, `question`, `answers`), choice (`choices`), dialogue (see `ptune.data.dialogue`) and
generation (`target`). Counts that matter for the kind, and the rows that could not be used.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low

from ptune.data.dialogue import dialogue_messages
from ptune.data.example import Example, FieldValue
from ptune.data.tags import TagScheme, may_follow, tag_scheme, tag_spans
from ptune.errors import DataError

__all__ = ["Contents", "Flaw", "contents_of"]

_NUM_PLACES = 5
_NUM_ANSWERS = 10


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong with some rows: how many, and the places of up to five of them."""

    what: str
    num_rows: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What the rows of a split hold.

    Args:
        kind: the kind of task that they look like.
        counts: what was counted, by its name.
        ranges: least, median and most of what differs between rows, by its name.
        spans: of tagging, how many spans each type has, the most frequent first.
        flaws: what is wrong.
    """

    kind: str
    counts: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    spans: Mapping[str, int] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()

    def lines(self, split: str) -> list[str]:
        """The same for people."""
        counted = [f"{name} {count}" for name, count in self.counts.items()]
        counted += [_range_text(name, *numbers) for name, numbers in self.ranges.items()]
        lines = [f"{split} looks like {self.kind}: {', '.join(counted)}"]
        if self.spans:
            lines.append("  spans by type: " + ", ".join(f"{name} {count}" for name, count in self.spans.items()))
        lines += [f"  {flaw.what}: {flaw.num_rows} ({', '.join(flaw.places)})" for flaw in self.flaws]
        return lines


def contents_of(examples: Sequence[Example]) -> Contents | None:
    """Tells the kind by the columns that every row has; None where they fit no kind but classification."""
    columns = set(examples[0].fields).intersection(*(example.fields for example in examples)) if examples else set()
    for needed, reader in _READERS:
        if needed <= columns:
            return reader(examples)
    return None


def _tagging(examples: Sequence[Example]) -> Contents:
    rows = [(_items(example.fields["tokens"]), _items(example.fields["tags"])) for example in examples]
    scheme = tag_scheme(tags for _, tags in rows)
    spans = [tag_spans(tags) for _, tags in rows]
    types = Counter(span.type for row in spans for span in row)
    return Contents(
        "tagging",
        {
            "tokens": sum(len(tokens) for tokens, _ in rows),
            "spans": types.total(),
            "rows without spans": sum(not row for row in spans),
        },
        spans=dict(types.most_common()),
        flaws=_flaws(
            examples,
            {
                "rows with another number of tags than of tokens": [len(tokens) != len(tags) for tokens, tags in rows],
                f"rows whose tags do not follow {scheme}": [not _follows(tags, scheme) for _, tags in rows],
            },
        ),
    )


def _follows(tags: Sequence[str], scheme: TagScheme) -> bool:
    try:
        return all(may_follow(left, right, scheme) for left, right in pairwise([None, *tags, None]))
    except DataError:
        return False


def _qa(examples: Sequence[Example]) -> Contents:
    found = [_answers(example.fields["answers"]) for example in examples]
    answers = [row or [] for row in found]
    contexts = [str(example.fields["context"]) for example in examples]
    return Contents(
        "qa",
        {
            "questions": len(examples),
            "without an answer": sum(row == [] for row in found),
            "with several": sum(len({text for text, _ in row}) > 1 for row in answers),
        },
        flaws=_flaws(
            examples,
            {
                "rows whose answers cannot be read": [row is None for row in found],
                "rows with an answer that does not stand at its place in the context": [
                    any(start < 0 or context[start : start + len(text)] != text for text, start in row)
                    for row, context in zip(answers, contexts, strict=True)
                ],
            },
        ),
    )


def _answers(value: FieldValue) -> list[tuple[str, int]] | None:
    """SQuAD's answers as pairs of text and place; None where they are something else."""
    try:
        held = json.loads(str(value))
        return [(str(text), int(start)) for text, start in zip(held["text"], held["answer_start"], strict=True)]
    except (ValueError, TypeError, KeyError):
        return None


def _choice(examples: Sequence[Example]) -> Contents:
    choices = [_items(example.fields["choices"]) for example in examples]
    answers = [example.fields.get("answer") for example in examples]
    outside = [
        answer is not None and not (str(answer).isdecimal() and int(str(answer)) < len(row))
        for answer, row in zip(answers, choices, strict=True)
    ]
    places = Counter(str(answer) for answer in answers if answer is not None)
    return Contents(
        "choice",
        {f"answer {place}:": count for place, count in sorted(places.items())[:_NUM_ANSWERS]},
        _ranges({"choices": [len(row) for row in choices]}),
        flaws=_flaws(examples, {"rows whose answer is no number of a choice": outside}),
    )


def _dialogue(examples: Sequence[Example]) -> Contents:
    turns, wrong = [], []
    for example in examples:
        try:
            messages = dialogue_messages(example.fields)
            turns.append(sum(message["role"] == "assistant" for message in messages))
            wrong.append(False)
        except DataError:
            wrong.append(True)
    flaws = _flaws(examples, {"rows that are no dialogue": wrong})
    return Contents("dialogue", ranges=_ranges({"replies": turns}), flaws=flaws)


def _generation(examples: Sequence[Example]) -> Contents:
    targets = [str(example.fields["target"]) for example in examples]
    counted = {"characters of a target": [len(text) for text in targets]}
    if any("references" in example.fields for example in examples):
        counted["references"] = [len(_items(example.fields.get("references", ()))) for example in examples]
    flaws = _flaws(examples, {"rows with an empty target": [not text.strip() for text in targets]})
    return Contents("generation", ranges=_ranges(counted), flaws=flaws)


_READERS: tuple[tuple[set[str], Callable[[Sequence[Example]], Contents]], ...] = (
    ({"tokens", "tags"}, _tagging),
    ({"context", "question", "answers"}, _qa),
    ({"choices"}, _choice),
    ({"messages"}, _dialogue),
    ({"conversations"}, _dialogue),
    ({"prompt", "response"}, _dialogue),
    ({"instruction", "output"}, _dialogue),
    ({"target"}, _generation),
)


def _items(value: FieldValue) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _ranges(counted: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int, int]]:
    return {name: (min(values), median_low(values), max(values)) for name, values in counted.items() if values}


def _range_text(name: str, low: int, median: int, high: int) -> str:
    return f"{name} {low}" if low == high else f"{name} {low} to {high} (median {median})"


def _flaws(examples: Sequence[Example], found: Mapping[str, Sequence[bool]]) -> tuple[Flaw, ...]:
    flaws = []
    for what, marks in found.items():
        places = [example.where for example, mark in zip(examples, marks, strict=True) if mark]
        if places:
            flaws.append(Flaw(what, len(places), tuple(places[:_NUM_PLACES])))
    return tuple(flaws)
