"""Label words as tokens: which ids each word has, which label it speaks for, and whether one look is enough to score them.

In: words with the white space the template gives them. Out: `AnswerWords`, from which batches are laid out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["AnswerWords", "FillOrder"]

FillOrder = Literal["parallel", "chain", "pet"]


@dataclass(frozen=True)
class AnswerWords:
    """Every word that may fill the slot.

    Args:
        texts: the words as written, with their leading white space.
        ids: token ids of each word.
        label: class number of each word.
        num_classes: C.
    """

    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    label: tuple[int, ...]
    num_classes: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest word."""
        return max(len(word) for word in self.ids)

    @property
    def single(self) -> bool:
        """Whether every word is one token, so that one read with W columns scores them all."""
        return self.max_tokens == 1

    def first_column(self) -> Sequence[int]:
        """The first token of each word."""
        return [word[0] for word in self.ids]
