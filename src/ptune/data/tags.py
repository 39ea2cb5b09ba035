"""Tags and the spans they stand for: IO, IOB1, BIO (IOB2), BIOES, BILOU and BMES go in, (type, start, end) comes out, and back.

Spans are read by the rules of conlleval (Tjong Kim Sang and Buchholz 2000), which need no scheme and forgive what a model gets
wrong: a span begins at a B or a tag for a single token, after O or the end of a span, and where the type changes. Which scheme
the tags follow matters for writing them and for which tag may follow which.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from ptune.data.names import did_you_mean
from ptune.errors import DataError

__all__ = [
    "TagScheme",
    "TagSpan",
    "convert_tags",
    "may_follow",
    "tag_names",
    "tag_scheme",
    "tag_spans",
    "tag_types",
    "tags_of",
    "transitions",
]

TagScheme = Literal["IO", "IOB1", "BIO", "BIOES", "BILOU", "BMES"]

_OUTSIDE = "O"

# How a scheme writes the first, a middle, the last and the only token of a span.
_LETTERS = {"BIO": "BIIB", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
# What the letters of all schemes mean.
_ROLES = {"B": "first", "I": "middle", "M": "middle", "E": "last", "L": "last", "S": "only", "U": "only", "W": "only"}

_Part = tuple[str, str]


class TagSpan(NamedTuple):
    """One span: its type and the tokens from `start` up to, but not including, `end`."""

    type: str
    start: int
    end: int


def tag_spans(tags: Sequence[str]) -> tuple[TagSpan, ...]:
    """The spans of one row's tags, from left to right.

    Args:
        tags: `O`, `B-PER`, ...; a tag without a letter of a scheme in front (`PER`) is inside a span of that type, and a letter
            alone (`B`) is one of the type "", as in word segmentation.

    Returns:
        Spans as conlleval counts them, whatever the scheme.
    """
    spans: list[TagSpan] = []
    start: int | None = None
    previous: _Part | None = None
    for place, tag in enumerate([*tags, _OUTSIDE]):
        part = _part(tag)
        begins = part is not None and _begins(previous, part)
        if start is not None and previous is not None and (part is None or begins):
            spans.append(TagSpan(previous[1], start, place))
            start = None
        if begins:
            start = place
        previous = part
    return tuple(spans)


def tags_of(spans: Iterable[TagSpan], length: int, scheme: TagScheme = "BIO") -> tuple[str, ...]:
    """Writes spans as tags.

    Args:
        spans: in any order, none inside another.
        length: number of tokens.
        scheme: IO cannot tell two spans of one type from one where they touch; every other scheme can.

    Raises:
        DataError: a span reaches out of the row, is empty or overlaps another, or the scheme is unknown.
    """
    _check_scheme(scheme)
    tags = [_OUTSIDE] * length
    end_of_last: dict[str, int] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if not 0 <= span.start < span.end <= length:
            raise DataError(f"span {tuple(span)} does not fit a row of {length} tokens", fix="give 0 <= start < end <= length")
        if any(tag != _OUTSIDE for tag in tags[span.start : span.end]):
            raise DataError(f"span {tuple(span)} overlaps another one", fix="give each token at most one span")
        touches = end_of_last.get(span.type) == span.start
        letters = _span_letters(span.end - span.start, scheme, touches)
        tags[span.start : span.end] = [f"{letter}-{span.type}" if span.type else letter for letter in letters]
        end_of_last[span.type] = span.end
    return tuple(tags)


def convert_tags(tags: Sequence[str], scheme: TagScheme) -> tuple[str, ...]:
    """The same spans in another scheme; what does not follow any scheme is mended as conlleval reads it."""
    return tags_of(tag_spans(tags), len(tags), scheme)


def tag_scheme(rows: Iterable[Sequence[str]]) -> TagScheme:
    """The scheme that rows of tags follow.

    BIOES, BILOU and BMES show by their letters. Without those: IO where nothing begins with B, IOB1 where B stands only between
    two spans of one type that touch, else BIO, also where some rows are careless about it.
    """
    letters: set[str] = set()
    only_between = True  # every B so far parts two spans of one type
    for tags in rows:
        previous: _Part | None = None
        for tag in tags:
            part = _part(tag)
            if part is not None:
                letter = _letter(tag) or "I"
                letters.add(letter)
                only_between &= letter != "B" or (previous is not None and previous[1] == part[1])
            previous = part
    if letters & {"L", "U"}:
        return "BILOU"
    if letters & {"M", "W"}:
        return "BMES"
    if letters & {"E", "S"}:
        return "BIOES"
    if "B" in letters:
        return "IOB1" if only_between else "BIO"
    return "IO" if letters else "BIO"


def tag_types(rows: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The types of the spans that occur, sorted."""
    return tuple(sorted({part[1] for tags in rows for tag in tags if (part := _part(tag)) is not None}))


