"""`majority`: the commonest label of the training rows for every text; what a method must beat to have learned anything.

With equal shots of each class it is the first label. Its probabilities are the shares of the labels.
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

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Nothing to choose."""
        return [{}]

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Counts."""
        counts = np.bincount(setup.classes(train), minlength=len(setup.labels))
        return _Shares(num_bytes=8 * len(counts), shares=counts / counts.sum())


Registry.add(Majority())
