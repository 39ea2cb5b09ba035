"""What a data set looks like, and what is wrong with it: splits go in, a `Description` comes out.

Counts and lengths for each split, and what rows of tagging, qa, choice, generation and dialogue hold; duplicates, texts that
several splits share, one text under several labels, and labels that training never shows. Texts count as the same when they
agree after NFKC, case folding and folding of white space. Lengths are nearest-rank percentiles, so each is the length of a
real row.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

from ptune.data.contents import Contents, contents_of
from ptune.data.example import Example, FieldValue
from ptune.data.names import listed
from ptune.errors import DataError

__all__ = ["Conflict", "Description", "FieldStats", "Lengths", "Overlap", "SplitStats", "describe"]

_NUM_SAMPLES = 5
_NUM_LABELS_SHOWN = 30
_NUM_CHARACTERS_SHOWN = 40

_Texts = tuple[tuple[str, FieldValue], ...]


@dataclass(frozen=True)
class Lengths:
    """Percentiles of the lengths of one field."""

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True)
class FieldStats:
    """One field of one split: in how many rows it has a text that is not blank, and how long those are."""

    num_filled: int
    characters: Lengths | None
    tokens: Lengths | None = None


@dataclass(frozen=True)
class SplitStats:
    """One split; `num_duplicates` counts the rows that repeat an earlier one exactly, label included."""

    num_rows: int
    num_unlabelled: int
    num_duplicates: int
    fields: Mapping[str, FieldStats]
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Overlap:
    """Texts that two splits share; `samples` pairs the first places of up to five of them."""

    first: str
    second: str
    num_texts: int
    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Conflict:
    """One text with several labels; `rows` holds the first label and place of each."""

    text: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Description:
    """What `describe` found.

    Args:
        splits: the numbers of each split.
        overlaps: pairs of splits that share texts.
        num_conflicts: how many texts have more than one label, over all splits.
        conflicts: up to five of them.
        labels_not_in_train: for each other split, its labels that no row of `train` has.
        contents: for each split that looks like another kind of task than classification, what its rows hold.
    """

    splits: Mapping[str, SplitStats]
    overlaps: tuple[Overlap, ...]
    num_conflicts: int
    conflicts: tuple[Conflict, ...]
    labels_not_in_train: Mapping[str, tuple[str, ...]]
    contents: Mapping[str, Contents] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The same as plain dictionaries, lists, texts and numbers, ready for JSON."""
        plain = _without_tuples(asdict(self))
        assert isinstance(plain, dict)
        return plain

    def to_text(self) -> str:
        """Two aligned tables, of fields and of labels, the contents of other kinds, and one line for each finding."""
        held = "\n".join(line for name, contents in self.contents.items() for line in contents.lines(name))
        parts = [_table(_field_lines(self.splits)), _table(_label_lines(self.splits)), held, "\n".join(_findings(self))]
        return "\n\n".join(part for part in parts if part)


def describe(
    splits: Mapping[str, Sequence[Example]],
    *,
    count_tokens: Callable[[str], int] | None = None,
    fields: Sequence[str] | None = None,
) -> Description:
    """Describes the splits of a data set.

    Args:
        splits: name to examples; `train` is the split that others are compared with.
        count_tokens: the number of tokens of a text, where lengths in tokens are wanted.
        fields: the fields that count, for lengths and for whether two texts are the same; None takes all, so that
            two rows that differ in an id are two texts.

    Returns:
        The description.

    Raises:
        DataError: there is no split, or no row has one of `fields`.
    """
    if not splits:
        raise DataError("there are no splits to describe", fix="pass at least one")
    _check_fields(splits, fields)
    texts = {name: [_texts_of(example, fields) for example in examples] for name, examples in splits.items()}
    keys = {name: [_fold(row) for row in rows] for name, rows in texts.items()}
    num_conflicts, conflicts = _conflicts(splits, keys)
    contents = {name: held for name, examples in splits.items() if (held := contents_of(examples)) is not None}
    are_choices = any(held.kind == "choice" for held in contents.values())  # whose labels are the choices themselves
    return Description(
        {name: _split_stats(splits[name], texts[name], count_tokens) for name in splits},
        _overlaps(splits, keys),
        num_conflicts,
        conflicts,
        {} if are_choices else _labels_not_in_train(splits),
        contents,
    )


