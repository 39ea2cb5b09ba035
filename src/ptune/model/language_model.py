"""A backbone by itself, all of whose weights read on: the next token on a causal model, hidden ones on a masked model.

In: texts without labels. Out: rows of tokens, and batches with the loss by which the model was trained in the first place. No
kind of task: there is no prompt, nothing to predict and no bundle; `ptune.strategy.adapt` trains it and keeps the whole model.
Sources: Gururangan et al. 2020 (Don't Stop Pretraining); Devlin et al. 2019, section 3.1 (which tokens are hidden, and how);
Liu et al. 2019, section 4.1 (hidden anew each time a text is read).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptune.backbone import Backbone
from ptune.errors import BackboneError, DataError
from ptune.inputs import Batch, Live, PromptState, Reads, pad_rows
from ptune.model.outcome import Look, Outcome
from ptune.model.rows import TOKENS_PER_BATCH
from ptune.readout import item_log_probabilities

__all__ = ["HIDDEN_SHARE", "LanguageModel", "TextRows"]

HIDDEN_SHARE = 0.15
"""Of a masked model's tokens, those that it has to guess."""
_SHOWN_AS_MASK, _SHOWN_AS_ANY = 0.8, 0.1
"""Of the hidden ones: shown as the mask token, and as a token drawn at random; the rest is shown as it is."""
_RATE = 5e-5


@dataclass(frozen=True)
class TextRows:
    """Pieces of texts as tokens, special ones at their ends included.

    Args:
        ids: tokens of each piece, at most `max_length`.
        num_texts: how many texts they come from.
    """

    ids: tuple[tuple[int, ...], ...]
    num_texts: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        """Of all pieces."""
        return sum(map(len, self.ids))


class LanguageModel(nn.Module):
    """See the module's docstring.

    Args:
        backbone: masked or causal, with its output layer; its weights are changed in place.
        seed: of the tokens that are hidden where the model is judged.

    Raises:
        BackboneError: an encoder-decoder, a model without an output layer, or a masked one without a mask token.
    """

    metric = "token_probability"
    has_candidates = False

    def __init__(self, backbone: Backbone, *, seed: int = 0) -> None:
        super().__init__()
        if backbone.kind == "encoder-decoder":
            raise BackboneError(
                f"{backbone.spec.name} is an encoder-decoder, which this does not train",
                where="backbone",
                fix="use a masked or a causal model",
            )
        backbone.require_output()
        if backbone.kind == "encoder" and not backbone.tokens.slot_ids:
            raise BackboneError(f"{backbone.spec.name} has no mask token", where="backbone", fix="use a masked language model")
        self.backbone, self.seed = backbone, seed

    def prepare(self, texts: Sequence[str], *, max_length: int) -> TextRows:
        """Cuts texts into pieces of as many tokens as a row may have; a piece too short to hold anything to learn is left out.

        Args:
            texts: without labels.
            max_length: tokens of a row, special ones included.

        Raises:
            DataError: nothing is left.
        """
        tokens = self.backbone.tokens
        room = max_length - len(tokens.start_ids) - len(tokens.end_ids)
        if room < 2:
            raise DataError(f"max_length {max_length} leaves room for no text", where="max_length", fix="use 32 or more")
        least = 1 if self.backbone.kind == "encoder" or tokens.start_ids else 2
        rows = []
        for text in texts:
            ids = tokens.ids(text)
            pieces = [ids[first : first + room] for first in range(0, len(ids), room)]
            rows += [(*tokens.start_ids, *piece, *tokens.end_ids) for piece in pieces if len(piece) >= least]
        if not rows:
            raise DataError("the texts hold nothing to learn", where="texts", fix="give texts of some words")
        return TextRows(tuple(rows), len(texts))

    def batch(self, rows: TextRows, index: Sequence[int]) -> Batch:
        """The pieces with these numbers; what is hidden is drawn from torch's generator, anew each time."""
        chosen = [rows.ids[number] for number in index]
        ids = pad_rows(chosen, self.backbone.tokens.pad_id)
        steps = torch.arange(ids.shape[1]).expand(ids.shape)
        mask = steps < torch.tensor([len(row) for row in chosen])[:, None]
        if self.backbone.kind == "decoder":
            row, position = torch.nonzero(mask[:, 1:], as_tuple=True)
            shown, target = ids, ids[:, 1:][row, position]
        else:
            hidden = self._hidden(ids, mask)
            row, position = torch.nonzero(hidden, as_tuple=True)
            shown, target = self._disguised(ids, hidden), ids[row, position]
        reads = Reads(row, position, None, torch.arange(len(row)), target, row)
        live = Live(shown, torch.full_like(ids, -1), mask, steps)
        return Batch(live, reads, len(chosen), torch.arange(len(chosen)), torch.full((len(chosen),), -1), tuple(index))

    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[R, S] the tokens to guess: a share of each row's own tokens, at least one."""
        tokens = self.backbone.tokens
        special = torch.tensor(sorted({*tokens.start_ids, *tokens.end_ids, tokens.pad_id}))
        draw = torch.rand(ids.shape).masked_fill(~mask | torch.isin(ids, special), torch.inf)
        least = draw == draw.min(1, keepdim=True).values
        return ((draw < HIDDEN_SHARE) | least) & draw.isfinite()

    def _disguised(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """What is shown in place of the hidden tokens."""
        draw = torch.rand(ids.shape)
        as_mask = hidden & (draw < _SHOWN_AS_MASK)
        as_any = hidden & ~as_mask & (draw < _SHOWN_AS_MASK + _SHOWN_AS_ANY)
        any_ids = torch.randint(len(self.backbone.tokens.tokenizer), ids.shape)
        return torch.where(as_mask, self.backbone.tokens.slot_ids[0], torch.where(as_any, any_ids, ids))

    def forward(self, batch: Batch) -> Outcome:
        """[B] log-probability of each row's tokens to learn, and the mean loss of one."""
        states = self.backbone.read(batch.live, PromptState(), batch.reads)
        values = item_log_probabilities(states, batch.reads, self.backbone.logits)
        assert batch.reads.item_cell is not None
        scores = values.new_zeros(batch.num_examples).index_add(0, batch.reads.item_cell.to(values.device), values)
        return Outcome(scores, -values.mean())

    def mean_loss(self, rows: TextRows) -> float:
        """Mean loss of a token, in nats; a masked model has the same tokens hidden each time."""
        total, num = 0.0, 0
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for index in self._groups(rows):
                batch = self.batch(rows, index)
                total -= float(self(batch).scores.double().sum())
                num += len(batch.reads.row)
        return total / num

    def _groups(self, rows: TextRows) -> Iterator[list[int]]:
        """All rows, those of like length together."""
        group: list[int] = []
        for number in sorted(range(len(rows)), key=lambda number: len(rows.ids[number])):
            if group and (len(group) + 1) * len(rows.ids[number]) > TOKENS_PER_BATCH:
                yield group
                group = []
            group.append(number)
        yield group

    def live_lengths(self, rows: TextRows) -> list[int]:
        """Tokens of each piece."""
        return [len(row) for row in rows.ids]

    def looks(self, rows: TextRows) -> list[Look]:
        """The geometric mean of the tokens' probabilities, which is 1 / perplexity, and the mean loss."""
        loss = self.mean_loss(rows)
        return [Look(math.exp(-loss), loss)]

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """All weights of the model."""
        return [{"name": "lm", "params": list(self.backbone.model.parameters()), "lr": learning_rate or _RATE}]

    def keep_candidate(self, number: int) -> None:
        """There is one only."""
