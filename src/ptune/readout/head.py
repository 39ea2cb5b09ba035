"""A linear head on a pooled hidden state: the alternative to label words.

Parameters: D * C + C. Pooling never counts learned tokens: position 0 of a prompted text is a virtual token, not [CLS].
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["HEAD_RATE", "LinearHead"]

HEAD_RATE = 1e-2
"""Default AdamW learning rate of a head on frozen features."""


class LinearHead(nn.Module):
    """Class scores from pooled hidden states.

    Args:
        width: D.
        num_classes: C.
        seed: of the initial weights, N(0, 0.02).
        dtype: number type (fp32 but for gradient checks).
    """

    def __init__(self, width: int, num_classes: int, *, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.linear = nn.Linear(width, num_classes, dtype=dtype)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(num_classes, width, generator=generator) * 0.02)
            self.linear.bias.zero_()

    def forward(self, hidden: Float[Tensor, "B S D"], pool: Float[Tensor, "B S"]) -> Float[Tensor, "B C"]:
        """Pools with weights that sum to one, and scores the classes."""
        weights = pool.to(hidden.device, self.linear.weight.dtype)[:, :, None]
        return self.score((weights * hidden.to(self.linear.weight.dtype)).sum(1))

    def score(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Brings pooled states to unit scale, and scores the classes."""
        scores: Tensor = self.linear(self.norm(pooled.to(self.linear.weight.dtype)))
        return scores
