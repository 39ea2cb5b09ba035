"""The best sequence of tags in which every tag may stand where it stands, without anything learned for it.

In: log-probabilities of each place's tags [L, C], and which tag may follow which. Out: L tag numbers, by Viterbi's algorithm
with transitions that cost nothing or are forbidden.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["best_tags"]


def best_tags(scores: Float[Tensor, "L C"], allowed: Sequence[Sequence[bool]]) -> list[int]:
    """The allowed sequence with the highest sum of scores.

    Args:
        scores: of each place's tags.
        allowed: [C + 1][C + 1], row by what stands in front and column by what follows; the last row is the beginning, the last
            column the end (`ptune.data.transitions`). Some sequence must be allowed.
    """
    if not len(scores):
        return []
    costs = torch.zeros(len(allowed), len(allowed), dtype=scores.dtype)
    costs[~torch.tensor(allowed)] = -torch.inf
    total = costs[-1, :-1] + scores[0]
    came_from: list[Tensor] = []
    for place in range(1, len(scores)):
        best, origin = (total[:, None] + costs[:-1, :-1]).max(0)
        came_from.append(origin)
        total = best + scores[place]
    path = [int((total + costs[:-1, -1]).argmax())]
    for origin in reversed(came_from):
        path.append(int(origin[path[-1]]))
    return path[::-1]
