"""The order in which training rows are seen: shuffled anew in each epoch, rows of like length together where that is wanted.

In: how many rows, of what lengths. Out: an epoch's batches, as numbers of rows; the same seed and epoch give the same ones.
"""

from collections.abc import Sequence

import torch

__all__ = ["epoch_batches"]

_BATCHES_SORTED = 16
"""Batches whose rows are sorted together: few enough that a row meets others in each epoch, enough for little padding."""


def epoch_batches(
    num_rows: int, batch_size: int, *, seed: int, epoch: int, lengths: Sequence[int] | None = None
) -> list[list[int]]:
    """All rows once, in batches.

    Args:
        num_rows: of the training set.
        batch_size: rows of a batch; the last may have fewer.
        seed, epoch: decide the order.
        lengths: tokens of each row; with them, rows are sorted by length within runs of shuffled batches, and the batches
            shuffled again, so that a batch holds rows of like length and little is padded.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(num_rows, generator=generator).tolist()
    if lengths is None:
        return _cut(order, batch_size)
    runs = _cut(order, batch_size * _BATCHES_SORTED)
    batches = [batch for run in runs for batch in _cut(sorted(run, key=lambda row: lengths[row]), batch_size)]
    return [batches[number] for number in torch.randperm(len(batches), generator=generator).tolist()]


def _cut(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[at : at + size] for at in range(0, len(numbers), size)]
