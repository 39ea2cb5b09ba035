"""Which scripts put spaces between words, and what that means for the word that fills the mask.

English, Russian and Korean are written with spaces; Chinese, Japanese and Thai are not. A label word gets a space in
front only where both it and what stands to its left are written with spaces: ` terrible` is one token for many models,
`terrible` two, and for Chinese words it is the other way round.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Literal

__all__ = ["OPEN_SLOT", "dominant_script", "leading_space", "written_with_spaces"]

OPEN_SLOT = "\ufffc"
"""Stands for a field or for learned tokens in the text that is handed to `leading_space`: no letter and no space."""

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x2E80, 0x30FF),  # CJK radicals, CJK punctuation, Kana
    (0x3100, 0x312F),  # Bopomofo
    (0x3190, 0x9FFF),  # CJK marks, more Kana, Han
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),  # Myanmar
    (0xF900, 0xFAFF),  # Han for compatibility
    (0xFE30, 0xFE4F),  # CJK punctuation forms
    (0xFF00, 0xFF9F),  # full-width forms, half-width Kana
    (0x1AFF0, 0x1B16F),  # Kana supplements
    (0x20000, 0x3FFFF),  # Han
)


def written_with_spaces(char: str) -> bool | None:
    """Tells whether a character belongs to a script that puts spaces between words.

    Args:
        char: one character.

    Returns:
        True for letters of a script with spaces (Latin, Cyrillic, Hangul, ...); False for Han, Kana, Thai, Lao, Khmer,
        Myanmar and Tibetan letters and for the punctuation of Chinese and Japanese, next to which no space is written;
        None for what says nothing: white space, digits, symbols and other punctuation.
    """
    kind = unicodedata.category(char)[0]
    if kind in "ZNC" or char.isspace():
        return None
    if any(first <= ord(char) <= last for first, last in _UNSPACED):
        return None if kind == "S" else False
    return True if kind in "LM" else None


def dominant_script(text: str) -> Literal["spaced", "unspaced", "none"]:
    """Tells how most of a text is written: words between spaces, or letters without; "none" without any letter.

    A run of letters of a script with spaces counts as one, so that a Chinese sentence with an English name in it stays
    Chinese.
    """
    counts: Counter[bool] = Counter()
    previous: bool | None = None
    for char in text:
        spaced = written_with_spaces(char) if unicodedata.category(char)[0] in "LM" else None
        if spaced is False or (spaced and not previous):
            counts[spaced] += 1
        previous = spaced
    if not counts:
        return "none"
    return "spaced" if counts[True] > counts[False] else "unspaced"


def leading_space(template_left: str, word: str, *, left_is_open: bool) -> str:
    """Decides the white space in front of a word that fills the mask.

    Args:
        template_left: the hard text left of the mask with its white space; fields and learned tokens as `OPEN_SLOT`.
        word: the word that fills the mask; one without letters (a number) goes with what stands to its left.
        left_is_open: whether the last thing left of the mask, hard text aside, is a field or learned tokens.

    Returns:
        " " or "". A line break or an opening quote or bracket directly left of the mask means "".
    """
    bare = template_left.rstrip()
    space = template_left[len(bare) :]
    if "\n" in space or (not space and bare and _opens(bare[-1])):
        return ""
    left, right = _first_script(reversed(bare)), _first_script(word)
    if left is None:
        return " " if right is not False and (space or (left_is_open and right)) else ""
    return " " if left and right is not False else ""


def _first_script(chars: Iterable[str]) -> bool | None:
    return next((spaced for char in chars if (spaced := written_with_spaces(char)) is not None), None)


def _opens(char: str) -> bool:
    return char in "\"'`" or unicodedata.category(char) in {"Ps", "Pi"}
