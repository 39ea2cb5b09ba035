"""What extracted answers are worth: exact match and F1 as the scripts of SQuAD and, for Chinese, of CMRC 2018 define them.

In: predicted answers and, for each, all right ones (none where the question has no answer). Out: `SpanReport`. The best of
several right answers counts. SQuAD (Rajpurkar et al. 2016, 2018) compares bags of words without case, punctuation and articles;
CMRC 2018 (Cui et al. 2019) compares characters of Chinese and words of everything else, and counts the longest run of them that
both have. No answer is "" and matches only no answer.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ptune.errors import DataError
from ptune.objective.report import wilson
from ptune.template import dominant_script, written_with_spaces

__all__ = ["SpanReport", "SpanRule", "answer_scores", "span_report", "span_rule"]

SpanRule = Literal["squad", "cmrc"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# The marks that CMRC 2018's script leaves out. Its list has the ellipsis as two characters, so that a single one stays.
_CMRC_LEFT_OUT = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# A word as Treebank's rules cut it, or one mark: a comma in front of a digit and a full stop that does not end a stretch (3.5,
# 1,000, h. mcarthur) stay in the word.
_WORD = re.compile(r"""(?:[^\s.,;@#$%&?!"()\[\]{}<>—]|,(?=\d)|\.(?!\s*(?:\n|\Z)))+|\S""")


@dataclass(frozen=True)
class SpanReport:
    """Figures of one evaluation of extracted answers.

    Args:
        score: mean F1.
        exact: share of rows whose answer is right as a whole.
        interval: 95 % interval of `exact`.
        num_rows: rows judged.
        num_answerable: rows that have an answer.
        answerable_f1: mean F1 of these; None where there are none.
        unanswerable_exact: share of the others for which no answer was given; None where there are none.
        rule: whose definition.
        metric: what `score` is.
    """

    score: float
    exact: float
    interval: tuple[float, float]
    num_rows: int
    num_answerable: int
    answerable_f1: float | None
    unanswerable_exact: float | None
    rule: SpanRule
    metric: str = "f1"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The figures for people."""
        low, high = self.interval
        lines = [
            f"F1 {self.score:.3f}, exact {self.exact:.3f} (95 % interval {low:.3f} to {high:.3f}), "
            f"{self.num_rows} rows, by the rules of {'SQuAD' if self.rule == 'squad' else 'CMRC 2018'}"
        ]
        if self.answerable_f1 is not None and self.unanswerable_exact is not None:
            lines.append(
                f"  with an answer: F1 {self.answerable_f1:.3f}, {self.num_answerable} rows; without: "
                f"right {self.unanswerable_exact:.3f}, {self.num_rows - self.num_answerable} rows"
            )
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def span_report(predicted: Sequence[str], answers: Sequence[Sequence[str]], *, rule: SpanRule | None = None) -> SpanReport:
    """Judges extracted answers.

    Args:
        predicted: one text a row; "" says that there is no answer.
        answers: the right texts of each row; none where the question has no answer.
        rule: "squad" or "cmrc"; None takes CMRC's where most of the answers are in a script without spaces.

    Raises:
        DataError: the numbers of rows differ.
    """
    if len(predicted) != len(answers):
        raise DataError(f"{len(predicted)} predicted answers for {len(answers)} rows", fix="predict each row once")
    chosen = rule or span_rule(answers)
    pairs = [answer_scores(guess, right, rule=chosen) for guess, right in zip(predicted, answers, strict=True)]
    with_answer = [f1 for (_, f1), right in zip(pairs, answers, strict=True) if _given(right, chosen) != [""]]
    without = [exact for (exact, _), right in zip(pairs, answers, strict=True) if _given(right, chosen) == [""]]
    num_exact = sum(exact for exact, _ in pairs)
    return SpanReport(
        score=_mean([f1 for _, f1 in pairs]) or 0.0,
        exact=num_exact / len(pairs) if pairs else 0.0,
        interval=wilson(num_exact, len(pairs)),
        num_rows=len(pairs),
        num_answerable=len(with_answer),
        answerable_f1=_mean(with_answer),
        unanswerable_exact=_mean(without),
        rule=chosen,
    )


def answer_scores(predicted: str, answers: Sequence[str], *, rule: SpanRule) -> tuple[bool, float]:
    """Exact match and F1 of one answer, against the best of the right ones.

    Args:
        predicted: the text; "" says that there is no answer.
        answers: the right texts; none, or none with anything but punctuation and articles, means that there is no answer.
        rule: "squad" or "cmrc".
    """
    clean, units, overlap = _parts(rule)
    guess = clean(predicted)
    guess_units = units(predicted)
    exact, best = False, 0.0
    for right in _given(answers, rule):
        exact = exact or guess == clean(right)
        right_units = units(right)
        if not guess_units or not right_units:
            best = max(best, float(guess_units == right_units))
            continue
        num_shared = overlap(guess_units, right_units)
        best = max(best, 2 * num_shared / (len(guess_units) + len(right_units)))
    return exact, best


def span_rule(answers: Sequence[Sequence[str]]) -> SpanRule:
    """CMRC's rule where most rows with a script are in one without spaces, such as Chinese; SQuAD's elsewhere."""
    scripts = Counter(dominant_script(" ".join(texts)) for texts in answers)
    return "cmrc" if scripts["unspaced"] > scripts["spaced"] else "squad"


_Parts = tuple[Callable[[str], str], Callable[[str], list[str]], Callable[[list[str], list[str]], int]]


def _parts(rule: SpanRule) -> _Parts:
    """How a rule cleans a text for the exact match, cuts it into units, and counts the units that two texts share."""
    if rule == "squad":
        return _squad_clean, lambda text: _squad_clean(text).split(), _num_in_both
    return _cmrc_clean, _cmrc_units, _longest_run


def _given(answers: Sequence[str], rule: SpanRule) -> list[str]:
    """The right answers that say anything; [""] where there is none."""
    clean = _parts(rule)[0]
    return [answer for answer in answers if clean(answer)] or [""]


# ---- SQuAD


def _squad_clean(text: str) -> str:
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _num_in_both(left: list[str], right: list[str]) -> int:
    return (Counter(left) & Counter(right)).total()


# ---- CMRC 2018


def _cmrc_clean(text: str) -> str:
    return text.lower().strip().translate(_CMRC_LEFT_OUT)


def _cmrc_units(text: str) -> list[str]:
    """Each letter of a script without spaces by itself, each word of another script as a whole."""
    stretches = " ".join(_cmrc_clean(text).split())
    return _WORD.findall("".join(f"\n{char}\n" if written_with_spaces(char) is False else char for char in stretches))


def _longest_run(left: list[str], right: list[str]) -> int:
    """Length of the longest run of units that both lists have in one piece."""
    longest = 0
    ending_here = [0] * (len(right) + 1)  # longest common run that ends at each unit of `right`
    for unit in left:
        previous, ending_here = ending_here, [0] * (len(right) + 1)
        for place, other in enumerate(right, 1):
            if unit == other:
                ending_here[place] = previous[place - 1] + 1
                longest = max(longest, ending_here[place])
    return longest


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
