"""Batches of several tasks as one: their rows under each other, each with its own context and its own learned rows.

In: batches of one backbone, for inference, and the prompts that they are read with. Out: `Merged`, which is run once; the
hidden states that come back are cut into the tasks' own again. Nothing of a row changes but its padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptune.inputs.prefix import Prefix
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
            Prefixes without gates are taken along.
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
    moved = [_moved(batch.live, prompt) for batch, prompt in zip(batches, prompts, strict=True)]
    has_deep = any(one.deep is not None for one in lives)
    live = Live(
        ids=_stacked([one.ids for one in lives], length, pad_id),
        soft=_stacked(softs, length, -1),
        mask=_stacked([one.mask for one in lives], length, False),
        positions=_stacked(moved, length, 0),
        tree=None if all(one.tree is None for one in lives) else torch.cat([_tree(one, length) for one in lives]),
        types=None if lives[0].types is None else _stacked([one.types for one in lives if one.types is not None], length, 0),
        deep=_stacked([_deep(one) for one in lives], length, False) if has_deep else None,
    )
    first = torch.tensor([0, *num_rows]).cumsum(0)
    reads = Reads(
        row=torch.cat([batch.reads.row + start for batch, start in zip(batches, first.tolist(), strict=False)]),
        position=torch.cat([batch.reads.position for batch in batches]),
    )
    contexts = _merged_contexts(batches, num_rows)
    prefix = _merged_prefix(prompts, num_rows)
    prompt = PromptState(torch.cat(rows) if rows else None, {} if prefix is None else {"text": prefix})
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


def _moved(live: Live, prompt: PromptState) -> Tensor:
    """Positions with the room made that the prompt's prefix takes."""
    return live.positions + prompt.num_positions * _deep(live).long()


def _deep(live: Live) -> Tensor:
    return torch.ones_like(live.mask) if live.deep is None else live.deep


def _merged_prefix(prompts: Sequence[PromptState], num_rows: Sequence[int]) -> Prefix | None:
    """One prefix of as many rows as there are live ones, each with its own task's keys and values."""
    given = [prompt.prefixes.get("text") for prompt in prompts]
    present = [one for one in given if one is not None]
    if not present:
        return None
    most, first = max(one.num_tokens for one in present), present[0]
    mask = torch.zeros(sum(num_rows), most, dtype=torch.bool)
    starts = torch.tensor([0, *num_rows]).cumsum(0).tolist()
    for one, at, num in zip(given, starts, num_rows, strict=False):
        if one is not None:
            mask[at : at + num, : one.num_tokens] = True

    def layer(index: int, part: int) -> Tensor:
        like = first.layer(index)[part]
        whole = like.new_zeros(sum(num_rows), like.shape[1], most, like.shape[3])
        for one, at, num in zip(given, starts, num_rows, strict=False):
            if one is not None:
                whole[at : at + num, :, : one.num_tokens] = one.layer(index)[part]
        return whole

    keys, values = (tuple(layer(index, part) for index in range(len(first.keys))) for part in (0, 1))
    return Prefix(keys, values, mask)


def _merged_contexts(batches: Sequence[Batch], num_rows: Sequence[int]) -> tuple[Context, ...]:
    """One context of as many rows as there are live ones; rows without one of their own have nothing to look at."""
    given = [batch.known[0] for batch in batches if batch.known]
    if not given:
        return ()
    longest = max(context.keys.shape[3] for context in given)
    layers, _, heads, _, size = given[0].keys.shape
    both = given[0].keys.new_zeros(2, layers, sum(num_rows), heads, longest, size)
    mask = torch.zeros(sum(num_rows), longest, dtype=torch.bool)
    positions = torch.zeros(sum(num_rows), longest, dtype=torch.long)
    at = 0
    for batch, num in zip(batches, num_rows, strict=True):
        for context in batch.known:
            place, held = slice(at, at + num), slice(0, context.keys.shape[3])
            both[0, :, place, :, held], both[1, :, place, :, held] = context.keys, context.values
            mask[place, held], positions[place, held] = context.mask.cpu(), context.positions.cpu()
        at += num
    return (Context(both[0], both[1], mask, positions),)
