"""Rows of which single tokens are read, each for itself: tags and the ends of spans.

In: `Encoded` rows and the tokens of each that are read. Out: `Batch`, whose reads are these places, row by row.
"""

from collections.abc import Sequence

import torch

from ptune.inputs.tokens import Tokens
from ptune.inputs.tree import PaddingSide, slotted_row, stack_rows
from ptune.inputs.types import Batch, Context, Encoded, Reads, StoredContext

__all__ = ["lay_out_places"]


def lay_out_places(
    rows: Sequence[Encoded],
    places: Sequence[Sequence[int]],
    tokens: Tokens,
    *,
    index: Sequence[int],
    contexts: Sequence[Context | StoredContext] = (),
    skip: Sequence[int] | None = None,
    padding_side: PaddingSide = "right",
    has_types: bool = False,
) -> Batch:
    """Lays out a batch.

    Args:
        rows: B encoded rows without an answer slot.
        places: of each row, where in it states are read; none of them in its context.
        tokens: the backbone's tokenizer.
        index: the rows' numbers in the prepared set.
        contexts: keys and values in front of the live tokens (causal models only).
        skip: how many of each row's first tokens the contexts hold, so that they are left out here.
        padding_side: where padding stands.
        has_types: whether the model wants segment ids.
    """
    firsts = list(skip) if skip else [0] * len(rows)
    live = [
        slotted_row(encoded, ((),), number, first=first)
        for number, (encoded, first) in enumerate(zip(rows, firsts, strict=True))
    ]
    stacked, offsets = stack_rows(live, tokens, padding_side, has_types=has_types)
    read = [
        (number, at - first + offset)
        for number, (own, first, offset) in enumerate(zip(places, firsts, offsets, strict=True))
        for at in own
    ]
    row, position = torch.tensor(read, dtype=torch.long).view(-1, 2).unbind(1)
    return Batch(
        live=stacked,
        reads=Reads(row=row, position=position),
        num_examples=len(rows),
        row_example=torch.arange(len(rows)),
        labels=torch.full((len(rows),), -1),
        index=tuple(index),
        contexts=tuple(contexts),
    )