def tag_names(types: Iterable[str], scheme: TagScheme = "BIO") -> tuple[str, ...]:
    """All tags of a scheme: `O`, then each type's tags in the order of the scheme's letters.

    Raises:
        DataError: the scheme is unknown.
    """
    _check_scheme(scheme)
    letters = tuple(dict.fromkeys(_scheme_letters(scheme)))
    return (_OUTSIDE, *(f"{letter}-{name}" if name else letter for name in types for letter in letters))


def may_follow(previous: str | None, tag: str | None, scheme: TagScheme) -> bool:
    """Whether `tag` may stand directly behind `previous`.

    Args:
        previous: a tag, or None for the beginning of the row.
        tag: a tag, or None for the end of the row.
        scheme: the scheme of both.

    Raises:
        DataError: a tag that the scheme does not have.
    """
    left, right = _checked(previous, scheme), _checked(tag, scheme)
    if scheme == "IO":
        return True
    if scheme == "IOB1":  # B only where two spans of one type touch
        return right is None or right[0] != "first" or (left is not None and left[1] == right[1])
    goes_on = right is not None and right[0] in ("middle", "last")
    if scheme == "BIO":
        return not goes_on or (left is not None and right is not None and left[1] == right[1])
    is_open = left is not None and left[0] in ("first", "middle")
    return goes_on == is_open and (not goes_on or (left is not None and right is not None and left[1] == right[1]))


def transitions(names: Sequence[str], scheme: TagScheme) -> tuple[tuple[bool, ...], ...]:
    """Which tag may follow which, as a table for decoding.

    Returns:
        [C + 1][C + 1]: row by what stands in front, column by what follows. The last row is the beginning of the text, the last
        column its end.

    Raises:
        DataError: a name that the scheme does not have.
    """
    ends: tuple[str | None, ...] = (*names, None)
    return tuple(tuple(may_follow(previous, tag, scheme) for tag in ends) for previous in ends)


def _letter(tag: str) -> str | None:
    """The scheme's letter in front of a tag; None where the tag is a bare type."""
    letter = tag.partition("-")[0]
    return letter if letter in _ROLES else None


def _part(tag: str) -> _Part | None:
    """Role and type of a tag, or None outside of all spans."""
    if tag == _OUTSIDE:
        return None
    letter = _letter(tag)
    return ("middle", tag) if letter is None else (_ROLES[letter], tag[len(letter) + 1 :])


def _begins(previous: _Part | None, part: _Part) -> bool:
    if previous is None or part[0] in ("first", "only") or previous[0] in ("last", "only"):
        return True
    return previous[1] != part[1]


def _span_letters(length: int, scheme: TagScheme, touches: bool) -> str:
    if scheme == "IO":
        return "I" * length
    if scheme == "IOB1":
        return ("B" if touches else "I") + "I" * (length - 1)
    letters = _LETTERS[scheme]
    return letters[3] if length == 1 else letters[0] + letters[1] * (length - 2) + letters[2]


def _checked(tag: str | None, scheme: TagScheme) -> _Part | None:
    _check_scheme(scheme)
    if tag is None or tag == _OUTSIDE:
        return None
    letters = tuple(dict.fromkeys(_scheme_letters(scheme)))
    if (_letter(tag) or ("I" if scheme == "IO" else None)) not in letters:
        fix = f"its tags are O and those that begin with {', '.join(f'{letter}-' for letter in letters)}"
        raise DataError(f"tag '{tag}' does not belong to {scheme}", fix=fix)
    return _part(tag)


def _scheme_letters(scheme: TagScheme) -> str:
    return {"IO": "I", "IOB1": "BI"}.get(scheme) or _LETTERS[scheme]


def _check_scheme(scheme: str) -> None:
    names = get_args(TagScheme)
    if scheme not in names:
        fix = did_you_mean(scheme, names, f"name one of {', '.join(names)}")
        raise DataError(f"there is no tag scheme '{scheme}'", fix=fix)
