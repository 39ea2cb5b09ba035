"""Rows of choices: what is prepared and batched of them, what they and their answers are in the data, what is said about one.

In: a row's columns. Out: its choices and the number of the right one; `PreparedChoices`, `ChoiceBatch`, `ChoicePrediction`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ptune.data import FieldValue
from ptune.errors import DataError
from ptune.inputs import AnswerWords, Batch, Encoded
from ptune.model.outcome import Prepared
from ptune.objective import ChoiceReport, choice_report

__all__ = ["ChoiceBatch", "ChoicePrediction", "PreparedChoices", "answer_of", "choice_batch", "choices_of", "report_of"]


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
class PreparedChoices(Prepared):
    """Rows with their choices; `labels` are the numbers of the right ones.

    Args:
        words: each row's choices as tokens, where they fill the slot.
        rows: each row once for every choice, where they are read in the template; `encoded` then holds the first ones.
        counts: how many choices each row has.
    """

    words: tuple[AnswerWords, ...] = ()
    rows: tuple[tuple[Encoded, ...], ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class ChoiceBatch(Batch):
    """A batch with each row's choices; see `PreparedChoices`.

    Args:
        words, counts: of the rows in the batch.
        num_behind: how many tokens behind the slot are scored with each choice.
    """

    words: tuple[AnswerWords, ...] = ()
    counts: tuple[int, ...] = ()
    num_behind: tuple[int, ...] = ()


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


def choice_batch(batch: Batch, **more: Any) -> ChoiceBatch:
    return ChoiceBatch(**{one.name: getattr(batch, one.name) for one in fields(batch)} | more)
