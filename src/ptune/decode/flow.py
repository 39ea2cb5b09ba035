"""Rows of any tasks that grow side by side, one token each in a step; new ones join and finished ones leave at any time.

In: batches of prompts of one causal backbone, each with its own learned prompt and context. Out: the hidden state behind each
row's last token, from which its next one is chosen. All keys and values lie in one tensor; a row has a place in it as long as
it grows, the last row moves into the place of one that leaves, and learned keys and values travel with their row.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone
from ptune.inputs import Batch, Context, Live, Prefix, PromptState, merge

__all__ = ["Flow"]

_ROOM = 64
"""Tokens by which the tensor of keys and values grows."""


class Flow:
    """See the module's docstring.

    Args:
        backbone: one that takes a plan (`backbone.takes_plan`).
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._held: Tensor | None = None  # [2, N, R, H_kv, L, K] with room for more rows and tokens
        self._lengths: list[int] = []
        self._next: list[int] = []
        self._positions = torch.zeros(0, 0, dtype=torch.long)
        self._prefixes: list[Prefix | None] = []
        self._prefix: Prefix | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def num_bytes(self) -> int:
        """Memory of keys and values, room included."""
        return 0 if self._held is None else self._held.nbytes

    def join(self, batches: Sequence[Batch], prompts: Sequence[PromptState]) -> Float[Tensor, "U D"]:
        """New rows: reads their prompts.

        Args:
            batches: prompts without answers, right-padded, each with at most one context.
            prompts: what each batch is read with, without gates.

        Returns:
            States behind the new rows' last tokens, batch after batch; the rows stand behind those that are there already.
        """
        merged = merge(batches, prompts, self._backbone.tokens.pad_id)
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = self._backbone.hidden(merged.live, merged.prompt, merged.contexts, keep=kept)
        mask, positions = merged.live.mask, merged.live.positions
        num_live = mask.sum(1)
        num_context = merged.contexts[0].mask.sum(1).tolist() if merged.contexts else [0] * len(mask)
        first = len(self)
        lengths = [known + live for known, live in zip(num_context, num_live.tolist(), strict=True)]
        self._make_room(first + len(lengths), max(lengths), like=kept[0][0])
        for row, (known, length) in enumerate(zip(num_context, lengths, strict=True)):
            self._copy_in(first + row, row, known, length, kept, merged.contexts, positions)
        last = (num_live - 1)[:, None]
        self._lengths += lengths
        self._next += (positions.gather(1, last)[:, 0] + 1).tolist()
        for batch, prompt in zip(batches, prompts, strict=True):
            self._prefixes += [prompt.prefixes.get("text")] * len(batch.live.ids)
        self._prefix = self._joined_prefix()
        rows = torch.arange(len(mask), device=hidden.device)
        states: Tensor = hidden[rows, last[:, 0].to(hidden.device)]
        return states

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "R D"]:
        """Appends one token to every row.

        Args:
            tokens: of each row, in order.

        Returns:
            States behind them.
        """
        assert self._held is not None
        num_rows, longest = len(self), max(self._lengths)
        steps, lengths = torch.arange(longest), torch.tensor(self._lengths)
        held = self._held[:, :, :num_rows, :, :longest]
        context = Context(held[0], held[1], steps < lengths[:, None], self._positions[:num_rows, :longest])
        ids = torch.tensor(tokens)[:, None]
        live = Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), torch.tensor(self._next)[:, None])
        prompt = PromptState(None, {} if self._prefix is None else {"text": self._prefix})
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = self._backbone.hidden(live, prompt, (context,), keep=kept)
        self._make_room(num_rows, longest + 1, like=self._held)
        rows, at = torch.arange(num_rows), lengths.to(self._held.device)
        for layer, both in kept.items():
            for part, fresh in enumerate(both):
                self._held[part, layer, rows, :, at] = fresh[:, :, 0]
        self._positions[rows, lengths] = torch.tensor(self._next)
        self._lengths = [length + 1 for length in self._lengths]
        self._next = [position + 1 for position in self._next]
        states: Tensor = hidden[:, 0]
        return states

    def leave(self, row: int) -> None:
        """Takes a row out; the last one takes its number."""
        last = len(self) - 1
        if row != last:
            assert self._held is not None
            length = self._lengths[last]
            self._held[:, :, row, :, :length] = self._held[:, :, last, :, :length]
            self._positions[row, :length] = self._positions[last, :length]
            self._lengths[row], self._next[row] = length, self._next[last]
            self._prefixes[row] = self._prefixes[last]
        del self._lengths[last], self._next[last], self._prefixes[last]
        self._prefix = self._joined_prefix()
        if not len(self):
            self._held, self._positions = None, self._positions[:0, :0]

    def _copy_in(
        self,
        place: int,
        row: int,
        known: int,
        length: int,
        kept: dict[int, tuple[Tensor, Tensor]],
        contexts: Sequence[Context],
        positions: Tensor,
    ) -> None:
        """One row's context and live tokens behind each other, without padding."""
        assert self._held is not None
        if known:
            context = contexts[0]
            self._held[0, :, place, :, :known] = context.keys[:, row, :, :known]
            self._held[1, :, place, :, :known] = context.values[:, row, :, :known]
            self._positions[place, :known] = context.positions[row, :known]
        for layer, both in kept.items():
            for part, fresh in enumerate(both):
                self._held[part, layer, place, :, known:length] = fresh[row, :, : length - known]
        self._positions[place, known:length] = positions[row, : length - known]

    def _make_room(self, num_rows: int, length: int, *, like: Tensor) -> None:
        """Zeros, for what is masked must still be a number."""
        rows, room = (0, 0) if self._held is None else (self._held.shape[2], self._held.shape[4])
        if num_rows <= rows and length <= room:
            return
        more_rows = max(rows, num_rows if rows == 0 else max(num_rows, 2 * rows) if num_rows > rows else rows)
        more_room = max(room, -(-length // _ROOM) * _ROOM)
        if self._held is None:
            layers, heads, size = self._backbone.spec.num_layers, like.shape[1], like.shape[3]
            self._held = like.new_zeros(2, layers, more_rows, heads, more_room, size)
        else:
            fresh = self._held.new_zeros(*self._held.shape[:2], more_rows, self._held.shape[3], more_room, self._held.shape[5])
            fresh[:, :, :rows, :, :room] = self._held
            self._held = fresh
        positions = torch.zeros(more_rows, more_room, dtype=torch.long)
        positions[: len(self._positions), : self._positions.shape[1]] = self._positions
        self._positions = positions

    def _joined_prefix(self) -> Prefix | None:
        """The rows' learned keys and values as one prefix."""
        present = [one for one in self._prefixes if one is not None]
        if not present:
            return None
        if all(one is present[0] for one in self._prefixes):
            return present[0]
        most, first = max(one.num_tokens for one in present), present[0]
        mask = torch.zeros(len(self._prefixes), most, dtype=torch.bool)
        for row, one in enumerate(self._prefixes):
            if one is not None:
                mask[row, : one.num_tokens] = True

        def layer(index: int, part: int) -> Tensor:
            like = first.layer(index)[part]
            whole = like.new_zeros(len(self._prefixes), like.shape[1], most, like.shape[3])
            for row, one in enumerate(self._prefixes):
                if one is not None:
                    whole[row, :, : one.num_tokens] = one.layer(index)[part][0]
            return whole

        keys, values = (tuple(layer(index, part) for index in range(len(first.keys))) for part in (0, 1))
        return Prefix(keys, values, mask)
