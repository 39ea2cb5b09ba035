"""The rival of scoring many label words jointly: brute force, one sequence per text and label, in batches.

In: a plain Hugging Face causal model, token ids of the texts and of the label words. Out: [B, W] sums of the word's
log-probabilities over the full vocabulary. It is not made stupid: batches of like lengths are filled up to a budget of tokens,
logits are computed at the words' own positions only, the last token of a word (which predicts nothing that is asked) is left
out, no cache is built, and right padding needs no mask, because a causal model never looks at it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

DEFAULT_TOKENS = 4096


@torch.inference_mode()
def brute_force_scores(
    model: Any, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], *, max_tokens: int = DEFAULT_TOKENS
) -> Tensor:
    """Scores every label word behind every text, each pair as a sequence of its own.

    s(b, w) = sum over i of log p(word_i | text, word_<i), p over the full vocabulary.

    Args:
        model: a Hugging Face causal model whose forward knows `logits_to_keep`, in eval mode.
        prompts: token ids of each text with everything that stands in front of the word; none is empty.
        labels: token ids of each label word; none is empty.
        max_tokens: padded tokens of one batch; a single longer sequence is a batch by itself.

    Returns:
        [B, W], fp32.
    """
    if not all(prompts) or not all(labels):
        raise ValueError("every prompt and every label needs at least one token")
    pairs = [(row, word) for row in range(len(prompts)) for word in range(len(labels))]
    pairs.sort(key=lambda pair: len(prompts[pair[0]]) + len(labels[pair[1]]), reverse=True)
    scores_BW = torch.empty(len(prompts), len(labels))
    for batch in _batches(pairs, prompts, labels, max_tokens):
        rows, words = zip(*batch, strict=True)
        summed = _score_batch(model, [prompts[row] for row in rows], [labels[word] for word in words])
        scores_BW[list(rows), list(words)] = summed
    return scores_BW


def _batches(
    pairs: list[tuple[int, int]], prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], max_tokens: int
) -> Iterator[list[tuple[int, int]]]:
    """Cuts the pairs, longest first, into batches: the first pair of a batch is its longest."""
    at = 0
    while at < len(pairs):
        row, word = pairs[at]
        longest = len(prompts[row]) + len(labels[word]) - 1
        size = max(1, max_tokens // longest)
        yield pairs[at : at + size]
        at += size


def _score_batch(model: Any, prompts: list[Sequence[int]], words: list[Sequence[int]]) -> Tensor:
    """Summed log-probabilities of one word behind each prompt."""
    rows = [[*prompt, *word[:-1]] for prompt, word in zip(prompts, words, strict=True)]
    longest = max(map(len, rows))
    ids_BS = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    asked_BS = torch.zeros(ids_BS.shape, dtype=torch.bool)
    for row, (prompt, word) in enumerate(zip(prompts, words, strict=True)):
        asked_BS[row, len(prompt) - 1 : len(prompt) + len(word) - 1] = True
    logits_NV = _asked_logits(model, ids_BS, asked_BS).float()
    targets_N = torch.tensor([token for word in words for token in word])
    logprobs_N = logits_NV.gather(-1, targets_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    owners_N = torch.repeat_interleave(torch.arange(len(words)), torch.tensor([len(word) for word in words]))
    return torch.zeros(len(words)).index_add(0, owners_N, logprobs_N)


def _asked_logits(model: Any, ids_BS: Tensor, asked_BS: Tensor) -> Tensor:
    """Logits at the marked positions only, row after row: [N, V]."""
    return model(input_ids=ids_BS, logits_to_keep=asked_BS, use_cache=False).logits.reshape(int(asked_BS.sum()), -1)
