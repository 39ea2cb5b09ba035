"""The default learning rate of learned tokens, as a rule in units of the model's own embeddings.

AdamW moves every number by about its learning rate at each step, whatever the gradient's size. Models differ in the size of
their embeddings (root mean square after their own scaling: about 0.04 in a BERT, 0.1 in SmolLM2, 1 in Gemma, several in T5),
so a rate that is right for one is useless for another. Rule: a step moves a learned token by a fixed share of that size.
"""

__all__ = ["EMBEDDING_SHARE", "ENCODER_RATE", "embedding_rate"]

EMBEDDING_SHARE = 0.01
"""Share of the embeddings' root mean square that one AdamW step moves a learned row by."""

ENCODER_RATE = 1e-3
"""Rate for the weights of a prompt encoder, whose output is already in units of the embeddings' size."""


def embedding_rate(embedding_rms: float) -> float:
    """AdamW's learning rate for rows learned directly: `EMBEDDING_SHARE` times the embeddings' root mean square."""
    return EMBEDDING_SHARE * embedding_rms
