"""What goes into a task's model and what comes out: prepared rows, what a batch gave, a look at validation, a prediction.

Kinds of task subclass `Prepared` (and `ptune.inputs.Batch`) to carry what their rows are trained towards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import KeptContexts
from ptune.inputs import Encoded

__all__ = ["Look", "Outcome", "Prepared", "TaskPrediction"]


P = TypeVar("P", bound="Prepared")


@dataclass(frozen=True)
class Outcome:
    """What one batch gave.

    Args:
        scores: [B, C] label scores, of which softmax are the probabilities; of other kinds of task, of any shape.
        loss: mean loss, or None where no targets were known; of candidates, the sum of theirs.
        candidate_scores, candidate_losses: each candidate's [J, B, C] and [J], or None without candidates.
    """

    scores: Tensor
    loss: Tensor | None = None
    candidate_scores: Float[Tensor, "J B C"] | None = None
    candidate_losses: Float[Tensor, " J"] | None = None

    @property
    def probabilities(self) -> Tensor:
        """softmax over labels."""
        return torch.softmax(self.scores, 1)

    def plus(self, more: Float[Tensor, " J"]) -> "Outcome":
        """With a further loss of each candidate (one, without candidates)."""
        assert self.loss is not None
        each = None if self.candidate_losses is None else self.candidate_losses + more
        return replace(self, loss=self.loss + more.sum(), candidate_losses=each)


@dataclass(frozen=True)
class Prepared:
    """Rows ready to be batched.

    Args:
        encoded: tokens of each row.
        labels: class numbers, -1 where unknown; empty where the kind of task has none.
        contexts: kept keys and values of each row's constant beginning, or None.
    """

    encoded: tuple[Encoded, ...]
    labels: tuple[int, ...] = ()
    contexts: KeptContexts | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def num_cut(self) -> int:
        """How many rows were shortened to fit."""
        return sum(row.num_cut > 0 for row in self.encoded)

    def some(self: P, numbers: Sequence[int]) -> P:
        """The rows with these numbers: of every tuple that is as long as there are rows, those entries."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        per_row = [name for name, value in values.items() if isinstance(value, tuple) and len(value) == len(self)]
        chosen: dict[str, Any] = {name: tuple(values[name][i] for i in numbers) for name in per_row}
        return replace(self, **chosen)

    def at_most(self: P, count: int) -> P:
        """Rows evenly spaced over all of them; all where there are no more than `count`."""
        return self if len(self) <= count else self.some([number * len(self) // count for number in range(count)])


@dataclass(frozen=True)
class Look:
    """How a model does on validation rows.

    Args:
        score: the main figure of its kind of task; higher is better.
        loss: mean loss; of equal scores the lower loss wins.
    """

    score: float
    loss: float


@runtime_checkable
class TaskPrediction(Protocol):
    """What a task says about one row; its text is one short line for people."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
