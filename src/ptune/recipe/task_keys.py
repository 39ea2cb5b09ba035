"""The recipe keys that belong to kinds of task: which kind, which columns hold what, and each kind's own settings.

A key may only stand in a recipe whose `task` takes it: the kinds say so themselves (`TaskModel.keys`, `input_keys`,
`target_keys`), so that a new kind adds its keys here (and a line to `ptune init`) and nothing else has to know them.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ptune.model import KINDS, TaskModel

__all__ = ["TaskKeys", "foreign_key", "kinds_with"]

_WITH = {"pool": ("head",), "doc_stride": ("head",)}
"""Recipe keys that a kind takes with one of its own."""
_OF_WORDS = ("aggregate", "length", "terminator")
"""Recipe keys of label words."""


class TaskKeys(BaseModel):
    """Keys of kinds of task.

    Args:
        task: the kind: classification (one label of several), entailment (the same, each label asked for), multi-label (any
            number of labels), regression (a number), choice (one of a row's own choices), cloze (a word of the vocabulary),
            generation (a text), dialogue (the next reply), tagging (a tag for each word), qa (a span of a text).
        threshold: multi-label: the probability from which a label is given; None chooses it on the validation rows.
        loss: regression: cross-entropy over levels, or the squared error; None takes the first where labels are given.
        choices: choice: the column with the choices, a list.
        answer: choice: the column with the right one's number, from 0, or its text.
        negatives: entailment: wrong labels that a row is asked with in each training step; None for all.
        yes_no: choice, multi-label, entailment: the words for yes and no, where each text in {choice} is judged by words.
        gap: choice, cloze: what marks the answer slot in the text itself, such as `#idiom#`; the template then has no {mask}.
        target: the column that holds the text to write.
        references: the column that holds further right texts (a list), if there is one.
        max_new_tokens: tokens that an answer may have, its end included.
        chat_template: Jinja text, or `plain`; None takes the model's own.
        tags: the column that holds the tags (a list); the words stand in `tokens`.
        scheme: of the tags that are learned (IO, BIO, BIOES, BILOU, BMES); None for that of the training rows.
        valid_tags: only tags that may follow the one in front are given out.
        word_piece: which token of a word is read (first, last).
        answers: the column that holds the right answers, in SQuAD's form.
        no_answer: whether it may be said that there is no answer; None where some training row has none.
        max_answer_tokens: of an answer that is taken from a text.
        n_best: answers that a prediction lists.
        doc_stride: tokens that two neighbouring windows of a long text share; None for a third of a window.
        decode: how answers are written: beams, length_penalty, stop, temperature, top_k, top_p, seed, returns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = "classification"
    threshold: float | None = Field(default=None, gt=0, lt=1)
    negatives: int | None = Field(default=None, ge=1)
    loss: Literal["cross-entropy", "squared"] | None = None
    choices: str = "choices"
    answer: str = "answer"
    yes_no: list[str | list[str]] | None = None
    gap: str | None = Field(default=None, min_length=1)
    target: str = "target"
    references: str = "references"
    max_new_tokens: int = Field(default=64, ge=1)
    chat_template: str | None = None
    tags: str = "tags"
    scheme: Literal["IO", "BIO", "BIOES", "BILOU", "BMES"] | None = None
    valid_tags: bool = True
    word_piece: Literal["first", "last"] = "first"
    answers: str = "answers"
    no_answer: bool | None = None
    max_answer_tokens: int = Field(default=30, ge=1)
    n_best: int = Field(default=5, ge=1)
    doc_stride: int | None = Field(default=None, ge=0)
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
    return own | {key for name in own for key in _WITH.get(name, ())} | set(_OF_WORDS if kind.label_words else ())
