"""Rows that begin alike as one row with branches: what they share is computed once (causal models).

In: groups of `Encoded` rows, each row a text with one of the things that are judged in it. Out: `Batch` whose reads are in the
order of the rows, as if each had been laid out by itself; a token sees exactly its own row's tokens in front of it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ptune.inputs.answers import AnswerWords
from ptune.inputs.layout import PoolKind, pool_place
from ptune.inputs.tokens import Tokens
from ptune.inputs.tree import Plan, TreeRow, reads_of, stack_rows
from ptune.inputs.types import Batch, Context, Encoded, Reads, StoredContext

__all__ = ["lay_out_branched", "shared_beginning"]

_Step = tuple[int, int]
"""A token and its prompt row."""


def shared_beginning(rows: Sequence[Encoded]) -> Encoded:
    """What all these rows start with, as a row that goes on behind its last token."""
    first = rows[0]
    shortest = min(map(len, rows))
    length = next(
        (at for at in range(shortest) if any(row.ids[at] != first.ids[at] or row.soft[at] != first.soft[at] for row in rows)),
        shortest,
    )
    return replace(first, ids=first.ids[:length], soft=first.soft[:length], owner=first.owner[:length], slot=None)


def lay_out_branched(
    groups: Sequence[Sequence[Encoded]],
    tokens: Tokens,
    *,
    answers: AnswerWords | None = None,
    pool: PoolKind | None = None,
    index: Sequence[int],
    contexts: Sequence[Context | StoredContext] = (),
    skip: Sequence[int] | None = None,
) -> Batch:
    """Lays out groups of rows, each group as one row with branches.

    Args:
        groups: one for each example, its rows with the same `deep_from`.
        tokens: the tokenizer of a causal model.
        answers: label words that are scored in every row's slot; or
        pool: the one hidden state of every row that a head reads (not `mean`).
        index: the examples' numbers in the prepared set.
        contexts: keys and values in front of the live tokens.
        skip: how many of each group's first tokens the contexts hold; fewer than its rows share.

    Returns:
        The batch; `num_examples` counts rows, not groups.
    """
    num_rows = sum(map(len, groups))
    plan, live, columns = Plan(1 if answers is None else len(answers)), [], False
    if answers is not None:
        columns = answers.single and all(row.slot == len(row) for group in groups for row in group)
    number = 0
    for example, group in enumerate(groups):
        tree = _Tree(example, group[0].deep_from, skip[example] if skip else 0)
        for row in group:
            if answers is None:
                assert pool is not None
                at = pool_place(row, pool)
                plan.place(example, tree.grow(row, at + 1))
                tree.grow(row, len(row))
            else:
                tree.words(row, number, answers, plan, columns=columns)
            number += 1
        live.append(tree.row)
    stacked, offsets = stack_rows(live, tokens, "right", has_types=False)
    return Batch(
        live=stacked,
        reads=_pooled(plan) if answers is None else reads_of(plan, answers if columns else None, offsets),
        num_examples=num_rows,
        row_example=torch.tensor([row.example for row in live]),
        labels=torch.full((num_rows,), -1),
        index=tuple(index),
        contexts=tuple(contexts),
    )


class _Tree:
    """One group's row in the making; equal beginnings stand in it once."""

    def __init__(self, example: int, deep_from: int | None, first: int) -> None:
        self.row = TreeRow(example=example, deep_from=deep_from)
        self.first = first
        self._nodes: dict[tuple[int, _Step], int] = {}
        self._places: dict[int, int] = {}

    def grow(self, row: Encoded, end: int) -> int:
        """Puts a row's tokens up to `end` in; returns where the last of them stands."""
        at = -1
        for number in range(self.first, end):
            at = self._behind(at, (row.ids[number], row.soft[number]), number)
        return at

    def words(self, row: Encoded, number: int, answers: AnswerWords, plan: Plan, *, columns: bool) -> None:
        """Scores label words in a row's slot, each with what stands behind it."""
        slot = len(row) if row.slot is None else row.slot
        trunk = self.grow(row, slot)
        if columns:
            plan.place(self.row.example, trunk)
            return
        tail = list(zip(row.ids[slot:], row.soft[slot:], strict=True))
        for word, ids in enumerate(answers.ids):
            at, path = trunk, [*((token, -1) for token in ids), *tail]
            for step, (token, soft) in enumerate(path):
                if soft < 0:  # a learned token has no probability of its own
                    if at not in self._places:
                        self._places[at] = plan.place(self.row.example, at)
                    plan.items.append((self._places[at], token, plan.cell(number, word)))
                if step < len(path) - 1:
                    at = self._behind(at, (token, soft), slot + step)

    def _behind(self, at: int, step: _Step, position: int) -> int:
        if (at, step) not in self._nodes:
            self._nodes[at, step] = self.row.branch(*step, parent=at, position=position)
        return self._nodes[at, step]


def _pooled(plan: Plan) -> Reads:
    row, position = zip(*plan.at, strict=True)
    return Reads(row=torch.tensor(row), position=torch.tensor(position))
