"""The rivals of keeping what texts and label words share: plain transformers, every sequence read whole, in batches.

In: a plain Hugging Face causal model, token ids of the texts and of the label words. Out: of words of several tokens [B, W]
sums of log-probabilities over the full vocabulary, one sequence per text and word; of words of one token [B, W] logits, one
sequence per text. They are not made stupid: batches of like lengths are filled up to a budget of tokens, logits are computed at
the words' own positions only, the last token of a word (which predicts nothing that is asked) is left out, no cache is built,
and right padding needs no mask, because a causal model never looks at it.
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
    scores_BW = torch.empty(len(prompts), len(labels))
    for batch in filled([len(prompts[row]) + len(labels[word]) - 1 for row, word in pairs], max_tokens):
        rows, words = zip(*(pairs[number] for number in batch), strict=True)
        summed = _score_batch(model, [prompts[row] for row in rows], [labels[word] for word in words])
        scores_BW[list(rows), list(words)] = summed
    return scores_BW


@torch.inference_mode()
def answer_logits(
    model: Any, prompts: Sequence[Sequence[int]], columns: Sequence[int], *, max_tokens: int = DEFAULT_TOKENS
) -> Tensor:
    """Logits of label words of one token behind every text.

    Args:
        model: as in `brute_force_scores`.
        prompts: token ids of each text with everything that stands in front of the word; none is empty.
        columns: the token of each label word.
        max_tokens: as in `brute_force_scores`.

    Returns:
        [B, W], fp32.
    """
    logits_BW = torch.empty(len(prompts), len(columns))
    for rows in filled([len(prompt) for prompt in prompts], max_tokens):
        logits_BW[rows] = _logits_behind(model, [prompts[row] for row in rows], [[0]] * len(rows))[:, columns]
    return logits_BW


def filled(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Numbers of sequences in batches, the longest first, as many in each as have so many padded tokens together."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number], reverse=True)
    at = 0
    while at < len(order):
        size = max(1, max_tokens // lengths[order[at]])
        yield order[at : at + size]
        at += size


def _score_batch(model: Any, prompts: list[Sequence[int]], words: list[Sequence[int]]) -> Tensor:
    """Summed log-probabilities of one word behind each prompt."""
    logits_NV = _logits_behind(model, prompts, words)
    targets_N = torch.tensor([token for word in words for token in word])
    logprobs_N = logits_NV.gather(-1, targets_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    owners_N = torch.repeat_interleave(torch.arange(len(words)), torch.tensor([len(word) for word in words]))
    return torch.zeros(len(words)).index_add(0, owners_N, logprobs_N)


def _logits_behind(model: Any, prompts: list[Sequence[int]], words: list[Sequence[int]]) -> Tensor:
    """[N, V] in front of every token of one word behind each prompt, word after word."""
    rows = [[*prompt, *word[:-1]] for prompt, word in zip(prompts, words, strict=True)]
    longest = max(map(len, rows))
    ids_BS = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    asked_BS = torch.zeros(ids_BS.shape, dtype=torch.bool)
    for row, (prompt, word) in enumerate(zip(prompts, words, strict=True)):
        asked_BS[row, len(prompt) - 1 : len(prompt) + len(word) - 1] = True
    return _asked_logits(model, ids_BS, asked_BS).float()


def _asked_logits(model: Any, ids_BS: Tensor, asked_BS: Tensor) -> Tensor:
    """Logits at the marked positions only, row after row: [N, V]."""
    return model(input_ids=ids_BS, logits_to_keep=asked_BS, use_cache=False).logits.reshape(int(asked_BS.sum()), -1)
