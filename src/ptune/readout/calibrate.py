"""Takes a model's own preference among label words out of its scores.

In: label scores [B, C] of texts whose labels are not looked at. Out: the log-prior [C] to subtract. A model that prefers
"great" whatever it reads is not reading; dividing its probabilities by their mean over texts mends that.
Source: Zhao et al. 2021 (contextual calibration) with the texts themselves in place of content-free inputs (batch calibration).
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["log_prior"]

_NUM_ROUNDS = 50


def log_prior(scores: Float[Tensor, "B C"]) -> Float[Tensor, " C"]:
    """The log-prior under which the corrected probabilities average to the same for every class.

    Dividing once by the mean leaves a rest, because probabilities are renormalised afterwards; a few rounds settle it.

    Args:
        scores: label scores of texts.
    """
    prior = torch.zeros(scores.shape[1], dtype=scores.dtype, device=scores.device)
    for _ in range(_NUM_ROUNDS):
        mean = torch.softmax(scores - prior, 1).mean(0).clamp(min=1e-9)
        prior = prior + torch.log(mean * scores.shape[1])
    return prior - prior.mean()
