"""From encoded rows to one batch of tensors: where the answer's tokens go, and where its score is read.

In: `Encoded` rows and either label words or a way to pool. Out: `Batch`. Three layouts, one for each kind of model:
a causal model scores words as branches behind one shared trunk, a masked model fills as many masks as a word has tokens, an
encoder-decoder writes the word with its decoder. Exactness is stated in `AnswerWords` and tested against brute force.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch

from ptune.inputs.answers import AnswerWords, FillOrder
from ptune.inputs.tokens import Tokens
from ptune.inputs.tree import PaddingSide, Plan, TreeRow, answer_places, from_slot, reads_of, slotted_row, stack_rows
from ptune.inputs.types import Batch, Context, DecoderRows, Encoded, Reads, StoredContext

__all__ = [
    "PoolKind",
    "lay_out_filled",
    "lay_out_pooled",
    "lay_out_words",
    "lead_length",
    "num_laid_out",
    "pad_rows",
    "trunk_start",
]

PoolKind = Literal["cls", "first", "last", "mean", "mask"]


def trunk_start(encoded: Encoded) -> int:
    """Tokens that a kept context may hold: those in front of the first learned one, short of the token that is read."""
    last_read = len(encoded) - 1 if encoded.slot is None else encoded.slot - 1
    return max(0, min(encoded.split, last_read))


def lead_length(rows: Sequence[Encoded]) -> int:
    """How many tokens all rows start with, in front of any field's: constant for the task, learned ones included."""
    first = rows[0]
    own = next((at for at, owner in enumerate(first.owner) if owner not in ("", "soft", "special")), len(first))
    length = min(own, *(len(row) - 1 if row.slot is None else row.slot - 1 for row in rows))
    for row in rows[1:]:
        if row.ids[:length] == first.ids[:length] and row.soft[:length] == first.soft[:length]:
            continue
        same = [row.ids[at] == first.ids[at] and row.soft[at] == first.soft[at] for at in range(length)]
        length = same.index(False)
    return max(0, length)


def lay_out_words(
    rows: Sequence[Encoded],
    answers: AnswerWords | Sequence[AnswerWords],
    tokens: Tokens,
    *,
    labels: Sequence[int],
    index: Sequence[int],
    order: FillOrder = "parallel",
    contexts: Sequence[Context | StoredContext] = (),
    skip: Sequence[int] | None = None,
    padding_side: PaddingSide = "right",
    has_types: bool = False,
) -> Batch:
    """Lays out a batch whose answer slot is scored with label words.

    Args:
        rows: B encoded examples, each with a slot.
        answers: the words; or each row's own, whose cells are then counted by the most words that a row has.
        tokens: the backbone's tokenizer (its kind decides the layout).
        labels: B class numbers, -1 where unknown.
        index: the examples' numbers in the prepared set.
        order: how masks of a word are filled (masked models only; `pet` is laid out by `lay_out_filled`).
        contexts: keys and values in front of the live tokens (causal models only).
        skip: how many of each row's first tokens the contexts hold, so that they are left out here.
        padding_side: where padding stands.
        has_types: whether the model wants segment ids.

    Returns:
        The batch; its reads hold plain columns where every word is one token and nothing follows it.
    """
    shared = answers if isinstance(answers, AnswerWords) else None
    each = [answers] * len(rows) if isinstance(answers, AnswerWords) else list(answers)
    width = max(map(len, each))
    live, decoder = [], None
    plan = Plan(width)
    columns = shared is not None and shared.single
    if tokens.kind == "decoder":
        columns = columns and all(encoded.slot == len(encoded) for encoded in rows)
        for example, encoded in enumerate(rows):
            first = skip[example] if skip else 0
            live.append(_causal_row(encoded, example, each[example], plan, columns=columns, first=first))
    elif tokens.kind == "encoder":
        for example, encoded in enumerate(rows):
            _masked_rows(encoded, example, each[example], tokens, plan, live, order=order, columns=columns)
    else:
        decoder = _DecoderPlan(tokens.decoder_ids)
        for example, encoded in enumerate(rows):
            live.append(slotted_row(encoded, (tokens.slot_ids,), example))
            decoder.add_words(example, each[example], plan, columns=columns)
    stacked, offsets = stack_rows(live, tokens, padding_side, has_types=has_types)
    return Batch(
        live=stacked,
        reads=reads_of(plan, shared if columns else None, None if decoder else offsets),
        num_examples=len(rows),
        row_example=torch.tensor([row.example for row in live]),
        labels=torch.tensor(list(labels)),
        index=tuple(index),
        decoder=decoder.stack(tokens.pad_id) if decoder else None,
        contexts=tuple(contexts),
    )


