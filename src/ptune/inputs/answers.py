"""Label words as tokens: which ids each word has, which label it speaks for, and whether one look is enough to score them.

In: words with the white space the template gives them. Out: `AnswerWords`, from which batches are laid out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from ptune.errors import VerbalizerError

__all__ = ["AnswerWords", "FillOrder"]

FillOrder = Literal["parallel", "chain", "pet"]


@dataclass(frozen=True)
class AnswerWords:
    """Every word that may fill the slot; in a row with several slots, every set of words that may fill them all.

    Args:
        texts: the words as written, with their leading white space.
        ids: token ids of each word; of several slots, those of all slots behind each other.
        label: class number of each word.
        num_classes: C.
        lengths: for each word, how many of its tokens go into each slot; empty where there is one slot.
    """

    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    label: tuple[int, ...]
    num_classes: int
    lengths: tuple[tuple[int, ...], ...] = ()

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

    def parts(self, word: int, ids: Sequence[int] | None = None) -> tuple[tuple[int, ...], ...]:
        """The tokens of a word, or others in their place, for each slot."""
        flat = tuple(self.ids[word] if ids is None else ids)
        if not self.lengths:
            return (flat,)
        ends = accumulate(self.lengths[word])
        return tuple(flat[end - length : end] for end, length in zip(ends, self.lengths[word], strict=True))

    def first_column(self) -> Sequence[int]:
        """The first token of each word.

        Raises:
            VerbalizerError: the words fill several slots.
        """
        if self.lengths:
            raise VerbalizerError("label words that fill several {mask} are not told apart by one token", where="labels")
        return [word[0] for word in self.ids]
