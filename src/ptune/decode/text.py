"""Token ids to text while they are being written: pieces that never cut a character in half, and stop words.

In: the ids so far. Out: text that will not change any more. A character of several byte tokens is held back until it is whole,
and so is white space at the end and whatever may be the beginning of a stop word. The pieces join to the final text.
"""

from collections.abc import Sequence

from ptune.inputs import Tokens

__all__ = ["TextPieces"]

_HALF = "\ufffd"


class TextPieces:
    """One text in the making.

    Args:
        tokens: the backbone's tokenizer.
        stop: texts that end it.
    """

    def __init__(self, tokens: Tokens, stop: Sequence[str] = ()) -> None:
        self._tokens, self._stop = tokens, tuple(stop)
        self._raw = ""
        self._num_given = 0
        self.is_stopped = False

    def read(self, ids: Sequence[int]) -> None:
        """Takes all ids written so far; looks for stop words."""
        raw = self._tokens.text(ids)
        ends = [at for word in self._stop if (at := raw.find(word)) >= 0]
        self.is_stopped = bool(ends)
        self._raw = raw[: min(ends)] if ends else raw

    def piece(self) -> str:
        """What has become certain since the last piece."""
        certain = self._raw.rstrip(_HALF)
        if not self.is_stopped:
            certain = certain[: len(certain) - self._num_held(certain)]
        return self._give(certain.strip())

    def last_piece(self) -> str:
        """The rest, once no token follows."""
        return self._give(self.text)

    @property
    def text(self) -> str:
        """The whole text, as if no token followed: a character that lacks bytes is left out."""
        return self._raw.rstrip(_HALF).strip()

    def _give(self, certain: str) -> str:
        fresh = certain[self._num_given :]
        self._num_given = max(self._num_given, len(certain))
        return fresh

    def _num_held(self, text: str) -> int:
        """Characters at the end that begin a stop word."""
        longest = max((len(word) - 1 for word in self._stop), default=0)
        sizes = range(min(longest, len(text)), 0, -1)
        return next((size for size in sizes if any(word.startswith(text[-size:]) for word in self._stop)), 0)
