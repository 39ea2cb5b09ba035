"""The default learning rate of learned tokens, as a rule in units of the model's own embeddings.

AdamW moves every number by about its learning rate at each step, whatever the gradient's size. Models differ in the size of
their embeddings (root mean square after their own scaling: 0.06 in MiniLM, 0.13 in SmolLM2, larger in Gemma and T5), so a rate
that is right for one is useless for another. Rule: a step moves a learned token by a fixed share of that size. The share is
larger for encoders, which add position and segment to an embedding and normalise the sum before the first layer.

A prompt encoder's output is in units of the embeddings' size. All weights of its last layer move at once, E of them for each
number of a row, so the rate of its weights falls with the width: 0.2 / E. The first step of an MLP then moves a row by about
0.05 of that size at any width. Twice the rate was noisy on MiniLM: both encoders stayed above half the first loss on one seed.
"""

from ptune.inputs import BackboneSpec

__all__ = [
    "DEEP_ENCODER_RATE",
    "DEEP_RATE",
    "EMBEDDING_SHARE",
    "ENCODER_RATE",
    "embedding_rate",
    "encoder_rate",
    "encoder_scale",
]

EMBEDDING_SHARE = {"decoder": 0.01, "encoder": 0.15, "encoder-decoder": 0.03}
"""Share of the embeddings' root mean square that one AdamW step moves a learned row by, for each kind of backbone."""

ENCODER_RATE = 0.2
"""Rate for the weights of a prompt encoder, times its width E; its output is in units of `encoder_scale`."""

DEEP_RATE = 0.03
"""Rate for keys and values learned directly, in units of the layer's own (P-Tuning v2's scripts: 5e-3 to 6e-2)."""

DEEP_ENCODER_RATE = 1e-3
"""Rate for the weights of the MLP that makes keys and values; its output is in the same units."""


def embedding_rate(spec: BackboneSpec) -> float:
    """AdamW's learning rate for rows learned directly: `EMBEDDING_SHARE` times the embeddings' root mean square."""
    return EMBEDDING_SHARE[spec.kind] * spec.embedding_rms


def encoder_rate(spec: BackboneSpec) -> float:
    """AdamW's learning rate for the weights of a prompt encoder: `ENCODER_RATE` over its width."""
    return ENCODER_RATE / spec.embedding_size


def encoder_scale(spec: BackboneSpec) -> float:
    """What a prompt encoder's output is multiplied by: the embeddings' size, for every kind of backbone."""
    return spec.embedding_rms