def num_laid_out(encoded: Encoded, answers: AnswerWords, tokens: Tokens, *, order: FillOrder = "parallel") -> int:
    """Tokens that `lay_out_words` lays out for one row of which none is kept, with those of an encoder-decoder's decoder."""
    plan = Plan(len(answers))
    if tokens.kind == "decoder":
        if answers.single and encoded.slot == len(encoded):
            return len(encoded)
        return len(_causal_row(encoded, 0, answers, plan, columns=False, first=0).ids)
    if tokens.kind == "encoder":
        live: list[TreeRow] = []
        _masked_rows(encoded, 0, answers, tokens, plan, live, order=order, columns=answers.single)
        return sum(len(row.ids) for row in live)
    decoder = _DecoderPlan(tokens.decoder_ids)
    decoder.add_words(0, answers, plan, columns=answers.single)
    return len(encoded) + len(tokens.slot_ids) + max(map(len, decoder.rows)) * len(decoder.rows)


def lay_out_pooled(
    rows: Sequence[Encoded],
    pool: PoolKind,
    tokens: Tokens,
    *,
    labels: Sequence[int],
    index: Sequence[int],
    contexts: Sequence[Context | StoredContext] = (),
    skip: Sequence[int] | None = None,
    padding_side: PaddingSide = "right",
    has_types: bool = False,
) -> Batch:
    """Lays out a batch for a linear head: `pool` says which hidden states it averages.

    `cls` is the text's first special token (never a learned one), `last` the last token, `mean` all but learned tokens,
    `mask` the answer slot; `first` is whatever stands at position 0, as PEFT reads it.
    """
    live, weights = [], []
    for example, encoded in enumerate(rows):
        first = skip[example] if skip else 0
        row = slotted_row(encoded, (tokens.slot_ids if pool == "mask" else (),), example, first=first)
        live.append(row)
        weights.append(_pool_weights(encoded, pool, len(row.ids), first))
    stacked, offsets = stack_rows(live, tokens, padding_side, has_types=has_types)
    pool_RS = torch.zeros(stacked.ids.shape)
    for number, (weight, offset) in enumerate(zip(weights, offsets, strict=True)):
        pool_RS[number, offset : offset + len(weight)] = torch.tensor(weight)
    return Batch(
        live=stacked,
        reads=Reads(row=torch.arange(len(rows)), position=pool_RS.argmax(1)),
        num_examples=len(rows),
        row_example=torch.arange(len(rows)),
        labels=torch.tensor(list(labels)),
        index=tuple(index),
        pool=pool_RS,
        contexts=tuple(contexts),
    )


def lay_out_filled(
    rows: Sequence[Encoded],
    answers: AnswerWords,
    tokens: Tokens,
    is_filled: Callable[[int, int, int], bool],
    *,
    padding_side: PaddingSide = "right",
    has_types: bool = False,
) -> Batch:
    """Masked layout with one row for each example and word, in which some masks already hold the word's token.

    Args:
        is_filled: (example, word, token number) -> whether that mask is filled.

    Returns:
        A batch whose item i belongs to one open mask; its cell is (example * W + word) * max_tokens + token number.
    """
    live, plan = [], Plan()
    for example, encoded in enumerate(rows):
        for word, ids in enumerate(answers.ids):
            filled = [is_filled(example, word, at) for at in range(len(ids))]
            shown = [token if done else tokens.slot_ids[0] for token, done in zip(ids, filled, strict=True)]
            parts = answers.parts(word, shown)
            live.append(slotted_row(encoded, parts, example))
            for at, (done, position) in enumerate(zip(filled, answer_places(encoded, parts), strict=True)):
                if not done:
                    place = plan.place(len(live) - 1, position)
                    cell = (example * len(answers) + word) * answers.max_tokens + at
                    plan.items.append((place, ids[at], cell))
    stacked, offsets = stack_rows(live, tokens, padding_side, has_types=has_types)
    return Batch(
        live=stacked,
        reads=reads_of(plan, None, offsets),
        num_examples=len(rows),
        row_example=torch.tensor([row.example for row in live]),
        labels=torch.full((len(rows),), -1),
    )


def pad_rows(rows: Sequence[Sequence[int]], value: int, *, length: int | None = None) -> torch.Tensor:
    """Right-pads integer rows of unequal length to one tensor [R, S]."""
    length = max(map(len, rows)) if length is None else length
    return torch.tensor([[*row, *([value] * (length - len(row)))] for row in rows])


def _slot(encoded: Encoded) -> int:
    assert encoded.slot is not None
    return encoded.slot


