"""Prototypes: each label is a learned point in a projected space of the hidden state in the answer slot; nearness scores it.

z = W norm(h), S(a, b) = cos(a, b) / tau, score_c(h) = S(z, p_c). Loss of a batch: cross-entropy of the scores, which pulls each
text to its label's prototype and away from the others, plus the mean over pairs (i, j) of one label of
-log exp S(z_i, z_j) / (exp S(z_i, z_j) + sum over k of other labels of exp S(z_i, z_k)). Parameters: (D + C) * 64.
Source: Cui et al. 2022 (ProtoVerb), section 3, losses L_ins and L_proto. Deviations: tau is 0.2, not 1, with which no label
could be more than e^2 times as probable as another; h is brought to unit scale first; a text is no pair with itself; the prompt
learns by the same loss at the same time, where the paper tunes the model by label words and then the prototypes.
"""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptune.readout.label_head import LabelHead, LabelSetup, register

__all__ = ["Prototypes", "instance_loss"]

NUM_DIMS = 64
TAU = 0.2


@register
class Prototypes(LabelHead):
    """One learned point for each label.

    Args:
        width: D.
        num_classes: C.
        seed: of the initial projection and points, N(0, 1 / D).
        dtype: number type (fp32 but for gradient checks).
    """

    name: ClassVar[str] = "prototypes"
    needs_words: ClassVar[bool] = False

    learning_rate = 1e-3

    def __init__(self, width: int, num_classes: int, *, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.projection = nn.Parameter((torch.randn(NUM_DIMS, width, generator=generator) / width**0.5).to(dtype))
        self.points = nn.Parameter((torch.randn(num_classes, NUM_DIMS, generator=generator) / width**0.5).to(dtype))

    @classmethod
    def build(cls, setup: LabelSetup) -> "Prototypes":
        """Before training, at random."""
        return cls(setup.backbone.spec.width, setup.num_classes, seed=setup.seed, dtype=setup.dtype)

    def project(self, states: Float[Tensor, "U D"]) -> Float[Tensor, "U d"]:
        """Hidden states as points of length 1."""
        return nn.functional.normalize(self.norm(states.to(self.projection.dtype)) @ self.projection.T, dim=-1)

    def score(self, states: Float[Tensor, "U D"]) -> Float[Tensor, "U C"]:
        """Cosine with each label's prototype, over tau."""
        return self.project(states) @ nn.functional.normalize(self.points, dim=-1).T / TAU

    def own_loss(self, states: Float[Tensor, "U D"], labels: Int[Tensor, " U"]) -> Float[Tensor, ""]:
        """The loss between texts, of those whose labels are known."""
        labels = labels.to(states.device)
        is_known = labels >= 0
        return instance_loss(self.project(states[is_known]), labels[is_known])


def instance_loss(points: Float[Tensor, "U d"], labels: Int[Tensor, " U"]) -> Float[Tensor, ""]:
    """Mean over pairs of one label; 0 where there is none that another label's text stands against.

    Args:
        points: of length 1.
        labels: class numbers.
    """
    similarity = points @ points.T / TAU
    is_same = labels[:, None] == labels[None, :]
    anchors = (~is_same).any(1)
    is_pair = is_same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similarity, is_same, is_pair = similarity[anchors], is_same[anchors], is_pair[anchors]
    if not bool(is_pair.any()):
        return points.sum() * 0
    others = torch.logsumexp(similarity.masked_fill(is_same, -torch.inf), 1, keepdim=True)
    losses = nn.functional.softplus(others - similarity)  # -log e^s / (e^s + e^others)
    return losses[is_pair].mean()
