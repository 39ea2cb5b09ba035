"""Rows of choices: what is prepared of them, what they and their answers are in the data, what is said about one.

In: a row's columns. Out: its choices and the number of the right one; `PreparedChoices`, `ChoicePrediction`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptune.data import FieldValue
from ptune.errors import DataError
from ptune.inputs import AnswerWords
from ptune.model.read_model import PreparedTexts
from ptune.objective import ChoiceReport, choice_report

__all__ = ["ChoicePrediction", "PreparedChoices", "answer_of", "choices_of", "report_of"]


@dataclass(frozen=True)
class ChoicePrediction:
    """What the task says about one row.

    Args:
        answer: number of the most probable choice, from 0.
        choice: its text.
        probabilities: of the row's choices, in their order.
    """

    answer: int
    choice: str
    probabilities: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"answer": self.answer, "choice": self.choice, "probabilities": list(self.probabilities)}

    def __str__(self) -> str:
        return f"{self.choice}  {self.probabilities[self.answer]:.2f}"


@dataclass(frozen=True)
class PreparedChoices(PreparedTexts):
    """Rows with their choices; `labels` are the numbers of the right ones.

    Args:
        words: each row's choices as tokens, where they fill the slot.
    """

    words: tuple[AnswerWords, ...] = ()


def choices_of(value: FieldValue, where: str) -> tuple[str, ...]:
    """Choices from a list, or from one text with bars between them.

    Raises:
        DataError: fewer than two, or an empty one.
    """
    choices = tuple(choice.strip() for choice in (value.split("|") if isinstance(value, str) else value))
    if len(choices) < 2 or not all(choices):
        what = "an empty choice" if len(choices) > 1 else "no choices" if not any(choices) else "one choice"
        raise DataError(f"the row has {what}", where=where, fix='give a list of at least two texts, or "one | other"')
    return choices


def answer_of(value: FieldValue, choices: Sequence[str], where: str) -> int:
    """The right choice's number: as written, or by its text.

    Raises:
        DataError: there is no such choice, or two that read alike.
    """
    text = value.strip() if isinstance(value, str) else " ".join(value)
    if text.isdecimal() and int(text) < len(choices):
        return int(text)
    if choices.count(text) != 1:
        what = f"the answer {text!r} is none of the {len(choices)} choices" if text not in choices else f"{text!r} stands twice"
        raise DataError(what, where=where, fix=f"give its number, 0 to {len(choices) - 1}")
    return choices.index(text)


def report_of(scores: Tensor, prepared: PreparedChoices) -> ChoiceReport:
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(prepared.labels)).item() if len(prepared) else None
    return choice_report(prepared.labels, scores.argmax(1).tolist(), prepared.counts, loss=loss)
