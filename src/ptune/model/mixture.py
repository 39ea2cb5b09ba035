"""Several tasks that learn one prompt: rows of all of them in each batch, and the mean of their losses.

In: models of any kind of task on one backbone, whose prompts have the same shape. Out: one module for the loop; afterwards each
model holds the shared prompt. Every head stays its own task's. Sources: Vu et al. 2022 (SPoT), section 2.1 (one prompt on a
mixture of tasks); Raffel et al. 2020, section 3.5.2 (examples-proportional mixing: a task of n rows counts as min(n, K)).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import mean
from typing import Any

import torch
from torch import nn

from ptune.backbone import Backbone
from ptune.errors import RecipeError
from ptune.inputs import Batch
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.task_model import TaskModel

__all__ = ["Mixture", "MixtureRows", "mix_rows", "share_prompt"]


@dataclass(frozen=True)
class MixtureRows:
    """Rows of several tasks as one list.

    Args:
        prepared: of each task.
        places: task and number of each row of the list.
    """

    prepared: tuple[Prepared, ...]
    places: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class MixtureBatch(Batch):
    """A batch of each task that is in it; the fields of a plain batch are those of the first.

    Args:
        parts: task and its rows.
    """

    parts: tuple[tuple[int, Batch], ...] = ()


def mix_rows(prepared: Sequence[Prepared], *, limit: int | None, seed: int) -> MixtureRows:
    """All rows of all tasks, of a large one so many.

    Args:
        prepared: of each task.
        limit: K, rows of one task at most.
        seed: draws them.
    """
    places = []
    for task, rows in enumerate(prepared):
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed * 1_009 + task)).tolist()
        places += [(task, number) for number in sorted(drawn[:limit])]
    return MixtureRows(tuple(prepared), tuple(places))


def share_prompt(model: TaskModel, first: TaskModel) -> None:
    """Gives a model another's prompt, and its output layer where that learns.

    Raises:
        RecipeError: other methods, or prompts of another shape.
    """
    if model.method != first.method:
        raise RecipeError("tasks that share a prompt need one method", where="method", fix="give all recipes the same method")
    sizes = [[len(rows) for rows in one.layout.rows_of_node.values()] for one in (model, first)]
    if sizes[0] != sizes[1]:
        raise RecipeError(
            f"one template has learned tokens in groups of {sizes[1]}, another of {sizes[0]}",
            where="template",
            fix="give all templates the same {soft:N}",
        )
    if model.has_candidates or first.has_candidates:
        raise RecipeError("candidates cannot be shared", where="candidates", fix="leave candidates and folds out")
    model.prompt, model.lm_head = first.prompt, first.lm_head


class Mixture(nn.Module):
    """See the module's docstring.

    Args:
        models: at least one; all but the first take its prompt.

    Raises:
        RecipeError: see `share_prompt`.
    """

    metric = "mean_score"
    has_candidates = False

    def __init__(self, models: Sequence[TaskModel]) -> None:
        super().__init__()
        for model in models:
            share_prompt(model, models[0])
        self.models = nn.ModuleList(models)
        self._tasks = tuple(models)

    @property
    def backbone(self) -> Backbone:
        """The one that all share."""
        return self._tasks[0].backbone

    def batch(self, rows: MixtureRows, index: Sequence[int]) -> MixtureBatch:
        """The rows with these numbers, each laid out by its own task."""
        of_task: dict[int, list[int]] = {}
        for task, number in (rows.places[at] for at in index):
            of_task.setdefault(task, []).append(number)
        parts = [(task, self._tasks[task].batch(rows.prepared[task], numbers)) for task, numbers in sorted(of_task.items())]
        plain: dict[str, Any] = {one.name: getattr(parts[0][1], one.name) for one in fields(Batch)}
        return MixtureBatch(**plain, parts=tuple(parts))

    def forward(self, batch: Batch) -> Outcome:
        """The mean of the tasks' losses, each by its share of the rows."""
        assert isinstance(batch, MixtureBatch)
        losses = []
        total = sum(part.num_examples for _, part in batch.parts)
        for task, part in batch.parts:
            loss = self._tasks[task](part).loss
            if loss is None:
                return Outcome(torch.zeros(0))
            losses.append(loss * (part.num_examples / total))
        return Outcome(torch.zeros(0), torch.stack(losses).sum())

    def mean_loss(self, rows: MixtureRows) -> float:
        """Mean over tasks."""
        return mean(model.mean_loss(one) for model, one in zip(self._tasks, rows.prepared, strict=True))

    def looks(self, rows: MixtureRows) -> list[Look]:
        """Means of the tasks' scores and losses: every task counts the same, however many rows it has."""
        looks = [model.looks(one)[0] for model, one in zip(self._tasks, rows.prepared, strict=True)]
        return [Look(mean(look.score for look in looks), mean(look.loss for look in looks))]

    def live_lengths(self, rows: MixtureRows) -> list[int]:
        """Of each row, by its own task."""
        lengths = [model.live_lengths(one) for model, one in zip(self._tasks, rows.prepared, strict=True)]
        return [lengths[task][number] for task, number in rows.places]

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """The shared prompt's, and each task's head."""
        groups = self._tasks[0].parameter_groups(learning_rate)
        for number, model in enumerate(self._tasks[1:], 1):
            heads = [group for group in model.parameter_groups() if group["name"] == "head"]
            groups += [{**group, "name": f"head-{number}"} for group in heads]
        return groups

    def keep_candidate(self, number: int) -> None:
        """There are none."""
