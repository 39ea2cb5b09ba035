"""The recipe keys that belong to kinds of task: which kind, which columns hold what, and each kind's own settings.

A key may only stand in a recipe whose `task` takes it: the kinds say so themselves (`TaskModel.keys`, `input_keys`,
`target_keys`), so that a new kind adds its keys here (and a line to `ptune init`) and nothing else has to know them.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ptune.model import KINDS, TaskModel

__all__ = ["TaskKeys", "foreign_key", "kinds_with"]

_WITH = {"labels": ("aggregate", "length", "terminator"), "pool": ("head",)}
"""Recipe keys that a kind takes with one of its own."""


class TaskKeys(BaseModel):
    """Keys of kinds of task.

    Args:
        task: the kind: classification (one label of several), generation (a text), dialogue (the next reply), ...
        target: the column that holds the text to write.
        references: the column that holds further right texts (a list), if there is one.
        max_new_tokens: tokens that an answer may have, its end included.
        chat_template: Jinja text, or `plain`; None takes the model's own.
        decode: how answers are written: beams, length_penalty, stop, temperature, top_k, top_p, seed, returns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = "classification"
    target: str = "target"
    references: str = "references"
    max_new_tokens: int = Field(default=64, ge=1)
    chat_template: str | None = None
    decode: dict[str, Any] | None = None


def kinds_with(key: str) -> tuple[str, ...]:
    """The kinds of task that take a key of their own; none for the keys of all recipes."""
    return tuple(name for name, kind in KINDS.items() if key in _keys(kind))


def foreign_key(kind: type[TaskModel], given: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """The first key that belongs to other kinds of task alone, and their names."""
    for key in given:
        others = kinds_with(key)
        if others and key not in _keys(kind):
            return key, others
    return None


def _keys(kind: type[TaskModel]) -> set[str]:
    own = {*kind.keys, *kind.input_keys, *kind.target_keys, *(["label"] if kind.reads_label else [])}
    return own | {key for name in own for key in _WITH.get(name, ())}
