"""`majority`: the commonest label for every text; what a method must beat to have learned anything.

The shots are as many of each class, so the labels of all of the training file are counted. Its probabilities are their shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptune.compare.contender import Contender, Fitted, Paradigm, Probabilities, Registry, Setup
from ptune.data import Example

__all__ = ["Majority"]


@dataclass(kw_only=True)
class _Shares(Fitted):
    shares: Probabilities

    def predict(self, rows: Sequence[Example]) -> Probabilities:
        return np.tile(self.shares, (len(rows), 1))


class Majority(Contender):
    """See the module's docstring."""

    name = "majority"
    title = "majority label"
    paradigm: Paradigm = "no learning"
    uses_label_counts = True

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Nothing to choose."""
        return [{}]

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Counts; the rows to learn from where no others are known."""
        counts = np.array(setup.label_counts or np.bincount(setup.classes(train), minlength=len(setup.labels)))
        return _Shares(num_bytes=8 * len(counts), shares=counts / counts.sum())


Registry.add(Majority())
