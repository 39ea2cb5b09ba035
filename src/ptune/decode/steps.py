"""One token at a time: the scores of what may come next, for as many texts as are being written side by side.

In: the tokens of each row's prompt. Out: log-probabilities [R, V] of the next token, at the start and after each token. A
causal model computes one token a row and step; what stands in front is a `Context` made of the keys and values that the layers
handed out. Rows come and go with `keep`: finished ones leave, beams and samples are copies.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.backbone import Backbone
from ptune.inputs import Context, DecoderRows, Live, PromptState, StoredContext

__all__ = ["CausalSteps", "DecoderSteps", "Logits", "RecomputedSteps", "Steps"]

Logits = Callable[[Tensor, Tensor | None], Tensor]


class Steps(ABC):
    """Rows of tokens that grow. `start` is called once, then `step` and `keep` in any order."""

    @abstractmethod
    def start(self) -> Float[Tensor, "R V"]:
        """Reads the prompts; log-probabilities of each row's first token."""

    @abstractmethod
    def step(self, tokens: Int[Tensor, " R"]) -> Float[Tensor, "R V"]:
        """Appends one token to each row; log-probabilities of the next."""

    @abstractmethod
    def keep(self, rows: Int[Tensor, " Q"]) -> None:
        """Goes on with these rows, in this order; a row may occur any number of times."""


class CausalSteps(Steps):
    """A causal model, one token a row and step.

    Args:
        backbone: one that takes a plan (`backbone.takes_plan`).
        live: the prompts, right-padded, without what the contexts hold.
        prompt: the learned prompt, handed to every call.
        contexts: keys and values in front of the live tokens.
        logits: (hidden, None) -> [R, V].
        max_tokens: how many tokens will be appended at most.
    """

    def __init__(
        self,
        backbone: Backbone,
        live: Live,
        prompt: PromptState,
        contexts: Sequence[Context | StoredContext],
        logits: Logits,
        *,
        max_tokens: int,
    ) -> None:
        self._backbone, self._prompt, self._logits = backbone, prompt, logits
        self._live, self._contexts = live, tuple(contexts)
        self._max_tokens = max_tokens
        self._source = torch.arange(len(live.ids))  # the prompt that each row goes on from
        self._next = live.positions.gather(1, _last(live)[:, None]) + 1
        self._grown: Tensor | None = None
        self._num_grown = 0

    def start(self) -> Float[Tensor, "R V"]:
        """Reads the prompts and keeps their keys and values."""
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = self._backbone.hidden(self._live, self._prompt, self._contexts, keep=kept)
        keys, values = (torch.stack([kept[layer][part] for layer in sorted(kept)]) for part in (0, 1))
        positions = _behind_prefix(self._live.positions, self._live.deep, self._prompt)
        self._read = (*self._contexts, Context(keys, values, self._live.mask, positions))
        self._of_rows = self._read
        return _log_probabilities(hidden, _last(self._live), self._logits)

    def step(self, tokens: Int[Tensor, " R"]) -> Float[Tensor, "R V"]:
        """One token a row on the contexts; its keys and values join what has grown."""
        ids = tokens[:, None]
        live = Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), self._next)
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        hidden = self._backbone.hidden(live, self._prompt, (*self._of_rows, *self._grown_context()), keep=kept)
        if self._num_grown < self._max_tokens:
            self._append(kept)
        self._next = self._next + 1
        return _log_probabilities(hidden, torch.zeros(len(ids), dtype=torch.long), self._logits)

    def keep(self, rows: Int[Tensor, " Q"]) -> None:
        """Chooses rows of what has grown; the prompts' contexts are chosen anew only where another prompt is meant."""
        source = self._source[rows]
        if not torch.equal(source, self._source):
            self._of_rows = tuple(_chosen(context, source) for context in self._read)
        self._source, self._next = source, self._next[rows]
        if self._grown is not None and not torch.equal(rows, torch.arange(self._grown.shape[2])):
            fresh = self._grown.new_empty(*self._grown.shape[:2], len(rows), *self._grown.shape[3:])
            fresh[..., : self._num_grown, :] = self._grown[..., : self._num_grown, :][:, :, rows.to(fresh.device)]
            self._grown = fresh

    def _grown_context(self) -> tuple[Context, ...]:
        if self._grown is None:
            return ()
        grown = self._grown[..., : self._num_grown, :]
        positions = self._next - self._num_grown + torch.arange(self._num_grown)
        positions = _behind_prefix(positions, None, self._prompt)
        return (Context(grown[0], grown[1], torch.ones_like(positions, dtype=torch.bool), positions),)

    def _append(self, kept: dict[int, tuple[Tensor, Tensor]]) -> None:
        """Room for all tokens is taken once, so that no step copies what the steps before it have left."""
        if self._grown is None:
            rows, heads, _, size = kept[0][0].shape
            self._grown = kept[0][0].new_empty(2, len(kept), rows, heads, self._max_tokens, size)
        for layer, both in kept.items():
            for part, fresh in enumerate(both):
                self._grown[part, layer, :, :, self._num_grown] = fresh[:, :, 0]
        self._num_grown += 1


