"""Rows whose answer slot is filled and some of whose own tokens are hidden: a masked model has to guess them from the answer.

In: `Encoded` rows, what stands in their slots, and which tokens are hidden. Out: `Batch` with an item for each hidden token, in
the order of the rows and of the tokens in them.
"""

from collections.abc import Sequence

import torch

from ptune.inputs.tokens import Tokens
from ptune.inputs.tree import Plan, reads_of, slotted_row, stack_rows
from ptune.inputs.types import Batch, Encoded

__all__ = ["field_tokens", "lay_out_hidden"]

_NO_FIELDS = ("", "soft", "special", "demos")
"""Owners of tokens that are not the row's own text."""


def field_tokens(row: Encoded) -> list[int]:
    """The numbers of the tokens that come from the row's own texts."""
    return [at for at, owner in enumerate(row.owner) if owner not in _NO_FIELDS]


def lay_out_hidden(
    rows: Sequence[Encoded],
    words: Sequence[Sequence[Sequence[int]]],
    hidden: Sequence[Sequence[int]],
    tokens: Tokens,
    *,
    has_types: bool = False,
) -> Batch:
    """Lays out a batch.

    Args:
        rows: B encoded rows with answer slots.
        words: of each row, the tokens that stand in each of its slots.
        hidden: of each row, the numbers of the tokens that are shown as the mask token; at least one in all.
        tokens: the tokenizer of a masked model.
        has_types: whether the model wants segment ids.
    """
    plan, live = Plan(), []
    for number, (encoded, parts, own) in enumerate(zip(rows, words, hidden, strict=True)):
        row = slotted_row(encoded, parts, number)
        for at in own:
            place = at + sum(len(part) for slot, part in zip(encoded.slots, parts, strict=True) if slot <= at)
            row.ids[place] = tokens.slot_ids[0]
            plan.items.append((plan.place(number, place), encoded.ids[at], number))
        live.append(row)
    stacked, offsets = stack_rows(live, tokens, "right", has_types=has_types)
    return Batch(
        live=stacked,
        reads=reads_of(plan, None, offsets),
        num_examples=len(rows),
        row_example=torch.arange(len(rows)),
        labels=torch.full((len(rows),), -1),
    )
