"""Gives the rows of a run their contexts, all within one budget: the training rows first, what they leave is for validation.

In: prepared rows. Out: the same rows with kept contexts, where that is exact, worth it and fits (`decide_keeping`). Where no
row is read twice, nothing is held, and a batch's contexts are computed with it: no memory, and no pass before the first step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from ptune.errors import notice
from ptune.inputs import Encoded
from ptune.model import Prepared, TaskModel
from ptune.recipe.keeping import Keeping, decide_keeping, decide_validation, memory_for_contexts, storage
from ptune.recipe.recipe import Recipe

__all__ = ["ContextKeeper"]

_NUM_ROWS_COMPARED = 8

P = TypeVar("P", bound=Prepared)


class ContextKeeper:
    """Keeps contexts for one run, of one task or of several.

    Args:
        recipe: whose training keys count.
        say: told what happens, a line at a time.
    """

    def __init__(self, recipe: Recipe, say: Callable[[str], None] = lambda line: None) -> None:
        self.recipe, self.say = recipe, say
        self.memory_left = memory_for_contexts(recipe)

    def training(self, model: TaskModel, rows: P, *, numbers: Sequence[int] | None = None, num_rows: int | None = None) -> P:
        """Training rows of a task.

        Args:
            model: which reads them.
            rows: prepared.
            numbers: of the rows that the run may read; None for all.
            num_rows: that the run draws its batches from, where other tasks have some too.

        Raises:
            BackboneError: `keep_context: true` where that would not be exact, or a disk without room.
        """
        encoded = rows.encoded if numbers is None else [rows.encoded[number] for number in numbers]
        total = len(encoded) if num_rows is None else num_rows
        keeping = decide_keeping(model, self.recipe, encoded, num_rows=total, memory=self.memory_left)
        if keeping.remark:
            notice(keeping.remark)
        if not keeping.is_kept:
            return rows
        if keeping.place == "batch":
            settings = self.recipe.train_settings()
            most = min(len(encoded), settings.num_steps(total) * settings.accumulate * settings.batch_size)
            self.say(f"contexts of up to {most} of {len(encoded)} texts, each computed when it is read: none is read twice")
            return replace(rows, contexts=model.kept_contexts((), **storage(self.recipe, 0)))
        started = time.perf_counter()
        kept = self._kept(model, rows, encoded, keeping)
        seconds = time.perf_counter() - started
        self.say(f"kept the context of {len(encoded)} texts ({keeping.num_tokens} tokens) in {seconds:.1f} s")
        if self.recipe.context_dtype == "bf16":
            self.say(f"kept in bf16: label scores differ by up to {_cost_of_bf16(model, kept):.1e}")
        return kept

    def validation(self, model: TaskModel, rows: P, training: Prepared) -> P:
        """Validation rows, which every look reads: kept where those of the training rows are."""
        if training.contexts is None:
            return rows
        keeping = decide_validation(model, self.recipe, rows.encoded, self.memory_left)
        if keeping.remark:
            notice(keeping.remark)
        return self._kept(model, rows, rows.encoded, keeping) if keeping.is_kept else rows

    def _kept(self, model: TaskModel, rows: P, encoded: Sequence[Encoded], keeping: Keeping) -> P:
        form = storage(self.recipe, self.memory_left)
        may_share = keeping.place == "memory" and form["dtype"] is None
        if may_share and (shared := model.shared_contexts(encoded)) is not None:
            return replace(rows, contexts=shared)
        contexts = model.kept_contexts(encoded, **form)
        self.memory_left = contexts.memory_left or 0
        return replace(rows, contexts=contexts)


def _cost_of_bf16(model: TaskModel, kept: Prepared) -> float:
    """Largest difference of a label score over the first rows."""
    few = range(min(_NUM_ROWS_COMPARED, len(kept)))
    exact = replace(kept, contexts=model.kept_contexts([kept.encoded[number] for number in few]))
    with torch.no_grad():
        return float((model(model.batch(kept, few)).scores - model(model.batch(exact, few)).scores).abs().max())
