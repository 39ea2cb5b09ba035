"""The losses of tasks whose answers are numbers: cross-entropy on a scale of levels, or the squared error.

In: label scores and numbers, or predicted numbers and true ones. Out: the mean loss. A number between two levels is shared out
between them so that the expected value of what is learned is the number itself (two-hot targets, as in distributional value
learning); a number that is a level gives plain cross-entropy.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.objective.loss import distribution_loss

__all__ = ["expected_value", "level_loss", "squared_loss", "two_hot"]


def expected_value(scores: Float[Tensor, "B C"], levels: Float[Tensor, " C"]) -> Float[Tensor, " B"]:
    """sum over levels of softmax(scores) * level."""
    return torch.softmax(scores, 1) @ levels.to(scores)


def two_hot(numbers: Float[Tensor, " B"], levels: Float[Tensor, " C"]) -> Float[Tensor, "B C"]:
    """Weights over levels whose expected value is the number, on the two levels that it lies between.

    Args:
        numbers: those outside of the levels count as the nearest one.
        levels: in any order, all different.
    """
    ordered, order = levels.sort()
    inside = numbers.to(ordered).clamp(ordered[0], ordered[-1])
    above = torch.searchsorted(ordered, inside).clamp(min=1)
    low, high = ordered[above - 1], ordered[above]
    share = ((inside - low) / (high - low))[:, None]
    weights = torch.zeros(len(numbers), len(levels), dtype=ordered.dtype)
    weights.scatter_(1, order[above - 1][:, None], 1 - share)
    return weights.scatter_(1, order[above][:, None], share)


def level_loss(scores: Float[Tensor, "B C"], numbers: Float[Tensor, " B"], levels: Float[Tensor, " C"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of softmax(scores) with the numbers' two-hot weights."""
    return distribution_loss(scores, two_hot(numbers, levels).to(scores))


def squared_loss(predicted: Float[Tensor, " B"], numbers: Float[Tensor, " B"], *, scale: float) -> Float[Tensor, ""]:
    """Mean squared error in units of `scale`."""
    return (((predicted - numbers.to(predicted)) / scale) ** 2).mean()
