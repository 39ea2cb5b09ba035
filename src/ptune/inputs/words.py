"""Words of a text and the tokens that speak for them: one label a word goes in, one label a token comes out, and back.

In: words that a row gives, or a plain text. Out: `Words` (a text, and the characters of each word in it) and, with those of
each token, `Unit`s. A word is read at its first token. Where one token covers several words (积极 is one token on Gemma, and
two words character by character), it is read for the first of them, and the others go on with what it says: a span that holds
the first takes them in, and none can begin or end between them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ptune.template import written_with_spaces

__all__ = ["Unit", "WordPiece", "Words", "join_words", "split_words", "word_units"]

WordPiece = Literal["first", "last"]

_PIECES = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Words:
    """A text in words.

    Args:
        text: the text.
        spans: the characters [start, end) of each word, in order.
    """

    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words themselves."""
        return tuple(self.text[start:end] for start, end in self.spans)


@dataclass(frozen=True)
class Unit:
    """Words that one token speaks for.

    Args:
        token: its number.
        begin, end: the words: one, and those behind it that the same token covers.
    """

    token: int
    begin: int
    end: int


def join_words(words: Sequence[str]) -> Words:
    """Words as a text.

    Where all are single characters and some of them are of a script without spaces, the text is those characters and nothing
    else (Chinese, character by character, also the letters and digits in it). Otherwise a space parts two words, but not where
    one side of the gap is of a script without spaces.
    """
    by_character = all(len(word) == 1 for word in words) and any(written_with_spaces(word) is False for word in words)
    text, spans = "", []
    for word in words:
        if text and not by_character and not (_is_unspaced(text[-1:]) or _is_unspaced(word[:1])):
            text += " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return Words(text, tuple(spans))


def split_words(text: str) -> Words:
    """A plain text in words, white space left out.

    A word is a letter of a script without spaces (Chinese, Japanese, Thai), a run of other letters and digits, or a mark.
    """
    spans: list[tuple[int, int]] = []
    for piece in _PIECES.finditer(text):
        start = piece.start()
        for at in range(piece.start(), piece.end()):
            if _is_unspaced(text[at]):
                spans += [(start, at)] if start < at else []
                spans.append((at, at + 1))
                start = at + 1
        spans += [(start, piece.end())] if start < piece.end() else []
    return Words(text, tuple(spans))


def word_units(words: Words, token_spans: Sequence[tuple[int, int]], *, piece: WordPiece = "first") -> tuple[Unit, ...]:
    """Which token each word is read at.

    Args:
        words: the text's.
        token_spans: the characters of each token, without white space around them.
        piece: which of a word's tokens: on a causal model the last one that begins in it has seen the whole word.

    Returns:
        Units in order; a word that no token touches (a mark that the tokenizer drops) is in none.
    """
    owner = {at: number for number, (start, end) in enumerate(words.spans) for at in range(start, end)}
    touching: dict[int, list[int]] = {}
    beginning: dict[int, int] = {}  # the last token that begins in a word
    for token, (start, end) in enumerate(token_spans):
        numbers = dict.fromkeys(owner[at] for at in range(start, end) if at in owner)
        for number in numbers:
            touching.setdefault(number, []).append(token)
        if numbers:
            beginning[next(iter(numbers))] = token
    units: list[Unit] = []
    for word in sorted(touching):
        free = [token for token in touching[word] if not units or token > units[-1].token]
        if free:
            units.append(Unit(free[0] if piece == "first" else beginning.get(word, free[0]), word, word + 1))
        else:  # the token of the word in front covers this one too
            units[-1] = Unit(units[-1].token, units[-1].begin, word + 1)
    return tuple(units)


def _is_unspaced(char: str) -> bool:
    return bool(char) and written_with_spaces(char) is False
