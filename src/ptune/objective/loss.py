"""The loss of a classification step: cross-entropy over label scores, with class weights and label smoothing."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.errors import TrainError

__all__ = ["classification_loss"]


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
