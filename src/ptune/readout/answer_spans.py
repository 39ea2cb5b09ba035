"""The best spans of a text by the scores of where they begin and end, and when it is better to give no answer.

In: start and end scores of tokens. Out: spans, best first. Source: Devlin et al. 2019 (BERT), section 4.2 and run_squad: the
score of a span is the sum of its two ends', a span has at most so many tokens, and no answer is given where the best span does
not reach a threshold, which validation rows decide.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["best_spans", "best_threshold"]


def best_spans(
    start: Float[Tensor, " L"],
    end: Float[Tensor, " L"],
    is_own: Bool[Tensor, " L"],
    *,
    max_tokens: int,
    num: int,
) -> list[tuple[int, int, float]]:
    """The best spans.

    Args:
        start, end: score of each token as the first and as the last one.
        is_own: tokens of which one must be in the middle of a span. Where windows overlap and each token is one window's own,
            a span that is no longer than the overlap is then found once, in the window where more stands around it.
        max_tokens: of a span.
        num: how many to return at most.

    Returns:
        (first token, last token, score), best first.
    """
    length = len(start)
    if not length:
        return []
    steps = torch.arange(length)
    gap = steps[None] - steps[:, None]
    middle = (steps[None] + steps[:, None]) // 2
    is_span = (gap >= 0) & (gap < max_tokens) & is_own.cpu()[middle]
    scores = torch.where(is_span, (start[:, None] + end[None]).float().cpu(), -torch.inf).flatten()
    value, index = scores.topk(min(num, int(is_span.sum())))
    return [(at // length, at % length, one) for at, one in zip(index.tolist(), value.tolist(), strict=True)]


def best_threshold(scores: Sequence[float], worth: Sequence[float], worth_of_none: Sequence[float]) -> float:
    """The score under which it is best to give no answer.

    Args:
        scores: of each row's best span.
        worth: what that span is worth (F1).
        worth_of_none: what no answer is worth: 1 where there is none, else 0.

    Returns:
        A threshold with the highest sum; of several, the one nearest to 0.
    """
    order = sorted(range(len(scores)), key=lambda number: scores[number])
    ends = [-torch.inf, *(scores[number] for number in order), torch.inf]
    totals = [sum(worth)]
    for number in order:  # the threshold moves up past this row, which then gets no answer
        totals.append(totals[-1] + worth_of_none[number] - worth[number])
    open_places = [place for place in range(len(totals)) if ends[place] < ends[place + 1]]
    best = max(totals[place] for place in open_places)
    return min((_between(*ends[place : place + 2]) for place in open_places if totals[place] >= best - 1e-9), key=abs)


def _between(low: float, high: float) -> float:
    """A number between two, or well beyond the one that is finite; 0 where that lies there."""
    if low < 0 < high:
        return 0.0
    return high - 1.0 if low == -torch.inf else low + 1.0 if high == torch.inf else (low + high) / 2