def _causal_row(encoded: Encoded, example: int, answers: AnswerWords, plan: Plan, *, columns: bool, first: int) -> TreeRow:
    """Trunk up to the first slot, then the words as a tree: beginnings that words share stand there once.

    What follows a slot is scored behind each whole word. The last token of a path is only predicted, so it is not there.
    """
    slot = _slot(encoded)
    row = TreeRow(example=example, deep_from=encoded.deep_from)
    row.add(encoded.ids[first:slot], encoded.soft[first:slot], position=first)
    trunk = len(row.ids) - 1
    place_of = {trunk: plan.place(example, trunk)}
    if columns:
        return row
    node_of: dict[tuple[int, int, int], int] = {}
    behind = from_slot(encoded)
    for word in range(len(answers)):
        filled = slotted_row(behind, answers.parts(word), example)
        path = list(zip(filled.ids, filled.soft, strict=True))
        at = trunk
        for number, (token, soft) in enumerate(path):
            if soft < 0:  # a learned token has no probability of its own
                if at not in place_of:
                    place_of[at] = plan.place(example, at)
                plan.items.append((place_of[at], token, plan.cell(example, word)))
            if number == len(path) - 1:
                break
            key = (at, token, soft)
            if key not in node_of:
                node_of[key] = row.branch(token, soft, parent=at, position=slot + number)
            at = node_of[key]
    return row


def _masked_rows(
    encoded: Encoded,
    example: int,
    answers: AnswerWords,
    tokens: Tokens,
    plan: Plan,
    live: list[TreeRow],
    *,
    order: FillOrder,
    columns: bool,
) -> None:
    """One row per distinct filling: k masks for words of k tokens; `chain` adds rows with the word's beginning filled in."""
    row_of: dict[tuple[tuple[int, ...], ...], int] = {}
    place_of: dict[tuple[int, int], int] = {}

    def place(parts: tuple[tuple[int, ...], ...], at: int) -> int:
        if parts not in row_of:
            row_of[parts] = len(live)
            live.append(slotted_row(encoded, parts, example))
        spot = (row_of[parts], answer_places(encoded, parts)[at])
        if spot not in place_of:
            place_of[spot] = plan.place(*spot)
        return place_of[spot]

    if columns:
        place((tokens.slot_ids,), 0)
        return
    for word, ids in enumerate(answers.ids):
        for at, token in enumerate(ids):
            known = ids[:at] if order == "chain" else ()
            shown = [*known, *(tokens.slot_ids * (len(ids) - len(known)))]
            plan.items.append((place(answers.parts(word, shown), at), token, plan.cell(example, word)))


class _DecoderPlan:
    """Decoder rows in the making: one with the prefix alone, and one for each word of several tokens."""

    def __init__(self, prefix: tuple[int, ...]) -> None:
        self.prefix = prefix
        self.rows: list[tuple[int, ...]] = []
        self.source: list[int] = []

    def _add(self, ids: tuple[int, ...], example: int) -> int:
        self.rows.append(ids)
        self.source.append(example)
        return len(self.rows) - 1

    def add_words(self, example: int, answers: AnswerWords, plan: Plan, *, columns: bool) -> None:
        last = len(self.prefix) - 1
        first_place = plan.place(self._add(self.prefix, example), last)
        if columns:
            return
        for word, ids in enumerate(answers.ids):
            cell = plan.cell(example, word)
            plan.items.append((first_place, ids[0], cell))
            if len(ids) > 1:
                row = self._add((*self.prefix, *ids[:-1]), example)
                plan.items += [(plan.place(row, last + at), ids[at], cell) for at in range(1, len(ids))]

    def stack(self, pad_id: int) -> DecoderRows:
        return DecoderRows(ids=pad_rows(self.rows, pad_id), source=torch.tensor(self.source))


def _pool_weights(encoded: Encoded, pool: PoolKind, length: int, keep: int) -> list[float]:
    """Weights over the row's tokens that sum to one."""
    num_slot = length + keep - len(encoded)
    slot = len(encoded) if encoded.slot is None else encoded.slot
    is_soft = [row >= 0 for row in encoded.soft]
    is_soft[slot:slot] = [False] * num_slot
    if pool == "mean":
        real = [0.0 if soft else 1.0 for soft in is_soft[keep:]]
        return [weight / max(1.0, sum(real)) for weight in real]
    at = pool_place(encoded, pool, num_slot)
    return [1.0 if i == at - keep else 0.0 for i in range(length)]


def pool_place(encoded: Encoded, pool: PoolKind, num_slot: int = 0) -> int:
    """The one token that a head reads, in a row with `num_slot` tokens in its answer slot; not for `mean`."""
    slot = len(encoded) if encoded.slot is None else encoded.slot
    if pool == "first":
        return 0
    if pool == "cls":
        is_soft = [row >= 0 for row in encoded.soft]
        is_soft[slot:slot] = [False] * num_slot
        return next((at for at, soft in enumerate(is_soft) if not soft), 0)
    if pool == "mask" and encoded.slot is not None:
        return slot if num_slot else slot - 1
    return len(encoded) + num_slot - 1
