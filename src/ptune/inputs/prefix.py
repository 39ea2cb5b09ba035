"""Learned keys and values per layer: what Prefix Tuning and P-Tuning v2 give a backbone instead of token embeddings.

A model has one stack of attention layers that reads the text, and an encoder-decoder two more: its decoder's own and the one
that looks at the encoder. Each stack has its own `Prefix`. Dimension key as in `inputs/types.py`; P learned keys of a layer.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Place", "Prefix", "StackSpec"]

Place = Literal["text", "decoder", "cross"]
"""`text`: the stack that reads the text (encoder, or causal decoder); `decoder`, `cross`: of an encoder-decoder."""


@dataclass(frozen=True)
class StackSpec:
    """The sizes of one stack's keys and values.

    Args:
        num_layers: N.
        num_heads: H_kv, the heads that keys and values have.
        head_size: K.
        key_rms, value_rms: root mean square of a real text's keys and values, for each layer: the unit in which learned ones
            are initialised and moved, so that one learning rate serves all layers and models.
    """

    num_layers: int
    num_heads: int
    head_size: int
    key_rms: tuple[float, ...]
    value_rms: tuple[float, ...]

    @property
    def width(self) -> int:
        """Numbers that one learned token takes in this stack: 2 * N * H_kv * K."""
        return 2 * self.num_layers * self.num_heads * self.head_size


@dataclass(frozen=True)
class Prefix:
    """Learned keys and values of one stack, seen in every attention window.

    Args:
        keys, values: of each layer [R, H_kv, P, K]; R is 1 where all rows share them.
        mask: [R, P] True at learned tokens (rows of a batch that mixes tasks have different numbers of them).
        gates: of each layer [H_kv], or None. With gates, attention to the prefix is a term of its own, multiplied by the
            gate, and so nothing at 0; without, prefix and tokens share one softmax.
    """

    keys: tuple[Float[Tensor, "R H P K"], ...]
    values: tuple[Float[Tensor, "R H P K"], ...]
    mask: Bool[Tensor, "R P"]
    gates: tuple[Float[Tensor, " H"], ...] | None = None

    @classmethod
    def of(cls, both: Float[Tensor, "2 N H P K"], gates: Float[Tensor, "N H"] | None = None) -> "Prefix":
        """From one tensor of keys and values that all rows share."""
        mask = torch.ones(1, both.shape[3], dtype=torch.bool, device=both.device)
        return cls(both[0][:, None].unbind(0), both[1][:, None].unbind(0), mask, None if gates is None else gates.unbind(0))

    def layer(self, index: int) -> tuple[Float[Tensor, "R H P K"], Float[Tensor, "R H P K"]]:
        """Keys and values of one layer."""
        return self.keys[index], self.values[index]

    @property
    def learns(self) -> bool:
        """Whether keys or values are learned."""
        return any(part.requires_grad for part in (*self.keys, *self.values))

    @property
    def num_tokens(self) -> int:
        """P."""
        return self.mask.shape[1]

    def to(self, like: Tensor) -> "Prefix":
        """On the device and in the number type that layers compute in."""
        return Prefix(
            tuple(one.to(like) for one in self.keys),
            tuple(one.to(like) for one in self.values),
            self.mask.to(like.device),
            None if self.gates is None else tuple(one.to(like) for one in self.gates),
        )

    def stacked(self) -> Float[Tensor, "2 N H P K"]:
        """Keys and values as one tensor, as files hold them; only where all rows share them."""
        return torch.stack([torch.cat(self.keys), torch.cat(self.values)])
