"""Steps over a table instead of a model: the next token's probabilities follow from the tokens so far, as the test says."""

import math
from collections.abc import Mapping, Sequence
from random import Random

import torch
from torch import Tensor

from ptune.decode import Steps

__all__ = ["TableSteps", "drawn_table"]

Table = Mapping[tuple[int, ...], Mapping[int, float]]


class TableSteps(Steps):
    """Rows that all follow one table; tokens that it does not name are impossible.

    Args:
        table: tokens so far -> token -> probability.
        num_rows: prompts.
        vocab_size: V.
    """

    def __init__(self, table: Table, num_rows: int, vocab_size: int) -> None:
        self.table, self.vocab_size = table, vocab_size
        self.rows: list[tuple[int, ...]] = [()] * num_rows
        self.widths = [num_rows]

    def start(self) -> Tensor:
        return self._scores()

    def step(self, tokens: Tensor) -> Tensor:
        self.rows = [(*row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
        self.widths.append(len(self.rows))
        return self._scores()

    def keep(self, rows: Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]

    def _scores(self) -> Tensor:
        scores = torch.full((len(self.rows), self.vocab_size), -math.inf)
        for row, ids in enumerate(self.rows):
            for token, probability in self.table[ids].items():
                scores[row, token] = math.log(probability)
        return scores


def drawn_table(tokens: Sequence[int], depth: int, seed: int) -> dict[tuple[int, ...], dict[int, float]]:
    """Random probabilities of these tokens behind every sequence of fewer than `depth` of them."""
    table: dict[tuple[int, ...], dict[int, float]] = {}
    random = Random(seed)
    layer: list[tuple[int, ...]] = [()]
    for _ in range(depth):
        for ids in layer:
            weights = [random.random() ** 2 + 0.01 for _ in tokens]
            table[ids] = {token: weight / sum(weights) for token, weight in zip(tokens, weights, strict=True)}
        layer = [(*ids, token) for ids in layer for token in tokens]
    return table
