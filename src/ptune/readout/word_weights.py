"""Word weights: how much each of a label's words says for it is learned, together with the prompt.

score_c(h) = sum over the words w of c of a_w l_w(h), where l_w is the model's own logit of w in the answer slot and a is the
softmax over c's words of learned numbers, which start at the recipe's weights. A label's a sum to one, so that logits and
log-probabilities differ by a constant of the text, which no label gains by. Parameters: W.
Source: Hu et al. 2022 (KPT), section 3.3 (learnable refinement) and 3.4 (weighted average). Deviation: the numbers start at the
recipe's weights, not at equal ones, where it gives some.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptune.backbone import OutputLayer
from ptune.errors import VerbalizerError
from ptune.inputs import AnswerWords
from ptune.readout.label_head import LabelHead, LabelSetup, register
from ptune.readout.verbalizer import Verbalizer

__all__ = ["WordWeights"]


@register
class WordWeights(LabelHead):
    """One learned number for each label word.

    Args:
        output: the model's output layer, frozen.
        answers: the words, of one token each.
        verbalizer: the same by label, with the weights to start from.
        dtype: number type.
    """

    name: ClassVar[str] = "weights"
    needs_words: ClassVar[bool] = True

    learning_rate = 5e-2
    columns: Tensor
    owned: Tensor

    def __init__(self, output: OutputLayer, answers: AnswerWords, verbalizer: Verbalizer, dtype: torch.dtype) -> None:
        super().__init__()
        self.output, self.words = output, verbalizer.words
        label = torch.tensor(answers.label)
        self.register_buffer("columns", torch.tensor(answers.first_column()), persistent=False)
        self.register_buffer("owned", label[None, :] == torch.arange(answers.num_classes)[:, None], persistent=False)
        self.numbers = nn.Parameter(torch.tensor(_weights(verbalizer), dtype=dtype).log())

    @classmethod
    def build(cls, setup: LabelSetup) -> "WordWeights":
        """Starts at the mean of each label's words, by the recipe's weights.

        Raises:
            BackboneError: the model has no output layer.
            VerbalizerError: a word of several tokens, or rules that are not a mean.
        """
        assert setup.verbalizer is not None and setup.answers is not None
        cls.check_words(setup.verbalizer)
        for text, ids in zip(setup.answers.texts, setup.answers.ids, strict=True):
            if len(ids) > 1:
                what = f"head: weights reads words of one token, and {text.strip()!r} has {len(ids)}"
                raise VerbalizerError(what, where="labels", fix="leave it out; `ptune search refine` lists the words to keep")
        return cls(setup.backbone.require_output(), setup.answers, setup.verbalizer, setup.dtype)

    @classmethod
    def check_words(cls, verbalizer: Verbalizer) -> None:
        """Refuses rules that are not a mean, and labels of which none has several words.

        Raises:
            VerbalizerError: see above.
        """
        for key, kept in {"aggregate": "mean", "terminator": ""}.items():
            value = getattr(verbalizer, key)
            if value != kept:
                what = f"head: weights learns the mean of each label's words, so {key}: {value} means nothing"
                raise VerbalizerError(what, where=key, fix=f"leave {key} out")
        if all(len(words) == 1 for words in verbalizer.words.values()):
            what = "no label has several words, so there are no weights to learn"
            raise VerbalizerError(what, where="labels", fix="give some more, or use head: vectors")

    @property
    def shares(self) -> Float[Tensor, "C W"]:
        """The weight of each word in each label; 0 in others'."""
        return self.numbers[None, :].masked_fill(~self.owned, -torch.inf).softmax(1)

    def score(self, states: Float[Tensor, "U D"]) -> Float[Tensor, "U C"]:
        """Weighted means of the words' logits."""
        return self.output.logits(states, self.columns) @ self.shares.T

    def facts(self) -> dict[str, Any]:
        """The weight of each word, as it may stand in `labels`."""
        shares = self.shares.detach().sum(0).tolist()
        found, at = {}, 0
        for name, words in self.words.items():
            found[name] = {word: round(share, 4) for word, share in zip(words, shares[at : at + len(words)], strict=True)}
            at += len(words)
        return {"word_weights": found}


def _weights(verbalizer: Verbalizer) -> Sequence[float]:
    """Of all words, in the order of the labels."""
    equal = {name: (1 / len(words),) * len(words) for name, words in verbalizer.words.items()}
    return [weight for name in verbalizer.labels for weight in (verbalizer.weights or equal)[name]]
