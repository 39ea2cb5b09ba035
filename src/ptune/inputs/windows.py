"""A row whose long field is read in windows: each window is a whole row of its own, with a part of that field.

In: segments of one row. Out: `Windowed`: `Encoded` windows, where the field's tokens stand in them, and which characters each
of these covers. Everything else of the template stands in every window, learned tokens too: the field is what gives way.
Neighbouring windows overlap, and of a token that stands in two, the window is its own in which it is further from the edge
(Devlin et al. 2019, run_squad: the window of maximum context). A field that the template names twice is cut alike in both
places and read in the second: on a causal model the tokens of the second copy have seen the whole text.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ptune.errors import TemplateError
from ptune.inputs.encode import Piece, apply_field_limits, assemble, pieces_of, shorten
from ptune.inputs.soft import SoftLayout
from ptune.inputs.tokens import Tokens
from ptune.inputs.types import Encoded
from ptune.template import FieldSegment, Segments

__all__ = ["Window", "Windowed", "encode_windows"]

_LEAST_ROOM = 4
"""Tokens of the field that a window must hold at least, for each copy."""


@dataclass(frozen=True)
class Window:
    """One part of a row's field.

    Args:
        encoded: the whole row with that part.
        at: where the part's first token stands in it.
        begin, end: which of the field's tokens it holds.
        own_begin, own_end: those of them that stand in no other window, or in this one with more around them.
    """

    encoded: Encoded
    at: int
    begin: int
    end: int
    own_begin: int
    own_end: int

    def place(self, token: int) -> int:
        """Where a token of the field stands in the row."""
        return self.at + token - self.begin


@dataclass(frozen=True)
class Windowed:
    """A row in windows.

    Args:
        spans: the characters [start, end) of the field that each of its tokens covers, white space around them left out; an
            empty range for a token of nothing else.
        windows: at least one; each token is exactly one window's own.
    """

    spans: tuple[tuple[int, int], ...]
    windows: tuple[Window, ...]


def encode_windows(
    segments: Segments,
    tokens: Tokens,
    layout: SoftLayout,
    field: str,
    *,
    max_length: int,
    overlap: int | None = None,
    lead: int = 0,
) -> Windowed:
    """Tokenises one rendered row.

    Args:
        segments: what `Template.render` gave.
        tokens, layout, lead: as in `encode`.
        field: the one that is read in windows; its last copy in the template is the one that is read.
        max_length: tokens that a whole window may have.
        overlap: tokens of the field that neighbouring windows share; None for a third of what a window holds.

    Raises:
        TemplateError: the rest of the template leaves no room for the field.
    """
    pieces = pieces_of(segments, tokens, layout, greedy=field)
    apply_field_limits(pieces)
    copies = [number for number, piece in enumerate(pieces) if piece.owner == field]
    text = next(segment.text for segment in segments if isinstance(segment, FieldSegment) and segment.name == field)
    for number in copies:
        pieces[number].spans = [_bare(text, span) for span in pieces[number].spans]
    room = max_length - len(tokens.start_ids) - len(tokens.end_ids)
    others = [piece for piece in pieces if piece.owner != field]
    num_cut = _make_room(others, sum(len(pieces[number].ids) for number in copies), room, len(copies), field, max_length)
    cutter = _Cutter([[start for start, _ in pieces[number].spans] for number in copies], room - _length(others))
    parts = cutter.parts(overlap)
    windows = []
    for number, (begin, end) in enumerate(parts):
        own_begin = 0 if number == 0 else (begin + parts[number - 1][1]) // 2
        own_end = cutter.num_tokens if number == len(parts) - 1 else (parts[number + 1][0] + end) // 2
        encoded, at = _window(pieces, copies, cutter.cuts(begin, end), tokens, lead, num_cut)
        windows.append(Window(encoded, at, begin, end, own_begin, own_end))
    return Windowed(tuple(pieces[copies[-1]].spans), tuple(windows))


def _bare(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """A range of characters without the white space at its ends; an empty one of nothing else stays at its begin."""
    part = text[span[0] : span[1]]
    num_left = len(part) - len(part.lstrip()) if part.strip() else 0
    return span[0] + num_left, span[0] + len(part.rstrip())


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.ids) for piece in pieces)


def _make_room(others: list[Piece], num_wanted: int, room: int, num_copies: int, field: str, max_length: int) -> int:
    """Shortens other fields until the windows' field has what it wants, or half of the room; returns how many tokens went.

    Raises:
        TemplateError: what cannot be shortened leaves too little.
    """
    fixed = _length([piece for piece in others if piece.field is None or not piece.field.shortenable])
    num_cut = shorten(others, max(fixed, room - num_wanted, room // 2), max_length)
    if room - _length(others) < min(num_wanted, _LEAST_ROOM * num_copies):
        raise TemplateError(
            f"the template and the model's own special tokens take {max_length - room + _length(others)} of {max_length} "
            f"positions, which leaves no room for {{{field}}}",
            where="template",
            fix="use fewer soft tokens, a shorter template, or a larger max_length",
        )
    return num_cut


class _Cutter:
    """Cuts a field of which a row may hold several copies.

    Args:
        starts: of each copy, the character that each token starts with; the last copy is the one that is read.
        room: tokens that all copies may have together.
    """

    def __init__(self, starts: Sequence[Sequence[int]], room: int) -> None:
        self.starts, self.room = starts, room
        self.num_tokens = len(starts[-1])

    def cuts(self, begin: int, end: int) -> list[slice]:
        """Which tokens of each copy make up a window with these of the last one."""
        *others, own = self.starts
        low = own[begin] if begin else None
        high = own[end] if end < len(own) else None
        cuts = [
            slice(0 if low is None else bisect_left(copy, low), len(copy) if high is None else bisect_left(copy, high))
            for copy in others
        ]
        return [*cuts, slice(begin, end)]

    def parts(self, overlap: int | None) -> list[tuple[int, int]]:
        """Windows as large as the room allows, the last one ending with the field."""
        parts = [(0, self._end(0))]
        while parts[-1][1] < self.num_tokens:
            begin, end = parts[-1]
            shared = (end - begin) // 3 if overlap is None else overlap
            begin = max(begin + 1, end - shared)
            end = self._end(begin)
            if end == self.num_tokens:
                begin = self._begin(begin, parts[-1][0] + 1)
            parts.append((begin, end))
        return parts

    def _num(self, begin: int, end: int) -> int:
        return sum(cut.stop - cut.start for cut in self.cuts(begin, end))

    def _end(self, begin: int) -> int:
        """The furthest end of a window that begins there."""
        end = min(self.num_tokens, begin + max(1, self.room))
        while end > begin + 1 and self._num(begin, end) > self.room:
            end -= 1
        return end

    def _begin(self, begin: int, least: int) -> int:
        """The earliest begin of the last window, so that it is not shorter than the others."""
        while begin > least and self._num(begin - 1, self.num_tokens) <= self.room:
            begin -= 1
        return begin


def _window(
    pieces: Sequence[Piece], copies: Sequence[int], cuts: Sequence[slice], tokens: Tokens, lead: int, num_cut: int
) -> tuple[Encoded, int]:
    """One row, and where the first token of its last copy stands."""
    parts = list(pieces)
    for number, cut in zip(copies, cuts, strict=True):
        parts[number] = replace(parts[number], ids=parts[number].ids[cut], rows=parts[number].rows[cut])
    before = _length(parts[: copies[-1]]) + (len(tokens.start_ids) if copies[-1] >= lead else 0)
    return assemble(parts, tokens, lead=lead, num_cut=num_cut), before
