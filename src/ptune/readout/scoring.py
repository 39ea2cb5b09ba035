"""Word scores from hidden states: only the places and words that a batch asks for.

In: final hidden states of the U places that are read [U, D], and `Reads`. Out: [B, W]. Where every word is one token, W columns
of the output layer are enough (scores up to a constant per row); else the log-probability over the whole vocabulary is taken,
a chunk of places at a time and with its gradient worked out on the way, so that no [U, V] tensor ever stays in memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ptune.inputs import AnswerWords, Batch, Reads

__all__ = ["item_log_probabilities", "log_normaliser", "num_scored", "pet_scores", "word_scores"]

_LOGITS_PER_CHUNK = 1 << 24

Logits = Callable[[Tensor, Tensor | None], Tensor]
RunRows = Callable[[Batch], Tensor]


def word_scores(hidden_UD: Tensor, reads: Reads, logits: Logits, *, num_examples: int, num_words: int) -> Float[Tensor, "B W"]:
    """Scores every label word of every example.

    Args:
        hidden_UD: hidden states of the places that are read.
        reads: places and tokens.
        logits: (hidden [U, D], columns or None) -> [U, W] or [U, V].
        num_examples: B.
        num_words: W.
    """
    if reads.columns is not None:
        return logits(hidden_UD, reads.columns)
    assert reads.item_cell is not None
    log_probabilities = item_log_probabilities(hidden_UD, reads, logits)
    flat = torch.zeros(num_examples * num_words, dtype=log_probabilities.dtype, device=log_probabilities.device)
    return flat.index_add(0, reads.item_cell.to(flat.device), log_probabilities).view(num_examples, num_words)


def num_scored(reads: Reads, *, num_examples: int, num_words: int) -> Float[Tensor, "B W"] | None:
    """How many tokens each of `word_scores` sums; None where a score is a single token's logit."""
    if reads.item_cell is None:
        return None
    return torch.bincount(reads.item_cell, minlength=num_examples * num_words).view(num_examples, num_words).float()


def item_log_probabilities(hidden_UD: Tensor, reads: Reads, logits: Logits) -> Float[Tensor, " I"]:
    """log P(item's token | its place) for every item, over the whole vocabulary."""
    assert reads.item_read is not None and reads.item_token is not None
    tokens, column = torch.unique(reads.item_token, return_inverse=True)
    own = logits(hidden_UD, tokens)
    place, column = reads.item_read.to(own.device), column.to(own.device)
    return own[place, column] - log_normaliser(hidden_UD, logits)[place]


def log_normaliser(hidden_UD: Tensor, logits: Logits) -> Float[Tensor, " U"]:
    """logsumexp of all logits at each place.

    Where only the hidden states learn, the gradient is the probability-weighted mean of output rows: it is taken chunk by chunk
    in the forward pass, and the logits are dropped. Where the output layer learns too, a chunk's logits are computed again for
    the gradient.
    """
    of_none = logits(hidden_UD[:0].detach(), None)  # costs nothing, and has the vocabulary's size
    chunks = torch.split(hidden_UD, max(1, _LOGITS_PER_CHUNK // of_none.shape[1]))
    if of_none.requires_grad:  # the output layer learns too
        return torch.cat([_recomputed(chunk, logits) if len(chunks) > 1 else _logsumexp(chunk, logits) for chunk in chunks])
    if not torch.is_grad_enabled() or not hidden_UD.requires_grad:
        return torch.cat([_logsumexp(chunk, logits) for chunk in chunks])
    values, slopes = zip(*(_with_slope(chunk.detach(), logits) for chunk in chunks), strict=True)
    total: Tensor = _Normaliser.apply(hidden_UD, torch.cat(values), torch.cat(slopes))  # type: ignore[no-untyped-call]
    return total


def _logsumexp(hidden_UD: Tensor, logits: Logits) -> Tensor:
    return torch.logsumexp(logits(hidden_UD, None), -1)


def _recomputed(hidden_UD: Tensor, logits: Logits) -> Tensor:
    value: Tensor = checkpoint(_logsumexp, hidden_UD, logits, use_reentrant=False)
    return value


def _with_slope(hidden_UD: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        hidden_UD.requires_grad_()
        value = torch.logsumexp(logits(hidden_UD, None), -1)
        (slope,) = torch.autograd.grad(value.sum(), hidden_UD)
    return value.detach(), slope


class _Normaliser(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, hidden_UD: Tensor, value_U: Tensor, slope_UD: Tensor) -> Tensor:
        ctx.save_for_backward(slope_UD)
        return value_U

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slope_UD,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_UD).to(slope_UD.dtype), None, None


def pet_scores(
    lay_out: Callable[[Callable[[int, int, int], bool]], Batch],
    run: RunRows,
    logits: Logits,
    answers: AnswerWords,
    *,
    num_examples: int,
) -> Float[Tensor, "B W"]:
    """Fills each word's masks one by one, the most confident first, and sums the log-probabilities.

    Source: Schick & Schütze 2021 (It's Not Just Size That Matters), section 3.1, equation for several masks.
    """
    width = answers.max_tokens
    lengths = torch.tensor([len(word) for word in answers.ids]).repeat(num_examples)
    filled = torch.arange(width) >= lengths[:, None]  # [B*W, Lmax]; what a short word lacks counts as filled
    total: Tensor | None = None
    for _ in range(width):
        batch = lay_out(lambda example, word, at: bool(filled[example * len(answers) + word, at]))
        log_probabilities = item_log_probabilities(run(batch), batch.reads, logits)
        assert batch.reads.item_cell is not None
        cells = torch.full((filled.numel(),), -torch.inf, dtype=log_probabilities.dtype, device=log_probabilities.device)
        cells = cells.index_copy(0, batch.reads.item_cell.to(cells.device), log_probabilities).view(filled.shape)
        best = cells.detach().argmax(1)
        is_open = torch.isfinite(cells.detach().max(1).values)
        step = torch.where(is_open, cells.gather(1, best[:, None])[:, 0], torch.zeros_like(cells[:, 0]))
        total = step if total is None else total + step
        filled[is_open.cpu(), best.cpu()[is_open.cpu()]] = True
        if bool(filled.all()):
            break
    assert total is not None
    return total.view(num_examples, len(answers))
