"""Takes a model's own preference among label words out of its scores, and makes its probabilities mean what they say.

In: label scores [B, C] of texts whose labels are not looked at. Out: the log-prior [C] to subtract. A model that prefers
"great" whatever it reads is not reading; dividing its probabilities by their mean over texts mends that.
Sources: Zhao et al. 2021 (contextual calibration: content-free inputs), Holtzman et al. 2021 (domain-conditional PMI), Zhou et
al. 2024 (batch calibration), Guo et al. 2017 (temperature scaling).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "CONTENT_FREE",
    "CalibrationName",
    "batch_prior",
    "best_temperature",
    "calibration_names",
    "contextual_prior",
    "domain_prior",
    "log_prior",
]

CalibrationName = Literal["prior", "batch", "contextual", "domain", "none"]

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing (Zhao et al. 2021, section 5)."""

_NUM_ROUNDS = 50
_LOG_RANGE = 4.0  # temperatures between exp(-4) and exp(4)
_NUM_CUTS = 60


def calibration_names() -> tuple[str, ...]:
    """The names that a recipe's `calibration` may have."""
    return get_args(CalibrationName)


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


def contextual_prior(scores: Float[Tensor, "B C"]) -> Float[Tensor, " C"]:
    """log of the mean probability of each label over content-free inputs: q = softmax(W p) with W = diag(p_cf)^-1.

    p_cf is the mean of probabilities, not of scores. A product with W, renormalised, is a difference of logarithms.

    Args:
        scores: of inputs without content, in the same template and with the same demonstrations.

    Source: Zhao et al. 2021, section 5. Deviation: none; W p and b = 0 as for classification there.
    """
    prior = torch.log(torch.softmax(scores, 1).mean(0).clamp(min=1e-9))
    return prior - prior.mean()


def batch_prior(scores: Float[Tensor, "B C"]) -> Float[Tensor, " C"]:
    """log of the mean probability of each label over texts: contextual calibration with real texts in place of empty ones.

    Args:
        scores: of unlabelled texts.

    Source: Zhou et al. 2024, equation 4. `log_prior` is the same, repeated until nothing is left over.
    """
    return contextual_prior(scores)


def domain_prior(scores: Float[Tensor, "B C"]) -> Float[Tensor, " C"]:
    """log P(label word | what the template says without a text), to be subtracted: PMI of text and word within the domain.

    Args:
        scores: log-probabilities of the labels after domain premises; of several, the mean. A constant per row is harmless.

    Source: Holtzman et al. 2021, equation 3: argmax of P(y | x, domain) / P(y | domain).
    """
    centred = scores - scores.mean(1, keepdim=True)
    return centred.mean(0)


def best_temperature(scores: Float[Tensor, "B C"], labels: Int[Tensor, " B"] | Sequence[int]) -> float:
    """The T that makes softmax(scores / T) most likely on held-out rows; order and labels stay as they are.

    The loss is convex in 1 / T, so it has one minimum; it is searched for within e^-4 to e^4.

    Args:
        scores: label scores of rows that were not trained on.
        labels: class numbers.

    Source: Guo et al. 2017, section 4.2.
    """
    wide, true = scores.double(), torch.as_tensor(labels)

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(wide / torch.tensor(log_temperature).double().exp(), true))

    low, high = -_LOG_RANGE, _LOG_RANGE
    for _ in range(_NUM_CUTS):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, second) if loss(first) <= loss(second) else (first, high)
    return float(torch.tensor((low + high) / 2).exp())
