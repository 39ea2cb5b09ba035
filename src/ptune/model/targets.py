"""What training rows are pulled towards beside their labels: whole distributions over labels, and which candidate may see them.

In: prepared rows. Out: `TargetRows`, and batches of them. Distributions come from a teacher (PET's ensemble) or from the prompt
as it started; folds keep each candidate from its share of the rows, which then judge it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ptune.inputs import Batch
from ptune.model.outcome import Prepared

__all__ = ["TargetBatch", "TargetRows", "fold_numbers", "target_batch", "target_rows"]


@dataclass(frozen=True)
class TargetRows(Prepared):
    """Prepared rows with more than labels to learn from.

    Args:
        targets: probability of each label, one tuple a row; empty where the labels alone count.
        folds: the fold of each row; empty where every candidate sees all rows.
    """

    targets: tuple[tuple[float, ...], ...] = ()
    folds: tuple[int, ...] = ()


@dataclass(frozen=True)
class TargetBatch(Batch):
    """A batch of such rows.

    Args:
        targets: [B, C], or None.
        folds: each row's fold, or None.
    """

    targets: Float[Tensor, "B C"] | None = None
    folds: tuple[int, ...] | None = None

    def seen_by(self, candidate: int) -> Bool[Tensor, " B"]:
        """Which rows a candidate learns from: all but those of its own fold."""
        if self.folds is None:
            return torch.ones(self.num_examples, dtype=torch.bool)
        return torch.tensor([fold != candidate for fold in self.folds])


def target_rows(rows: Prepared, *, targets: Float[Tensor, "B C"] | None = None, folds: Sequence[int] = ()) -> TargetRows:
    """Rows with distributions to learn, or with folds, or with both."""
    values: dict[str, Any] = {one.name: getattr(rows, one.name) for one in fields(Prepared)}
    listed = () if targets is None else tuple(map(tuple, targets.tolist()))
    return TargetRows(**values, targets=listed, folds=tuple(folds))


def target_batch(batch: Batch, rows: TargetRows, index: Sequence[int]) -> TargetBatch:
    """A batch of these rows with what they are to be pulled towards."""
    values: dict[str, Any] = {one.name: getattr(batch, one.name) for one in fields(Batch)}
    targets = torch.tensor([rows.targets[i] for i in index]) if rows.targets else None
    return TargetBatch(**values, targets=targets, folds=tuple(rows.folds[i] for i in index) if rows.folds else None)


def fold_numbers(labels: Sequence[int], num_folds: int) -> tuple[int, ...]:
    """A fold for each row, the rows of each class spread over all folds in their order."""
    seen: dict[int, int] = {}
    numbers = []
    for label in labels:
        seen[label] = seen.get(label, -1) + 1
        numbers.append(seen[label] % num_folds)
    return tuple(numbers)
