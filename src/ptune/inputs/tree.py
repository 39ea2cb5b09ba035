"""Rows and reads in the making: what a row's tokens see of each other, its answer slots filled, rows padded to one batch.

In: `Encoded` rows and what stands in their slots. Out: `Live` tokens and `Reads`, of which the layouts make their batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from ptune.inputs.answers import AnswerWords
from ptune.inputs.tokens import Tokens
from ptune.inputs.types import Encoded, Live, Reads

__all__ = ["PaddingSide", "Plan", "TreeRow", "answer_places", "from_slot", "reads_of", "slotted_row", "stack_rows"]

PaddingSide = Literal["right", "left"]


@dataclass
class TreeRow:
    """One sequence in the making."""

    ids: list[int] = field(default_factory=list)
    soft: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    example: int = 0
    deep_from: int | None = None

    def add(self, ids: Sequence[int], soft: Sequence[int], *, position: int) -> None:
        """Tokens behind each other, the first behind the last token that is there."""
        self.parent += range(len(self.ids) - 1, len(self.ids) - 1 + len(ids))
        self.ids += ids
        self.soft += soft
        self.positions += range(position, position + len(ids))

    def branch(self, token: int, soft: int, *, parent: int, position: int) -> int:
        """One token behind any other; returns where it stands."""
        self.ids.append(token)
        self.soft.append(soft)
        self.positions.append(position)
        self.parent.append(parent)
        return len(self.ids) - 1

    @property
    def has_branches(self) -> bool:
        return any(parent != at - 1 for at, parent in enumerate(self.parent))

    def tree(self) -> torch.Tensor:
        """[S, S] what each token sees: itself and its ancestors."""
        sees = torch.eye(len(self.ids), dtype=torch.bool)
        for at, parent in enumerate(self.parent):
            if parent >= 0:
                sees[at] |= sees[parent]
        return sees


@dataclass
class Plan:
    """Reads in the making: `at` are the places, `items` are (place, token, cell); an example has `width` cells."""

    width: int = 1
    at: list[tuple[int, int]] = field(default_factory=list)
    items: list[tuple[int, int, int]] = field(default_factory=list)

    def cell(self, example: int, word: int) -> int:
        return example * self.width + word

    def place(self, row: int, position: int) -> int:
        self.at.append((row, position))
        return len(self.at) - 1


def slotted_row(encoded: Encoded, parts: Sequence[Sequence[int]], example: int, *, first: int = 0) -> TreeRow:
    """The whole row with an answer's parts in its slots (else at its end), without its first `first` tokens."""
    ids: list[int] = []
    soft: list[int] = []
    at = 0
    for slot, part in zip(encoded.slots or (len(encoded),), parts, strict=True):
        ids += [*encoded.ids[at:slot], *part]
        soft += [*encoded.soft[at:slot], *([-1] * len(part))]
        at = slot
    ids += encoded.ids[at:]
    soft += encoded.soft[at:]
    row = TreeRow(example=example, deep_from=encoded.deep_from)
    row.add(ids[first:], soft[first:], position=first)
    return row


def from_slot(encoded: Encoded) -> Encoded:
    """A row without what stands in front of its first slot."""
    slot, *more = encoded.slots
    ids, soft, owner = encoded.ids[slot:], encoded.soft[slot:], encoded.owner[slot:]
    return replace(encoded, ids=ids, soft=soft, owner=owner, slot=0, more_slots=tuple(at - slot for at in more))


def answer_places(encoded: Encoded, parts: Sequence[Sequence[int]]) -> list[int]:
    """Where each token of the answer stands in `slotted_row`."""
    slots = [slot for slot, part in zip(encoded.slots, parts, strict=True) for _ in part]
    return [slot + number for number, slot in enumerate(slots)]


def reads_of(plan: Plan, columns_of: AnswerWords | None, offsets: Sequence[int] | None) -> Reads:
    row = torch.tensor([row for row, _ in plan.at])
    position = torch.tensor([position for _, position in plan.at])
    if offsets is not None:
        position = position + torch.tensor(list(offsets))[row]
    if columns_of is not None:
        return Reads(row=row, position=position, columns=torch.tensor(list(columns_of.first_column())))
    read, token, cell = zip(*plan.items, strict=True)
    return Reads(row, position, None, torch.tensor(read), torch.tensor(token), torch.tensor(cell))


def stack_rows(
    rows: Sequence[TreeRow], tokens: Tokens, padding_side: PaddingSide, *, has_types: bool
) -> tuple[Live, list[int]]:
    """Pads rows to one length; returns where each row's first token stands. Positions run on through right padding."""
    length = max(len(row.ids) for row in rows)
    num_rows = len(rows)
    ids = torch.full((num_rows, length), tokens.pad_id)
    soft = torch.full((num_rows, length), -1)
    mask = torch.zeros(num_rows, length, dtype=torch.bool)
    positions = torch.zeros(num_rows, length, dtype=torch.long)
    tree = torch.zeros(num_rows, length, length, dtype=torch.bool) if any(row.has_branches for row in rows) else None
    types = torch.zeros(num_rows, length, dtype=torch.long)
    deep = torch.zeros(num_rows, length, dtype=torch.bool) if any(row.deep_from is not None for row in rows) else None
    offsets = [length - len(row.ids) if padding_side == "left" else 0 for row in rows]
    for number, (row, offset) in enumerate(zip(rows, offsets, strict=True)):
        place = slice(offset, offset + len(row.ids))
        ids[number, place] = torch.tensor(row.ids)
        soft[number, place] = torch.tensor(row.soft)
        mask[number, place] = True
        positions[number, place] = torch.tensor(row.positions)
        if offset == 0 and row.positions[:1] == [0] and tree is None:
            positions[number] = torch.arange(length)  # runs on through the padding, as causal kernels expect
        if tree is not None:
            tree[number, place, place] = row.tree()
        if deep is not None:
            deep[number, place] = torch.tensor(row.positions) >= (row.deep_from or 0)
        if has_types:
            types[number, place] = torch.tensor(_segment_types(row, tokens))
    return Live(ids, soft, mask, positions, tree, types if has_types else None, deep), offsets


def _segment_types(row: TreeRow, tokens: Tokens) -> list[int]:
    """0 up to and including the first separator inside the text, 1 behind it (BERT's pairs)."""
    separator = tokens.tokenizer.sep_token_id
    types, current = [], 0
    for at, index in enumerate(row.ids):
        types.append(current)
        if index == separator and row.soft[at] < 0 and at < len(row.ids) - 1:
            current = 1
    return types