def _check_fields(splits: Mapping[str, Sequence[Example]], fields: Sequence[str] | None) -> None:
    present = dict.fromkeys(name for examples in splits.values() for example in examples for name in example.fields)
    for name in fields or ():
        if name not in present:
            fix = f"the fields are {listed(present)}"
            raise DataError(f"no row has field '{name}'", fix=fix)


# ---- one split


def _split_stats(
    examples: Sequence[Example],
    texts: Sequence[_Texts],
    count_tokens: Callable[[str], int] | None,
) -> SplitStats:
    by_field: dict[str, list[str]] = {}
    for row in texts:
        for name, value in row:
            by_field.setdefault(name, []).append(_joined(value))
    labels = Counter(example.label for example in examples if example.label is not None)
    distinct = {(row, example.label) for row, example in zip(texts, examples, strict=True)}
    return SplitStats(
        num_rows=len(examples),
        num_unlabelled=len(examples) - labels.total(),
        num_duplicates=len(examples) - len(distinct),
        fields={name: _field_stats(values, count_tokens) for name, values in by_field.items()},
        labels=dict(sorted(labels.items())),
    )


def _field_stats(values: Sequence[str], count_tokens: Callable[[str], int] | None) -> FieldStats:
    filled = [value for value in values if value.strip()]
    tokens = _lengths(map(count_tokens, filled)) if count_tokens is not None else None
    return FieldStats(len(filled), _lengths(map(len, filled)), tokens)


def _lengths(values: Iterable[int]) -> Lengths | None:
    ordered = sorted(values)
    if not ordered:
        return None
    median, p95 = (ordered[math.ceil(percent * len(ordered) / 100) - 1] for percent in (50, 95))
    return Lengths(ordered[0], median, p95, ordered[-1])


# ---- across splits


def _texts_of(example: Example, fields: Sequence[str] | None) -> _Texts:
    return tuple(sorted((name, value) for name, value in example.fields.items() if fields is None or name in fields))


def _fold(texts: _Texts) -> _Texts:
    return tuple((name, _fold_text(_joined(value))) for name, value in texts)


def _fold_text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _joined(value: FieldValue) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _overlaps(splits: Mapping[str, Sequence[Example]], keys: Mapping[str, Sequence[_Texts]]) -> tuple[Overlap, ...]:
    places: dict[str, dict[_Texts, str]] = {}
    for name, examples in splits.items():
        first_place = places[name] = {}
        for key, example in zip(keys[name], examples, strict=True):
            first_place.setdefault(key, example.where)
    found = []
    for first, second in combinations(splits, 2):
        shared = [key for key in places[first] if key in places[second]]
        if shared:
            samples = tuple((places[first][key], places[second][key]) for key in shared[:_NUM_SAMPLES])
            found.append(Overlap(first, second, len(shared), samples))
    return tuple(found)


def _conflicts(
    splits: Mapping[str, Sequence[Example]], keys: Mapping[str, Sequence[_Texts]]
) -> tuple[int, tuple[Conflict, ...]]:
    first_rows: dict[_Texts, dict[str, Example]] = {}
    for name, examples in splits.items():
        for key, example in zip(keys[name], examples, strict=True):
            if example.label is not None:
                first_rows.setdefault(key, {}).setdefault(example.label, example)
    found = [(key, rows) for key, rows in first_rows.items() if len(rows) > 1]
    samples = (
        Conflict(" | ".join(str(text) for _, text in key), tuple((label, row.where) for label, row in rows.items()))
        for key, rows in found[:_NUM_SAMPLES]
    )
    return len(found), tuple(samples)


