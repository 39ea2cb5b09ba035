"""The probability from which a label is given, where a row may have any number of them.

In: scores (log-odds) of rows with known labels. Out: the threshold with the best micro F1 on them, and that F1. Of thresholds
that do equally well the one nearest to one half is taken, so that few rows move it no further than they must.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["best_log_odds"]


def best_log_odds(scores: Float[Tensor, "B C"], targets: Bool[Tensor, "B C"]) -> tuple[float, float]:
    """The log-odds above which labels are given, and the micro F1 (2 hits / (given + true)) that they reach.

    Args:
        scores: log-odds of every label of every row.
        targets: whether the row has it.

    Returns:
        (threshold, F1); (0, 0) where no row has a label.
    """
    flat, order = scores.flatten().double().sort(descending=True)
    is_true = targets.flatten()[order]
    num_true = int(is_true.sum())
    if not num_true:
        return 0.0, 0.0
    hits = torch.cumsum(is_true.double(), 0)
    f1 = 2 * hits / (torch.arange(1, len(flat) + 1) + num_true)
    ends = torch.cat([flat[1:], flat[-1:] - 1])  # a threshold lies between the last score given and the next one
    f1 = torch.where(flat > ends, f1, torch.full_like(f1, -1.0))
    best = f1.max()
    places = (f1 == best).nonzero()[:, 0]
    middles = torch.stack([_between(float(ends[at]), float(flat[at])) for at in places])
    return float(middles[middles.abs().argmin()]), float(best)


def _between(low: float, high: float) -> Tensor:
    """Zero where it lies between, else the middle."""
    return torch.tensor(0.0 if low <= 0 < high else (low + high) / 2, dtype=torch.float64)
