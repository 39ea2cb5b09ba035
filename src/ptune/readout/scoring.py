"""Word scores from hidden states: only the places and words that a batch asks for.

In: final hidden states of the rows that are read, and `Reads`. Out: [B, W]. Where every word is one token, W columns of the
output layer are enough (scores up to a constant per row); else each item's log-probability over the whole vocabulary is taken,
a chunk of places at a time, and summed per word.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.inputs import AnswerWords, Batch, Reads

__all__ = ["item_log_probabilities", "pet_scores", "word_scores"]

_PLACES_PER_CHUNK = 64

Logits = Callable[[Tensor, Tensor | None], Tensor]
RunRows = Callable[[Batch], Tensor]


def word_scores(hidden_RSD: Tensor, reads: Reads, logits: Logits, *, num_examples: int, num_words: int) -> Float[Tensor, "B W"]:
    """Scores every label word of every example.

    Args:
        hidden_RSD: hidden states of the rows that `reads` points into.
        reads: places and tokens.
        logits: (hidden [U, D], columns or None) -> [U, W] or [U, V].
        num_examples: B.
        num_words: W.
    """
    if reads.columns is not None:
        return logits(hidden_RSD[reads.row, reads.position], reads.columns)
    assert reads.item_cell is not None
    log_probabilities = item_log_probabilities(hidden_RSD, reads, logits)
    flat = torch.zeros(num_examples * num_words, dtype=log_probabilities.dtype, device=log_probabilities.device)
    return flat.index_add(0, reads.item_cell.to(flat.device), log_probabilities).view(num_examples, num_words)


def item_log_probabilities(hidden_RSD: Tensor, reads: Reads, logits: Logits) -> Float[Tensor, " I"]:
    """log P(item's token | its place) for every item, over the whole vocabulary."""
    assert reads.item_read is not None and reads.item_token is not None
    hidden_UD = hidden_RSD[reads.row, reads.position]
    parts, order = [], []
    for first in range(0, len(hidden_UD), _PLACES_PER_CHUNK):
        inside = torch.nonzero((reads.item_read >= first) & (reads.item_read < first + _PLACES_PER_CHUNK))[:, 0]
        if not len(inside):
            continue
        logits_UV = logits(hidden_UD[first : first + _PLACES_PER_CHUNK], None)
        place = (reads.item_read[inside] - first).to(logits_UV.device)
        token = reads.item_token[inside].to(logits_UV.device)
        parts.append(logits_UV[place, token] - torch.logsumexp(logits_UV, -1)[place])
        order.append(inside)
    back = torch.argsort(torch.cat(order))
    return torch.cat(parts)[back.to(parts[0].device)]


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
