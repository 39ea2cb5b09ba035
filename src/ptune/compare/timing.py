"""How long a cell will take, and whether a budget has room for it.

In: cells that were run, with their seconds. Out: an estimate for the next: a method's own earlier cells, scaled by the number
of rows that it reads, or for a method not run yet, the seconds a row takes on this model by what has been run there, times
what the method says a training step costs. Cheap methods come first, so that estimates exist when dear ones are due.
"""

import time
from collections.abc import Sequence

from ptune.compare.contender import Contender
from ptune.compare.samples import SeedRows
from ptune.compare.spec import Line, Spec
from ptune.recipe import Recipe

__all__ = ["Clock"]

_NUM_LOOKS = 10


class Clock:
    """Seconds left, and what cells cost.

    Args:
        budget_seconds: None for no limit.
        spec: of the comparison.
    """

    def __init__(self, budget_seconds: float | None, spec: Spec) -> None:
        self._end = None if budget_seconds is None else time.perf_counter() + budget_seconds
        settings = Recipe.of(spec.recipe, where=spec.name).train_settings()
        self._num_steps, self._batch_size = settings.num_steps, settings.batch_size
        self._per_row: dict[str, float] = {}
        self._per_row_of: dict[tuple[str, str], float] = {}

    def order(self, lines: Sequence[Line]) -> list[int]:
        """Numbers of lines: with a budget the cheap ones first, else as they are."""
        if self._end is None:
            return list(range(len(lines)))
        return sorted(range(len(lines)), key=lambda at: (lines[at].backbone is not None, lines[at].contender.load_per_step))

    def refusal(self, line: Line, num_trials: int, rows: SeedRows, num_test: int) -> str:
        """Why a cell should not begin; empty where it may."""
        if self._end is None:
            return ""
        left = self._end - time.perf_counter()
        wanted = self.estimate(line, num_trials, rows, num_test)
        if wanted <= left:
            return ""
        return "no time left in the budget" + (f": about {wanted:.0f} s wanted, {max(0.0, left):.0f} s left" if wanted else "")

    def estimate(self, line: Line, num_trials: int, rows: SeedRows, num_test: int) -> float:
        """Seconds of a cell, 0 where nothing is known yet."""
        reads = self._reads(line.contender, num_trials, rows, num_test)
        own = self._per_row_of.get((line.contender.name, line.backbone_name))
        if own is not None:
            return own * reads
        return self._per_row.get(line.backbone_name, 0.0) * reads if line.backbone is not None else 0.0

    def learn(self, line: Line, seconds: float, num_trials: int, rows: SeedRows, num_test: int) -> None:
        """Takes note of a cell that was computed."""
        per_row = seconds / self._reads(line.contender, num_trials, rows, num_test)
        self._per_row_of[line.contender.name, line.backbone_name] = per_row
        if line.backbone is not None:
            known = self._per_row.get(line.backbone_name)
            self._per_row[line.backbone_name] = per_row if known is None else max(known / 2, min(known, per_row))

    def _reads(self, contender: Contender, num_trials: int, rows: SeedRows, num_test: int) -> float:
        """Rows that a cell reads, a row of a training step counted by its load."""
        steps = self._num_steps(len(rows.train)) * self._batch_size * (1 + contender.load_per_step)
        looks = _NUM_LOOKS * len(rows.validation)
        trained = steps + looks if contender.load_per_step else float(len(rows.train) + len(rows.validation))
        return num_trials * (trained + len(rows.validation)) + num_test
