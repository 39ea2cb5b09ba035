"""The loss of a classification step: cross-entropy of label scores with labels or distributions, or each label by itself."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.errors import TrainError

__all__ = ["classification_loss", "decoupled_loss", "distribution_loss", "two_way_divergence"]


def classification_loss(
    scores: Float[Tensor, "B C"],
    labels: Int[Tensor, " B"],
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of softmax(scores).

    Args:
        scores: label scores.
        labels: class numbers.
        class_weights: C factors, or None.
        label_smoothing: share of the probability that is spread evenly.

    Raises:
        TrainError: an example without a label, or as many weights as there are not classes.
    """
    if bool((labels < 0).any()):
        raise TrainError("an example without a label cannot be trained on", where="train")
    if class_weights is not None and len(class_weights) != scores.shape[1]:
        raise TrainError(f"{len(class_weights)} class weights for {scores.shape[1]} classes", where="class_weights")
    weight = None if class_weights is None else torch.tensor(list(class_weights)).to(scores)
    return torch.nn.functional.cross_entropy(scores, labels.to(scores.device), weight=weight, label_smoothing=label_smoothing)


def distribution_loss(
    scores: Float[Tensor, "B C"],
    targets: Float[Tensor, "B C"],
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean over rows of -sum_c w_c t_c log softmax(scores)_c: KL(t || softmax) up to the entropy of t where all w_c are 1.

    Args:
        scores: label scores.
        targets: probabilities of each row's labels; a row that sums to less than 1 counts less.
        class_weights: C factors, or None.
        label_smoothing: share of the probability that is spread evenly.

    Source: Hinton et al. 2015, section 2.
    """
    weight = None if class_weights is None else torch.tensor(list(class_weights)).to(scores)
    return torch.nn.functional.cross_entropy(scores, targets.to(scores), weight=weight, label_smoothing=label_smoothing)


def decoupled_loss(
    log_probabilities: Float[Tensor, "B C"], labels: Int[Tensor, " B"], *, class_weights: Sequence[float] | None = None
) -> Float[Tensor, ""]:
    """Mean over rows of -log q_y - sum over the other labels of log(1 - q_c): labels do not share one probability.

    Args:
        log_probabilities: log q, each label's probability among all words; at most 0.
        labels: class numbers.
        class_weights: C factors of the rows with each label, or None.

    Source: Tam et al. 2021 (ADAPET), section 3.1; they take one word for each label.
    """
    is_right = torch.nn.functional.one_hot(labels.to(log_probabilities.device), log_probabilities.shape[1]).bool()
    most = -torch.finfo(log_probabilities.dtype).eps  # log(1 - q) has no value at q = 1
    against = torch.log(-torch.expm1(log_probabilities.clamp(max=most)))
    losses = -torch.where(is_right, log_probabilities, against).sum(1)
    if class_weights is None:
        return losses.mean()
    weight = torch.tensor(list(class_weights)).to(losses)[labels.to(losses.device)]
    return (losses * weight).sum() / weight.sum()


def two_way_divergence(scores: Float[Tensor, "B C"], others: Float[Tensor, "B C"]) -> Float[Tensor, ""]:
    """Mean over rows of (KL(p || q) + KL(q || p)) / 2, with p and q the softmax of the scores.

    Source: Liang et al. 2021 (R-Drop), equation 2.
    """
    logs, other_logs = torch.log_softmax(scores, 1), torch.log_softmax(others, 1)
    return ((logs.exp() - other_logs.exp()) * (logs - other_logs)).sum(1).mean() / 2
