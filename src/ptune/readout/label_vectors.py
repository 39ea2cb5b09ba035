"""Soft verbalizer: a label's column of the output layer is learned, started from its label words' own columns.

score_c(h) = <t(h), v_c> + b_c, where h is the hidden state in the answer slot and t what the model itself does in front of its
output matrix (a masked model's transform, scales). v_c starts as the mean of its words' output embeddings, of a word of several
tokens as the mean of theirs; b_c, the same of the output layer's bias, stays. Parameters: C * E.
Source: Hambardzumyan et al. 2021 (WARP), section 3: softmax over the labels' vectors alone. Deviation: the learning rate is in
units of the vectors' own size, not 1e-3 for all models.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptune.backbone import OutputLayer
from ptune.errors import VerbalizerError
from ptune.inputs import AnswerWords
from ptune.readout.label_head import LabelHead, LabelSetup, register
from ptune.readout.verbalizer import Verbalizer

__all__ = ["LabelVectors"]

VECTOR_SHARE = 0.01
"""Share of the vectors' root mean square that one AdamW step moves them by."""


@register
class LabelVectors(LabelHead):
    """One learned vector for each label.

    Args:
        output: the model's output layer, frozen.
        vectors: [C, E] to start from.
        bias: [C].
    """

    name: ClassVar[str] = "vectors"
    needs_words: ClassVar[bool] = True

    bias: Tensor

    def __init__(self, output: OutputLayer, vectors: Float[Tensor, "C E"], bias: Float[Tensor, " C"]) -> None:
        super().__init__()
        self.output = output
        self.vectors = nn.Parameter(vectors)
        self.register_buffer("bias", bias)
        self.learning_rate = VECTOR_SHARE * vectors.square().mean().sqrt().item()

    @classmethod
    def build(cls, setup: LabelSetup) -> "LabelVectors":
        """Starts from the label words: with one word of one token each, at exactly their scores.

        Raises:
            BackboneError: the model has no output layer.
            VerbalizerError: words that are joined otherwise than by their mean.
        """
        assert setup.verbalizer is not None and setup.answers is not None
        cls.check_words(setup.verbalizer)
        output = setup.backbone.require_output()
        bias = torch.zeros(len(output.weight), 1) if output.bias is None else output.bias.detach()[:, None]
        vectors, biases = (
            _label_means(values, setup.verbalizer, setup.answers, setup.dtype) for values in (output.weight.detach(), bias)
        )
        return cls(output, vectors, biases[:, 0])

    @classmethod
    def check_words(cls, verbalizer: Verbalizer) -> None:
        """Refuses rules that a mean of vectors cannot follow.

        Raises:
            VerbalizerError: `aggregate`, `length` or `terminator` is set.
        """
        rules = {"aggregate": ("mean",), "length": ("auto", "mean"), "terminator": ("",)}
        for key, kept in rules.items():
            value = getattr(verbalizer, key)
            if value not in kept:
                what = f"head: {cls.name} starts from the mean of each label's words, so {key}: {value} means nothing"
                raise VerbalizerError(what, where=key, fix=f"leave {key} out")

    def score(self, states: Float[Tensor, "U D"]) -> Float[Tensor, "U C"]:
        """The model's own output layer with the learned vectors in place of its matrix."""
        return replace(self.output, weight=self.vectors, bias=self.bias).logits(states)


def _label_means(values_VE: Tensor, verbalizer: Verbalizer, answers: AnswerWords, dtype: torch.dtype) -> Float[Tensor, "C E"]:
    """Mean over the tokens of each word, then over each label's words with their weights."""
    words = torch.stack([values_VE[list(ids)].to(dtype).mean(0) for ids in answers.ids])
    shares = torch.zeros(answers.num_classes, len(answers)).to(words)
    for number, name in enumerate(verbalizer.labels):
        mine = [at for at, label in enumerate(answers.label) if label == number]
        weights = verbalizer.weights[name] if verbalizer.weights else (1 / len(mine),) * len(mine)
        shares[number, mine] = torch.tensor(weights).to(words)
    return shares @ words
