"""From rendered segments to token ids: tokenise, shorten fields, and remember where learned tokens and the answer stand.

In: segments of one row. Out: `Encoded`, the row's tokens with the answer slot left open. Neighbouring hard words and fields
are tokenised as one text, so that a token never depends on how the template was cut up; offsets tell which tokens belong to
which field, and only those are shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ptune.errors import TemplateError
from ptune.inputs.soft import SoftLayout
from ptune.inputs.tokens import Tokens
from ptune.inputs.types import Encoded
from ptune.template import FieldSegment, MaskSegment, Segment, Segments, SoftSegment, SpecialSegment, TextSegment

__all__ = ["encode"]


@dataclass
class Piece:
    """Tokens in the making: `owner` as in Encoded; a field's limits ride along, and its tokens' places in its text."""

    ids: list[int]
    rows: list[int]
    owner: str
    spans: list[tuple[int, int]] = field(default_factory=list)
    is_slot: bool = False
    field: FieldSegment | None = None


def encode(
    segments: Segments, tokens: Tokens, layout: SoftLayout, *, max_length: int, num_answer_tokens: int = 1, lead: int = 0
) -> Encoded:
    """Tokenises one rendered row.

    Args:
        segments: what `Template.render` gave.
        tokens: the backbone's tokenizer.
        layout: prompt rows of the template's soft nodes.
        max_length: tokens the whole row may have, the answer included.
        num_answer_tokens: room to leave for the longest answer.
        lead: how many of the first pieces stand in front of the text's start token (Lester's placement before BOS).

    Raises:
        TemplateError: what cannot be shortened is longer than `max_length`, or a causal model has nothing to read.
    """
    pieces = pieces_of(segments, tokens, layout)
    apply_field_limits(pieces)
    room = max_length - num_answer_tokens - len(tokens.start_ids) - len(tokens.end_ids)
    num_cut = shorten(pieces, room, max_length)
    encoded = assemble(pieces, tokens, lead=lead, num_cut=num_cut)
    if tokens.kind == "decoder" and not encoded.ids[: encoded.slot]:
        raise TemplateError(
            "no token stands in front of the answer for a causal model to read",
            where="template",
            fix="put words in front of {mask}",
        )
    return encoded


def assemble(pieces: Sequence[Piece], tokens: Tokens, *, lead: int, num_cut: int) -> Encoded:
    """Pieces in reading order as one row, between what a plain text starts and ends with."""
    start = Piece(list(tokens.start_ids), [-1] * len(tokens.start_ids), "special")
    end = Piece(list(tokens.end_ids), [-1] * len(tokens.end_ids), "special")
    ordered = [*pieces[:lead], start, *pieces[lead:], end]
    ids: list[int] = []
    rows: list[int] = []
    owner: list[str] = []
    slots: list[int] = []
    for piece in ordered:
        if piece.is_slot:
            slots.append(len(ids))
        ids += piece.ids
        rows += piece.rows
        owner += [piece.owner] * len(piece.ids)
    slot = slots[0] if slots else None
    return Encoded(tuple(ids), tuple(rows), tuple(owner), slot, num_cut, more_slots=tuple(slots[1:]))


def pieces_of(segments: Segments, tokens: Tokens, layout: SoftLayout, *, greedy: str = "") -> list[Piece]:
    """Segments as tokens; one that lies across a border goes to the piece of its last character, or to the field `greedy`."""
    pieces: list[Piece] = []
    for is_text, group in groupby(segments, lambda segment: isinstance(segment, TextSegment | FieldSegment)):
        if is_text:
            pieces += _text_pieces(list(group), tokens, greedy)
        else:
            pieces += [_other_piece(segment, tokens, layout) for segment in group]
    return pieces


def _other_piece(segment: Segment, tokens: Tokens, layout: SoftLayout) -> Piece:
    if isinstance(segment, SoftSegment):
        rows = list(layout.rows_of_node[segment.node_index])
        return Piece([tokens.pad_id] * len(rows), rows, "soft")
    if isinstance(segment, SpecialSegment):
        ids = list(tokens.special(segment.token))
        return Piece(ids, [-1] * len(ids), "special")
    assert isinstance(segment, MaskSegment)
    return Piece([], [], "", is_slot=True)


def _text_pieces(run: list[Segment], tokens: Tokens, greedy: str) -> list[Piece]:
    """Tokenises a run of hard words and fields as one text and deals its tokens out to them."""
    segments = [segment for segment in run if isinstance(segment, TextSegment | FieldSegment)]
    ends: list[int] = []
    for segment in segments:
        ends.append((ends[-1] if ends else 0) + len(segment.text))
    text = "".join(segment.text for segment in segments)
    pieces = [
        Piece(
            [],
            [],
            segment.name if isinstance(segment, FieldSegment) else "",
            field=segment if isinstance(segment, FieldSegment) else None,
        )
        for segment in segments
    ]
    if not text:
        return pieces
    last = 0
    for index, (start, end) in zip(*tokens.spans(text), strict=True):
        while last < len(ends) - 1 and end > ends[last]:
            last += 1
        claims = (i for i in range(last) if greedy and pieces[i].owner == greedy and start < ends[i] and segments[i].text)
        at = next(claims, last)
        first = ends[at] - len(segments[at].text)
        pieces[at].ids.append(index)
        pieces[at].rows.append(-1)
        pieces[at].spans.append((max(start, first) - first, min(end, ends[at]) - first))
    return pieces


def apply_field_limits(pieces: list[Piece]) -> None:
    """Cuts fields down to the tokens that the template allows them."""
    for piece in pieces:
        if piece.field is not None and piece.field.max_tokens is not None:
            _cut(piece, max(0, len(piece.ids) - piece.field.max_tokens))


def shorten(pieces: list[Piece], room: int, max_length: int) -> int:
    """Cuts the longest shortenable field until everything fits; returns how many tokens went."""
    excess = sum(len(piece.ids) for piece in pieces) - room
    num_cut = max(0, excess)
    fields = [piece for piece in pieces if piece.field is not None and piece.field.shortenable]
    if excess > sum(len(piece.ids) for piece in fields):
        num_soft = sum(len(piece.ids) for piece in pieces if piece.owner == "soft")
        num_fixed = sum(len(piece.ids) for piece in pieces if piece not in fields) - num_soft
        raise TemplateError(
            f"{num_soft} learned and {num_fixed} other fixed tokens do not fit into {max_length} positions "
            f"beside the answer and the model's own special tokens",
            where="template",
            fix="use fewer soft tokens, a shorter template, or a larger max_length",
        )
    while excess > 0:
        longest = max(fields, key=lambda piece: len(piece.ids))
        others = [len(piece.ids) for piece in fields if piece is not longest]
        step = min(excess, max(1, len(longest.ids) - max(others, default=0)))
        _cut(longest, step)
        excess -= step
    return num_cut


def _cut(piece: Piece, num_tokens: int) -> None:
    if num_tokens <= 0:
        return
    assert piece.field is not None
    keep = slice(num_tokens, None) if piece.field.trim == "head" else slice(0, len(piece.ids) - num_tokens)
    piece.ids, piece.rows, piece.spans = piece.ids[keep], piece.rows[keep], piece.spans[keep]
