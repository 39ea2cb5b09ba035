"""What a stress test does to texts: a `Perturbation` turns one text into another, or leaves it as it is.

In: a text, a source of random numbers that is a function of seed and text, the language. Out: the text as a careless, hasty
or hostile writer might have written it. `keeps_label` says whether the right answer stays: where it does not (a negation),
only how many answers change is told.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ptune.compare.wording import Both

__all__ = ["Change", "Perturbation", "Perturbations", "generator"]

Change = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class Perturbation:
    """One way to change texts.

    Args:
        name: in reports and on the command line.
        title: in English and Chinese.
        change: (text, random numbers) -> text; the same text where there is nothing to change.
        languages: of the texts that it makes sense for.
        keeps_label: whether the right answer stays what it was.
    """

    name: str
    title: Both
    change: Change
    languages: tuple[str, ...] = ("en", "zh")
    keeps_label: bool = True


class Perturbations:
    """All of them by name, in the order of reports."""

    known: ClassVar[dict[str, Perturbation]] = {}

    @classmethod
    def add(
        cls, name: str, title: Both, change: Change, languages: tuple[str, ...] = ("en", "zh"), *, keeps_label: bool = True
    ) -> None:
        """Makes one known."""
        cls.known[name] = Perturbation(name, title, change, languages, keeps_label)

    @classmethod
    def of(cls, language: str) -> list[Perturbation]:
        """Those for a language."""
        return [one for one in cls.known.values() if language in one.languages]


def generator(name: str, text: str, seed: int) -> random.Random:
    """Random numbers that depend on the perturbation, the text and the seed alone, not on the order of rows."""
    return random.Random(hashlib.sha256(f"{name} {seed} {text}".encode()).digest())
