"""Batches of several tasks as one: their rows under each other, each with its own context and its own learned rows.

In: batches of one backbone, for inference, and the prompts that they are read with. Out: `Merged`, which is run once; the
hidden states that come back are cut into the tasks' own again. Nothing of a row changes but its padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptune.inputs.types import Batch, Context, Live, PromptState, Reads

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """What the backbone reads for several batches at once.

    Args:
        live: all rows.
        prompt: all learned rows.
        reads: all places, batch after batch.
        contexts: one with a row for each live row, or none.
        sizes: how many places belong to each batch.
    """

    live: Live
    prompt: PromptState
    reads: Reads
    contexts: tuple[Context, ...]
    sizes: tuple[int, ...]


def merge(batches: Sequence[Batch], prompts: Sequence[PromptState], pad_id: int) -> Merged:
    """Puts batches under each other.

    Args:
        batches: right-padded, without decoder rows, each with at most one context.
        prompts: of each batch, one candidate each.
        pad_id: fills up rows.
    """
    length = max(batch.live.ids.shape[1] for batch in batches)
    num_rows = [len(batch.live.ids) for batch in batches]
    rows = [prompt.rows for prompt in prompts if prompt.rows is not None]
    softs, at = [], 0
    for batch, prompt in zip(batches, prompts, strict=True):
        soft = batch.live.soft
        softs.append(torch.where(soft >= 0, soft + at, soft))
        at += 0 if prompt.rows is None else len(prompt.rows)
    lives = [batch.live for batch in batches]
    live = Live(
        ids=_stacked([one.ids for one in lives], length, pad_id),
        soft=_stacked(softs, length, -1),
        mask=_stacked([one.mask for one in lives], length, False),
        positions=_stacked([one.positions for one in lives], length, 0),
        tree=None if all(one.tree is None for one in lives) else torch.cat([_tree(one, length) for one in lives]),
        types=None if lives[0].types is None else _stacked([one.types for one in lives if one.types is not None], length, 0),
    )
    first = torch.tensor([0, *num_rows]).cumsum(0)
    reads = Reads(
        row=torch.cat([batch.reads.row + start for batch, start in zip(batches, first.tolist(), strict=False)]),
        position=torch.cat([batch.reads.position for batch in batches]),
    )
    contexts = _merged_contexts(batches, num_rows)
    prompt = PromptState(torch.cat(rows) if rows else None)
    return Merged(live, prompt, reads, contexts, tuple(len(batch.reads.row) for batch in batches))


def _stacked(parts: Sequence[Tensor], length: int, value: int | bool) -> Tensor:
    return torch.cat([torch.nn.functional.pad(part, (0, length - part.shape[1]), value=value) for part in parts])


def _tree(live: Live, length: int) -> Tensor:
    own = live.tree
    if own is None:
        size = live.ids.shape[1]
        own = torch.ones(size, size, dtype=torch.bool).tril().expand(len(live.ids), -1, -1)
    more = length - own.shape[1]
    return torch.nn.functional.pad(own, (0, more, 0, more), value=False)


def _merged_contexts(batches: Sequence[Batch], num_rows: Sequence[int]) -> tuple[Context, ...]:
    """One context of as many rows as there are live ones; rows without one of their own have nothing to look at."""
    given = [batch.contexts[0] for batch in batches if batch.contexts]
    if not given:
        return ()
    longest = max(context.keys.shape[3] for context in given)
    layers, _, heads, _, size = given[0].keys.shape
    both = given[0].keys.new_zeros(2, layers, sum(num_rows), heads, longest, size)
    mask = torch.zeros(sum(num_rows), longest, dtype=torch.bool)
    positions = torch.zeros(sum(num_rows), longest, dtype=torch.long)
    at = 0
    for batch, num in zip(batches, num_rows, strict=True):
        for context in batch.contexts:
            place, held = slice(at, at + num), slice(0, context.keys.shape[3])
            both[0, :, place, :, held], both[1, :, place, :, held] = context.keys, context.values
            mask[place, held], positions[place, held] = context.mask.cpu(), context.positions.cpu()
        at += num
    return (Context(both[0], both[1], mask, positions),)
