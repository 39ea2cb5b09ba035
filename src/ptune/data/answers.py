"""The right answers of a question on a text: SQuAD's form, in either spelling, goes in; texts with their places come out."""

import json
from typing import Any

from ptune.data.example import FieldValue
from ptune.errors import DataError

__all__ = ["Answer", "read_answers"]

Answer = tuple[str, int | None]
"""A text, and the character of the context that it begins at, where that is given."""

_FIX = 'write {"text": ["..."], "answer_start": [0]}, or an empty list for a question without an answer'


def read_answers(value: FieldValue, where: str) -> tuple[Answer, ...]:
    """Reads a row's answers; none where the question has none.

    Args:
        value: `{"text": [...], "answer_start": [...]}` or a list of `{"text": ..., "answer_start": ...}` as JSON text;
            or texts alone.
        where: the row, for messages.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, tuple):
        return tuple((text, None) for text in value)
    try:
        return tuple(_answers(json.loads(value)))
    except (ValueError, TypeError, KeyError):
        raise DataError("the answers cannot be read", where=where, fix=_FIX) from None


def _answers(held: Any) -> list[Answer]:
    if isinstance(held, list):
        return [(_text(one["text"]), _start(one.get("answer_start"))) for one in held]
    texts = held["text"]
    if isinstance(texts, str):
        texts = [texts]
    starts = held.get("answer_start", [None] * len(texts))
    starts = [starts] if isinstance(starts, int) else starts
    return [(_text(text), _start(start)) for text, start in zip(texts, starts, strict=True)]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _start(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError
    return value
