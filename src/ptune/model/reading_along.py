"""A task that is learned while the model goes on reading: its loss, and beside it the language model's on unlabelled texts.

In: a task's model all of whose weights learn, and texts. Out: one module for the loop; nothing of it is kept afterwards. The
texts keep a model that sees few labels from forgetting how texts go on. Source: Schick & Schütze 2021 (Exploiting Cloze
Questions), section 3.2: (1 - a) L_task + a L_lm, a = 1e-4, a batch of texts at every step.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ptune.backbone import Backbone
from ptune.errors import RecipeError
from ptune.inputs import Batch
from ptune.model.language_model import LanguageModel, TextRows
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.task_model import TaskModel

__all__ = ["ReadingAlong"]


class ReadingAlong(nn.Module):
    """See the module's docstring.

    Args:
        model: with `tune: lm`.
        texts: without labels.
        weight: a, the share of the texts' loss.
        batch_size: texts of a step.

    Raises:
        RecipeError: the model is frozen, so that reading on could change nothing.
        BackboneError: a model that cannot read on, see `LanguageModel`.
    """

    has_candidates = False

    def __init__(self, model: TaskModel, texts: Sequence[str], *, weight: float, batch_size: int) -> None:
        super().__init__()
        if model.tune != "lm":
            raise RecipeError("a frozen model cannot read on", where="tune", fix="set tune: lm, or leave the language loss out")
        self.task, self.weight, self.batch_size = model, weight, batch_size
        self._reader = LanguageModel(model.backbone, seed=model.seed)
        self.texts: TextRows = self._reader.prepare(texts, max_length=model.max_length)

    @property
    def backbone(self) -> Backbone:
        """The task's."""
        return self.task.backbone

    @property
    def metric(self) -> str:
        """The task's."""
        return self.task.metric

    def batch(self, rows: Prepared, index: Sequence[int]) -> Batch:
        """The task's; texts are drawn when it is read."""
        return self.task.batch(rows, index)

    def forward(self, batch: Batch) -> Outcome:
        """The task's outcome with both losses in their shares."""
        outcome: Outcome = self.task(batch)
        if outcome.loss is None:
            return outcome
        drawn = torch.randint(len(self.texts), (self.batch_size,)).tolist()
        read = self._reader(self._reader.batch(self.texts, drawn)).loss
        return replace(outcome, loss=(1 - self.weight) * outcome.loss + self.weight * read)

    def live_lengths(self, rows: Prepared) -> list[int]:
        """The task's."""
        return self.task.live_lengths(rows)

    def looks(self, rows: Prepared) -> list[Look]:
        """The task's."""
        return self.task.looks(rows)

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """The task's, with all weights of the model among them."""
        return self.task.parameter_groups(learning_rate)

    def keep_candidate(self, number: int) -> None:
        """There are none."""
