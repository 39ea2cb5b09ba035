"""Rows with the text that continues them: what a model that writes is trained on, and what it starts from.

In: `Continued` rows, each a prompt with the tokens that follow it. Out: `Batch`. A causal model reads the prompt and then the
answer; an encoder-decoder reads the prompt with its encoder and the answer with its decoder. Items are the answer's tokens that
count (all of it; of a dialogue, the replies), read at the place in front of each; cells are the rows' numbers in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptune.inputs.layout import pad_rows
from ptune.inputs.tokens import Tokens
from ptune.inputs.types import Batch, Context, DecoderRows, Encoded, Live, Reads, StoredContext

__all__ = ["Continued", "decoder_prefix", "lay_out_continued"]


@dataclass(frozen=True)
class Continued:
    """A prompt and the tokens behind it.

    Args:
        encoded: the prompt; a causal model's ends where the answer begins.
        answer: tokens that follow, none where the answer is to be written.
        is_scored: for each of them whether it is learned.
        text: the answer as it was given.
    """

    encoded: Encoded
    answer: tuple[int, ...] = ()
    is_scored: tuple[bool, ...] = ()
    text: str = ""

    def __len__(self) -> int:
        """Tokens that are read: the last one is only predicted."""
        return len(self.encoded) + max(0, len(self.answer) - 1)

    @property
    def num_scored(self) -> int:
        """How many tokens are learned."""
        return sum(self.is_scored)


def decoder_prefix(encoded: Encoded, tokens: Tokens) -> tuple[int, ...]:
    """What an encoder-decoder's answer starts with: its start tokens, and the sentinel where the prompt has a gap for it."""
    ids = tokens.decoder_ids
    return ids if encoded.slot is not None or ids[-1:] != tokens.slot_ids else ids[:-1]


def lay_out_continued(
    rows: Sequence[Continued],
    tokens: Tokens,
    *,
    index: Sequence[int],
    contexts: Sequence[Context | StoredContext] = (),
    skip: Sequence[int] | None = None,
) -> Batch:
    """Lays out a batch of rows with their answers.

    Args:
        rows: B rows, all with an answer or all without.
        tokens: the backbone's tokenizer (its kind decides the layout).
        index: the rows' numbers in the prepared set.
        contexts: keys and values in front of the live tokens (causal models only).
        skip: how many of each row's first tokens the contexts hold, so that they are left out here.

    Returns:
        The batch. Without answers, its reads are the last place of each row, from which the first token is written.
    """
    firsts = list(skip) if skip else [0] * len(rows)
    if tokens.kind == "decoder":
        live = _stack([_written(row, first) for row, first in zip(rows, firsts, strict=True)], firsts, rows, tokens)
        starts, decoder = [len(row.encoded) - first - 1 for row, first in zip(rows, firsts, strict=True)], None
    else:
        live = _stack([_slotted(row.encoded, tokens) for row in rows], firsts, rows, tokens)
        prefixes = [decoder_prefix(row.encoded, tokens) for row in rows]
        starts = [len(prefix) - 1 for prefix in prefixes]
        texts = [(*prefix, *row.answer[:-1]) for prefix, row in zip(prefixes, rows, strict=True)]
        decoder = DecoderRows(pad_rows(texts, tokens.pad_id), torch.arange(len(rows)))
    return Batch(
        live=live,
        reads=_reads(rows, starts),
        num_examples=len(rows),
        row_example=torch.arange(len(rows)),
        labels=torch.full((len(rows),), -1),
        index=tuple(index),
        decoder=decoder,
        contexts=tuple(contexts),
    )


def _written(row: Continued, first: int) -> tuple[list[int], list[int]]:
    """Ids and prompt rows of the prompt without its first tokens, and of the answer without its last."""
    read = row.answer[:-1]
    return [*row.encoded.ids[first:], *read], [*row.encoded.soft[first:], *([-1] * len(read))]


def _slotted(encoded: Encoded, tokens: Tokens) -> tuple[list[int], list[int]]:
    """Ids and prompt rows with the slot's own token where the answer is missing."""
    slot_ids = () if encoded.slot is None else tokens.slot_ids
    at = len(encoded) if encoded.slot is None else encoded.slot
    ids = [*encoded.ids[:at], *slot_ids, *encoded.ids[at:]]
    return ids, [*encoded.soft[:at], *([-1] * len(slot_ids)), *encoded.soft[at:]]


def _stack(
    written: Sequence[tuple[list[int], list[int]]], firsts: Sequence[int], rows: Sequence[Continued], tokens: Tokens
) -> Live:
    """Right-padded. Positions of rows that nothing stands in front of run on through the padding, as causal kernels expect."""
    lengths = torch.tensor([len(ids) for ids, _ in written])[:, None]
    steps = torch.arange(int(lengths.max())).expand(len(written), -1)
    mask, begin = steps < lengths, torch.tensor(list(firsts))[:, None]
    positions = torch.where(mask | (begin == 0), steps + begin, 0)
    deep: Tensor | None = None
    if any(row.encoded.deep_from is not None for row in rows):
        deep = mask & (positions >= torch.tensor([row.encoded.deep_from or 0 for row in rows])[:, None])
    ids, soft = pad_rows([ids for ids, _ in written], tokens.pad_id), pad_rows([soft for _, soft in written], -1)
    return Live(ids, soft, mask, positions, deep=deep)


def _reads(rows: Sequence[Continued], starts: Sequence[int]) -> Reads:
    at = [
        (number, start + offset, token)
        for number, (row, start) in enumerate(zip(rows, starts, strict=True))
        for offset, token in enumerate(row.answer)
        if row.is_scored[offset]
    ]
    if not at:
        return Reads(torch.arange(len(rows)), torch.tensor(list(starts)))
    row, position, token = (torch.tensor(one) for one in zip(*at, strict=True))
    return Reads(row, position, None, torch.arange(len(at)), token, row)
