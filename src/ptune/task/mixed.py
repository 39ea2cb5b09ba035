"""Several tasks on one frozen backbone in the same batches.

In: pairs of a task and a text or row. Out: their predictions, in order, equal to those of each task alone. What all texts of a
task start with, its learned tokens included, is computed once and enters as that row's context. Tasks that need a pass of
their own (ensembles, encoder-decoder models, heads on the mean, masks filled one by one) are run by themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.inputs import Context, merge
from ptune.model import TOKENS_PER_BATCH, Prediction, Prepared, PromptModel
from ptune.task.task import Task, as_classifier

__all__ = ["predict_mixed"]


@dataclass(frozen=True)
class _Row:
    """A request: where its answer goes, whose it is, its number among that task's rows, and its live tokens."""

    place: int
    task: int
    number: int
    length: int


def predict_mixed(requests: Sequence[tuple[Task, str | Mapping[str, Any]]]) -> list[Prediction]:
    """Labels texts of many tasks together.

    Args:
        requests: (task, text or row with the template's fields).

    Raises:
        DataError: a row without a field that its template needs.
        TrainError: a task that is no classification.
    """
    tasks = list({id(task): task for task, _ in requests}.values())
    number = {id(task): at for at, task in enumerate(tasks)}
    places: list[list[int]] = [[] for _ in tasks]
    for place, (task, _) in enumerate(requests):
        places[number[id(task)]].append(place)
    scores: list[Tensor] = [torch.empty(0)] * len(requests)
    shared: dict[int, list[int]] = {}
    prepared: list[Prepared] = []
    models = [as_classifier(task) for task in tasks]
    for at, (task, mine) in enumerate(zip(tasks, places, strict=True)):
        prepared.append(models[at].prepare(task.examples([requests[place][1] for place in mine])))
        if models[at].can_share_a_batch:
            shared.setdefault(id(models[at].backbone), []).append(at)
        else:
            for place, row in zip(mine, models[at].scores(prepared[at]), strict=True):
                scores[place] = row
    for group in shared.values():
        _run([models[at] for at in group], [prepared[at] for at in group], [places[at] for at in group], scores)
    return [task.prediction(torch.softmax(row, 0)) for (task, _), row in zip(requests, scores, strict=True)]


@torch.no_grad()
def _run(
    models: Sequence[PromptModel], prepared: Sequence[Prepared], places: Sequence[Sequence[int]], scores: list[Tensor]
) -> None:
    """Scores all rows of tasks on one backbone, the shortest first, in batches of `TOKENS_PER_BATCH` live tokens."""
    leads = [model.lead(rows.encoded) for model, rows in zip(models, prepared, strict=True)]
    order: list[_Row] = []
    for task, (model, rows, mine) in enumerate(zip(models, prepared, places, strict=True)):
        lengths = model.live_lengths(rows, leads[task])
        order += [_Row(place, task, at, length) for at, (place, length) in enumerate(zip(mine, lengths, strict=True))]
    order.sort(key=lambda row: (row.length, row.task))
    at = 0
    while at < len(order):
        num = 1
        while at + num < len(order) and (num + 1) * order[at + num].length <= TOKENS_PER_BATCH:
            num += 1
        _run_batch(models, prepared, leads, order[at : at + num], scores)
        at += num


def _run_batch(
    models: Sequence[PromptModel],
    prepared: Sequence[Prepared],
    leads: Sequence[tuple[int, Context] | None],
    rows: Sequence[_Row],
    scores: list[Tensor],
) -> None:
    by_task: dict[int, list[_Row]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    batches = [
        models[task].batch(prepared[task], [row.number for row in mine], lead=leads[task]) for task, mine in by_task.items()
    ]
    backbone: Backbone = models[0].backbone
    merged = merge(batches, [models[task].prompt() for task in by_task], backbone.tokens.pad_id)
    states = backbone.read(merged.live, merged.prompt, merged.reads, merged.contexts)
    parts = torch.split(states, list(merged.sizes))
    for (task, mine), batch, part in zip(by_task.items(), batches, parts, strict=True):
        for row, score in zip(mine, models[task].scores_of_states(part, batch).float().cpu(), strict=True):
            scores[row.place] = score