def _labels_not_in_train(splits: Mapping[str, Sequence[Example]]) -> dict[str, tuple[str, ...]]:
    seen = {name: {example.label for example in rows if example.label is not None} for name, rows in splits.items()}
    known = seen.get("train")
    if not known:
        return {}
    return {name: tuple(sorted(labels - known)) for name, labels in seen.items() if labels - known}


# ---- as text


def _field_lines(splits: Mapping[str, SplitStats]) -> list[list[str]]:
    with_tokens = any(field.tokens for split in splits.values() for field in split.fields.values())
    ranks = ["min", "median", "p95", "max"]
    header = ["split", "rows", "field", "filled", "chars min", *ranks[1:]]
    lines = [[*header, "tokens min", *ranks[1:]] if with_tokens else header]
    for name, split in splits.items():
        for field_name, stats in split.fields.items():
            cells = [name, str(split.num_rows), field_name, str(stats.num_filled), *_length_cells(stats.characters)]
            lines.append([*cells, *_length_cells(stats.tokens)] if with_tokens else cells)
        if not split.fields:
            lines.append([name, str(split.num_rows), *["-"] * (len(lines[0]) - 2)])
    return lines


def _length_cells(lengths: Lengths | None) -> list[str]:
    return ["-"] * 4 if lengths is None else [str(number) for number in asdict(lengths).values()]


def _label_lines(splits: Mapping[str, SplitStats]) -> list[list[str]]:
    names = sorted({label for split in splits.values() for label in split.labels})
    if not names:
        return []
    lines = [["label", *splits]]
    for label in names[:_NUM_LABELS_SHOWN]:
        lines.append([label, *(str(split.labels.get(label, 0)) for split in splits.values())])
    if len(names) > _NUM_LABELS_SHOWN:
        rest = names[_NUM_LABELS_SHOWN:]
        counts = (sum(split.labels.get(label, 0) for label in rest) for split in splits.values())
        lines.append([f"({len(rest)} more labels)", *map(str, counts)])
    if any(split.num_unlabelled for split in splits.values()):
        lines.append(["(no label)", *(str(split.num_unlabelled) for split in splits.values())])
    return lines


def _findings(description: Description) -> list[str]:
    lines = [
        f"rows of {name} that repeat an earlier row exactly: {split.num_duplicates}"
        for name, split in description.splits.items()
        if split.num_duplicates
    ]
    for overlap in description.overlaps:
        places = ", ".join(f"{first} = {second}" for first, second in overlap.samples)
        lines.append(f"texts in both {overlap.first} and {overlap.second}: {overlap.num_texts} ({places})")
    if description.num_conflicts:
        lines.append(f"texts with more than one label: {description.num_conflicts}")
    for conflict in description.conflicts:
        rows = ", ".join(f"'{label}' at {where}" for label, where in conflict.rows)
        lines.append(f"  '{conflict.text[:_NUM_CHARACTERS_SHOWN]}': {rows}")
    for name, labels in description.labels_not_in_train.items():
        lines.append(f"labels of {name} that train does not have: {listed(labels)}")
    return lines or ["no duplicates, shared texts or conflicting labels"]


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width on a terminal; numbers to the right, names to the left."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    to_right = [all(cell.isdigit() or cell == "-" for cell in column[1:]) for column in columns]
    shapes = list(zip(widths, to_right, strict=True))
    padded = ("  ".join(_pad(cell, *shape) for cell, shape in zip(line, shapes, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _pad(cell: str, width: int, to_right: bool) -> str:
    blanks = " " * (width - _width(cell))
    return blanks + cell if to_right else cell + blanks


def _width(text: str) -> int:
    """Cells on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _without_tuples(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _without_tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tuples(item) for item in value]
    return value
