"""Long lists of label words, refined by the model itself: which words it hardly ever writes, and which say too little.

In: log P(w | x) of all listed words after unlabelled texts [N, W], and whose words they are. Out: a figure for each word, which
words to keep, and calibrated label scores. A label's first word stands for it.
Source: Hu et al. 2022 (KPT), section 3.3 (frequency, relevance) and 3.4 (equation of the average); their contextualised
calibration divides a word's probability by its prior. Deviation: a label's first word is always kept.
"""

from collections.abc import Sequence
from math import ceil, log
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Fate", "kept_words", "mean_calibrated", "word_prior", "word_relevance"]

Fate = Literal["kept", "seldom", "unspecific"]


def word_prior(log_probabilities: Float[Tensor, "N W"]) -> Float[Tensor, " W"]:
    """log of the mean over texts of P(w | x): how readily the model writes a word whatever it reads."""
    return torch.logsumexp(log_probabilities, 0) - log(len(log_probabilities))


def word_relevance(log_probabilities: Float[Tensor, "N W"], labels: Sequence[int], first: Sequence[int]) -> Float[Tensor, " W"]:
    """How much nearer a word is to its own label than to the others: r(w, c) (C - 1) / sum over c' != c of r(w, c').

    r is the cosine between the probabilities of w and of the label's first word over the texts.

    Args:
        log_probabilities: of each word after each text.
        labels: class number of each word.
        first: for each class, the number of its first word.
    """
    unit = torch.nn.functional.normalize(torch.softmax(log_probabilities, 0), dim=0)  # a word's own scale does not matter
    cosines = unit.T @ unit[:, list(first)]
    own = cosines.gather(1, torch.tensor(list(labels))[:, None])[:, 0]
    return own * (len(first) - 1) / (cosines.sum(1) - own).clamp(min=1e-12)


def kept_words(
    prior: Float[Tensor, " W"],
    relevance: Float[Tensor, " W"],
    first: Sequence[int],
    *,
    share: float,
    min_relevance: float,
) -> list[Fate]:
    """What becomes of each word: the likeliest `share` of all words stay, and of these the relevant ones.

    Args:
        prior, relevance: of each word.
        first: for each class, the number of its first word, which stays.
        share: of all words.
        min_relevance: least relevance; 1 says as near to its own label as to the others on average.
    """
    num_likely = ceil(share * len(prior))
    likely = set(prior.topk(num_likely).indices.tolist())
    fates: list[Fate] = []
    for word in range(len(prior)):
        if word in first:
            fates.append("kept")
        elif word not in likely:
            fates.append("seldom")
        else:
            fates.append("kept" if relevance[word] >= min_relevance else "unspecific")
    return fates


def mean_calibrated(
    log_probabilities: Float[Tensor, "B W"], prior: Float[Tensor, " W"], labels: Sequence[int], num_classes: int
) -> Float[Tensor, "B C"]:
    """log of the mean over a label's words of P(w | x) / prior(w).

    Args:
        log_probabilities: of the words that are kept, after each text.
        prior: their log-priors.
        labels: class number of each.
        num_classes: C.
    """
    calibrated, owner = log_probabilities - prior, torch.tensor(list(labels))
    columns = [calibrated[:, owner == number] for number in range(num_classes)]
    return torch.stack([torch.logsumexp(column, 1) - log(column.shape[1]) for column in columns], 1)
