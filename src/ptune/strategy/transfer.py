"""Which trained prompt to start from: the task whose prompt lies nearest, by the cosine of task embeddings.

In: a prompt that was trained a little on the new task, and bundles of other tasks on the same backbone. Out: the bundles with
their similarity, the nearest first; `method: {init_bundle: PATH}` then starts from one. A task's embedding is the mean of its
prompt's rows. Source: Vu et al. 2022 (SPoT), section 3.1: cosine of mean-pooled prompts, and their variant per token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.bundle import read_bundle
from ptune.errors import PromptError
from ptune.task import Task

__all__ = ["SimilarTask", "nearest_tasks", "task_embedding", "task_similarity"]


@dataclass(frozen=True)
class SimilarTask:
    """A trained task and how near it lies.

    Args:
        path: of its bundle.
        similarity: cosine, 1 for the same direction.
        num_rows: learned rows; a prompt can only start from one with as many.
    """

    path: str
    similarity: float
    num_rows: int


def task_embedding(rows: Float[Tensor, "P E"]) -> Float[Tensor, " E"]:
    """Mean over a prompt's rows."""
    return rows.mean(0)


def task_similarity(first: Float[Tensor, "P E"], second: Float[Tensor, "Q E"], *, per_token: bool = False) -> float:
    """Cosine of two prompts.

    Args:
        first, second: their rows, of one backbone.
        per_token: the mean cosine over all pairs of rows, in place of that of the means.
    """
    if per_token:
        each = torch.nn.functional.normalize(first, dim=1) @ torch.nn.functional.normalize(second, dim=1).T
        return float(each.mean())
    return float(torch.nn.functional.cosine_similarity(task_embedding(first), task_embedding(second), dim=0))


def nearest_tasks(task: Task, bundles: Sequence[str | Path], *, per_token: bool = False) -> list[SimilarTask]:
    """The bundles by their nearness to a task's prompt, the nearest first; those of other backbones are left out.

    Args:
        task: trained a little on the new rows; so few steps that its prompt still lies near the start say nothing.
        bundles: folders.
        per_token: as in `task_similarity`.

    Raises:
        PromptError: the task has no learned rows, or no bundle has any on its backbone.
        BundleError: a folder without a bundle.
    """
    with torch.no_grad():
        rows = task.model.prompt().rows
    if rows is None or rows.dim() != 2:
        raise PromptError("the task has no one prompt of learned rows", where="task", fix="use p-tuning or prompt-tuning")
    found = []
    for path in bundles:
        bundle = read_bundle(path)
        other = bundle.tensors.get("rows")
        if other is None or other.dim() != 2 or bundle.card["backbone"]["fingerprint"] != task.model.base_fingerprint:
            continue
        found.append(SimilarTask(str(path), task_similarity(rows, other, per_token=per_token), len(other)))
    if not found:
        raise PromptError("no bundle has learned rows on this task's backbone", where="bundles", fix="train some on it first")
    return sorted(found, key=lambda one: (-one.similarity, one.path))
