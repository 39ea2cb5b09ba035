"""Slips of the pen: typing errors, casing, missing punctuation, and texts with something appended that says nothing.

One word in ten gets a typing error, at least one; in Chinese one character in fifteen is lost, doubled or swapped with the
next. Source of the kinds: Ribeiro et al. 2020 (CheckList); the sentences are our own.
"""

import random
import re
import unicodedata

from ptune.compare.stress.perturbation import Change, Perturbations

__all__ = ["appended", "slip", "slip_in_chinese"]

_NEAR = {
    "a": "sq",
    "b": "vn",
    "c": "xv",
    "d": "sf",
    "e": "wr",
    "f": "dg",
    "g": "fh",
    "h": "gj",
    "i": "uo",
    "j": "hk",
    "k": "jl",
    "l": "k",
    "m": "n",
    "n": "bm",
    "o": "ip",
    "p": "o",
    "q": "wa",
    "r": "et",
    "s": "ad",
    "t": "ry",
    "u": "yi",
    "v": "cb",
    "w": "qe",
    "x": "zc",
    "y": "tu",
    "z": "x",
}
_SHARE_OF_WORDS, _SHARE_OF_CHARACTERS = 0.1, 1 / 15
_WORD = re.compile(r"[A-Za-z]{4,}")
_IDLE = {
    "en": (
        "I am writing this on a Tuesday.",
        "Sent from my phone.",
        "See www.example.org/p/48213 for the list.",
        "12345 67890",
    ),
    "zh": ("以上写于星期二。", "发自我的手机。", "清单见 www.example.org/p/48213。", "编号：1234567890"),
}


def slip(text: str, draw: random.Random) -> str:
    """Typing errors in English words of four letters or more: two letters swapped, one lost, doubled, or its neighbour's."""
    words = list(_WORD.finditer(text))
    chosen = draw.sample(words, min(len(words), max(1, round(_SHARE_OF_WORDS * len(words)))))
    for match in sorted(chosen, key=lambda one: -one.start()):
        text = text[: match.start()] + _mistyped(match[0], draw) + text[match.end() :]
    return text


def _mistyped(word: str, draw: random.Random) -> str:
    at = draw.randrange(1, len(word) - 1)
    kind = draw.choice(("swap", "lose", "double", "near"))
    if kind == "swap" and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == "lose":
        return word[:at] + word[at + 1 :]
    if kind == "near" and word[at].lower() in _NEAR:
        return word[:at] + draw.choice(_NEAR[word[at].lower()]) + word[at + 1 :]
    return word[: at + 1] + word[at:]


def slip_in_chinese(text: str, draw: random.Random) -> str:
    """Characters lost, doubled or swapped with the next."""
    places = [at for at, character in enumerate(text) if "一" <= character <= "鿿"]
    chosen = draw.sample(places, min(len(places), max(1, round(_SHARE_OF_CHARACTERS * len(places))))) if places else []
    for at in sorted(chosen, reverse=True):
        kind = draw.choice(("lose", "double", "swap"))
        if kind == "lose" and len(text) > 1:
            text = text[:at] + text[at + 1 :]
        elif kind == "swap" and at + 1 < len(text):
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        else:
            text = text[: at + 1] + text[at:]
    return text


def appended(language: str, *, in_front: bool) -> Change:
    """A change that puts a sentence which says nothing in front of a text, or behind it."""
    space = " " if language == "en" else ""

    def change(text: str, draw: random.Random) -> str:
        sentence = draw.choice(_IDLE[language])
        return f"{sentence}{space}{text}" if in_front else f"{text}{space}{sentence}"

    return change


def _bare(text: str) -> str:
    """Without punctuation; a text of punctuation alone stays."""
    bare = "".join(" " if unicodedata.category(one).startswith("P") and one != "'" else one for one in text)
    return " ".join(bare.split()) or text


Perturbations.add("typos", ("typing errors", "拼写错误"), slip, ("en",))
Perturbations.add("slips", ("characters lost, doubled or swapped", "漏字、重字、颠倒"), slip_in_chinese, ("zh",))
Perturbations.add("lower-case", ("lower case", "全小写"), lambda text, draw: text.lower(), ("en",))
Perturbations.add("upper-case", ("upper case", "全大写"), lambda text, draw: text.upper(), ("en",))
Perturbations.add("title-case", ("Title Case", "首字母大写"), lambda text, draw: text.title(), ("en",))
Perturbations.add("no-punctuation", ("no punctuation", "去掉标点"), lambda text, draw: _bare(text))
for _language in ("en", "zh"):
    _front, _behind = (appended(_language, in_front=in_front) for in_front in (True, False))
    Perturbations.add(f"idle-front-{_language}", ("an idle sentence in front", "文首加无关句"), _front, (_language,))
    Perturbations.add(f"idle-behind-{_language}", ("an idle sentence behind", "文末加无关句"), _behind, (_language,))
