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
from ptune.model import TOKENS_PER_BATCH, Prepared, TaskModel
from ptune.task.task import Task

__all__ = ["predict_mixed"]


@dataclass(frozen=True)
class _Part:
    """One task's rows among the requests.

    Args:
        model: of the task.
        prepared: its rows; a long text may have several windows.
        places: where the answers go.
        scores: of each prepared row, filled in batch by batch.
    """

    model: TaskModel
    prepared: Prepared
    places: list[int]
    scores: list[Tensor]


@dataclass(frozen=True)
class _Row:
    """A prepared row: whose it is, its number among that task's, and its live tokens."""

    part: int
    number: int
    length: int


def predict_mixed(requests: Sequence[tuple[Task, str | Mapping[str, Any]]]) -> list[Any]:
    """What tasks say of texts, computed together.

    Args:
        requests: (task, text or row with the template's fields); tasks of any kinds.

    Returns:
        Each task's prediction of its text, in order.

    Raises:
        DataError: a row without a field that its template needs.
    """
    tasks = {id(task): task for task, _ in requests}
    places: dict[int, list[int]] = {}
    for place, (task, _) in enumerate(requests):
        places.setdefault(id(task), []).append(place)
    answers: list[Any] = [None] * len(requests)
    shared: dict[int, list[_Part]] = {}
    for key, mine in places.items():
        model = tasks[key].model
        examples = tasks[key].examples([requests[place][1] for place in mine])
        if model.can_share_a_batch:
            prepared = model.prepare(examples)
            part = _Part(model, prepared, mine, [torch.empty(0)] * len(prepared))
            shared.setdefault(id(model.backbone), []).append(part)
        else:
            for place, prediction in zip(mine, model.predict(examples), strict=True):
                answers[place] = prediction
    for parts in shared.values():
        _run(parts)
        for part in parts:
            for place, prediction in zip(part.places, part.model.predictions_from(part.prepared, part.scores), strict=True):
                answers[place] = prediction
    return answers


@torch.no_grad()
def _run(parts: Sequence[_Part]) -> None:
    """Scores all rows of tasks on one backbone, the shortest first, in batches of `TOKENS_PER_BATCH` live tokens."""
    leads = [part.model.lead(part.prepared.encoded) for part in parts]
    order: list[_Row] = []
    for at, (part, lead) in enumerate(zip(parts, leads, strict=True)):
        lengths = part.model.live_lengths(part.prepared, lead)
        order += [_Row(at, number, length) for number, length in enumerate(lengths)]
    order.sort(key=lambda row: (row.length, row.part))
    at = 0
    while at < len(order):
        num = 1
        while at + num < len(order) and (num + 1) * order[at + num].length <= TOKENS_PER_BATCH:
            num += 1
        _run_batch(parts, leads, order[at : at + num])
        at += num


def _run_batch(parts: Sequence[_Part], leads: Sequence[tuple[int, Context] | None], rows: Sequence[_Row]) -> None:
    numbers: dict[int, list[int]] = {}
    for row in rows:
        numbers.setdefault(row.part, []).append(row.number)
    batches = [parts[at].model.batch(parts[at].prepared, mine, lead=leads[at]) for at, mine in numbers.items()]
    backbone: Backbone = parts[0].model.backbone
    merged = merge(batches, [parts[at].model.prompt() for at in numbers], backbone.tokens.pad_id)
    states = backbone.read(merged.live, merged.prompt, merged.reads, merged.contexts)
    for (at, mine), batch, own in zip(numbers.items(), batches, torch.split(states, list(merged.sizes)), strict=True):
        for number, scores in zip(mine, parts[at].model.scores_in_batch(own, batch), strict=True):
            parts[at].scores[number] = scores
