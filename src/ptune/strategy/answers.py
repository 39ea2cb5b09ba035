"""The answer in a text that was reasoned out: how it is written, how it is read back, and what many such texts answer together.

In: texts. Out: answers, or None where there is none. The rule: the answer is what stands at the last place where the text says
the form's words, as far as the words behind it or the end of the line; letters of either case and any white space will do.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from ptune.errors import RecipeError

__all__ = ["AnswerForm", "label_of", "plain", "vote"]

_SLOT = "{answer}"
_EDGES = " \t.,;:!?\"'`*()[]。，；：！？“”‘’「」（）"
_MONEY = re.compile(r"^[$€£¥]|[$€£¥%]$")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_MOST_DIGITS = 64
"""Before or behind the point; a number with more is compared as it is written."""


class AnswerForm:
    """How an answer is said: `The answer is {answer}.`

    Args:
        form: words, with `{answer}` once and something in front of it.

    Raises:
        RecipeError: no slot, several, or no words to know it by.
    """

    def __init__(self, form: str) -> None:
        if form.count(_SLOT) != 1:
            raise RecipeError(
                f"{form!r} does not say {_SLOT} once", where="cot.answer", fix=f'write answer: "The answer is {_SLOT}."'
            )
        before, after = form.split(_SLOT)
        if not before.strip():
            raise RecipeError(
                "nothing stands in front of the answer to know it by",
                where="cot.answer",
                fix=f'write answer: "The answer is {_SLOT}."',
            )
        self.form = form
        self.start = before.rstrip()
        space = r"\s*" if before.rstrip(" \t").endswith("\n") else r"[ \t]*"
        self._pattern = re.compile(_loose(before) + space + r"([^\n]+?)[ \t]*" + _end(after), re.IGNORECASE)

    def say(self, answer: str) -> str:
        """The form with an answer in it."""
        return self.form.replace(_SLOT, answer)

    def read(self, text: str) -> str | None:
        """The answer that a text ends up with, None where it says none.

        Args:
            text: as it was written.
        """
        found = self._pattern.findall(text)
        answer = found[-1].strip(_EDGES) if found else ""
        return answer or None


def plain(answer: str) -> str:
    """An answer as it is compared: without case, marks at its ends, currency and thousands; numbers by their value.

    >>> plain("$1,200.50.") == plain("1200.5")
    True
    """
    bare = _THOUSANDS.sub("", _MONEY.sub("", answer.strip(_EDGES)).strip())
    try:
        number = Decimal(bare) or Decimal(0)
    except InvalidOperation:
        return " ".join(bare.casefold().split())
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        return bare.casefold()
    written = format(number, "f")
    return written.rstrip("0").rstrip(".") if "." in written else written


def vote(answers: Sequence[str | None]) -> tuple[str | None, dict[str, int]]:
    """What most texts answer, and the votes of each answer; of equals, the answer that was given first.

    Args:
        answers: of each text; None does not vote.

    Source: Wang et al. 2023 (Self-consistency improves chain of thought reasoning), equation of section 2: the unweighted sum,
    which was as good there as weights by probability.
    """
    written: dict[str, str] = {}
    votes: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            key = plain(answer)
            votes[key] = votes.get(key, 0) + 1
            written.setdefault(key, answer)
    if not votes:
        return None, {}
    best = max(votes, key=lambda key: votes[key])  # max keeps the first of equals
    return written[best], {written[key]: count for key, count in votes.items()}


def label_of(answer: str, names: Mapping[str, Sequence[str]]) -> str | None:
    """The label that an answer is, by name or by one of its words; None where it is none or says more than that."""
    said = plain(answer)
    return next((name for name, words in names.items() if said in {plain(word) for word in (name, *words)}), None)


def _loose(words: str) -> str:
    return r"\s+".join(re.escape(word) for word in words.split())


def _end(after: str) -> str:
    """Where an answer ends: at the words behind it, which a full stop inside a number is not, or at the line's end."""
    stop = after.strip()
    if not stop:
        return r"(?=\n|$)"
    edge = r"(?:\s|$)" if stop[-1].isascii() else ""  # Chinese goes on without a space
    return rf"(?={re.escape(stop)}{edge}|\n|$)"