class RecomputedSteps(Steps):
    """A causal model that no context can enter: every step reads the whole row again.

    Args:
        backbone, live, prompt, logits: as in `CausalSteps`.
    """

    def __init__(self, backbone: Backbone, live: Live, prompt: PromptState, logits: Logits) -> None:
        self._backbone, self._prompt, self._logits, self._live = backbone, prompt, logits, live

    def start(self) -> Float[Tensor, "R V"]:
        """Reads the prompts."""
        hidden = self._backbone.run(self._live, self._prompt, ())
        return _log_probabilities(hidden, _last(self._live), self._logits)

    def step(self, tokens: Int[Tensor, " R"]) -> Float[Tensor, "R V"]:
        """Puts each token behind its row's last one."""
        live = self._live
        at = live.mask.sum(1)[:, None]
        ids, soft, mask = (torch.cat([one, one[:, -1:]], 1) for one in (live.ids, live.soft, live.mask))
        ids, soft, mask = ids.scatter(1, at, tokens[:, None]), soft.scatter(1, at, -1), mask.scatter(1, at, True)
        deep = None if live.deep is None else torch.cat([live.deep, live.deep[:, -1:]], 1).scatter(1, at, True)
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        self._live = replace(live, ids=ids, soft=soft, mask=mask, positions=positions, deep=deep)
        return self.start()

    def keep(self, rows: Int[Tensor, " Q"]) -> None:
        """Chooses rows."""
        live = self._live
        deep = None if live.deep is None else live.deep[rows]
        self._live = Live(live.ids[rows], live.soft[rows], live.mask[rows], live.positions[rows], deep=deep)


class DecoderSteps(Steps):
    """An encoder-decoder: the encoder reads once, the decoder reads its rows again at each step.

    Args:
        backbone: an encoder-decoder.
        live: the encoder's rows.
        prompt: the learned prompt.
        logits: as in `CausalSteps`.
        prefix: what every decoder row starts with.
    """

    def __init__(self, backbone: Backbone, live: Live, prompt: PromptState, logits: Logits, *, prefix: Sequence[int]) -> None:
        self._backbone, self._prompt, self._logits, self._live = backbone, prompt, logits, live
        self._rows = DecoderRows(torch.tensor([list(prefix)] * len(live.ids)), torch.arange(len(live.ids)))

    def start(self) -> Float[Tensor, "R V"]:
        """The encoder reads the prompts."""
        self._hidden = self._backbone.run(self._live, self._prompt, ())
        return self._scores()

    def step(self, tokens: Int[Tensor, " R"]) -> Float[Tensor, "R V"]:
        """One token more in each decoder row."""
        self._rows = replace(self._rows, ids=torch.cat([self._rows.ids, tokens[:, None]], 1))
        return self._scores()

    def keep(self, rows: Int[Tensor, " Q"]) -> None:
        """Chooses decoder rows."""
        self._rows = DecoderRows(self._rows.ids[rows], self._rows.source[rows])

    def _scores(self) -> Tensor:
        hidden = self._backbone.decoder_hidden(self._rows, self._hidden, self._live.mask, self._prompt)
        at = torch.full((len(self._rows.ids),), self._rows.ids.shape[1] - 1)
        return _log_probabilities(hidden, at, self._logits)


def _behind_prefix(positions: Tensor, deep: Tensor | None, prompt: PromptState) -> Tensor:
    """Positions as the attention has them: moved on for tokens behind a prefix that takes up some."""
    return positions + (prompt.num_positions if deep is None else prompt.num_positions * deep.long())


def _last(live: Live) -> Tensor:
    """[R] where each right-padded row's last token stands."""
    return live.mask.sum(1) - 1


def _log_probabilities(hidden_RSD: Tensor, at: Tensor, logits: Logits) -> Tensor:
    rows = torch.arange(len(at), device=hidden_RSD.device)
    return torch.log_softmax(logits(hidden_RSD[rows, at.to(hidden_RSD.device)], None), -1)


def _chosen(context: Context | StoredContext, rows: Tensor) -> Context | StoredContext:
    """Rows of a context; one that all rows share stays as it is."""
    if len(context.mask) == 1:
        return context
    mask, positions = context.mask[rows], context.positions[rows]
    if isinstance(context, StoredContext):
        return replace(context, rows=tuple(context.rows[row] for row in rows.tolist()), mask=mask, positions=positions)
    on = rows.to(context.keys.device)
    return Context(context.keys[:, on], context.values[:, on], mask, positions)
