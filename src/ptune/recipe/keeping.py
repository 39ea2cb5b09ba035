"""What becomes of the training texts' contexts: kept in memory, in a file, or not at all, and why.

In: a model, its recipe and the encoded training rows. Out: `Keeping`. `run` acts on it and `plan_recipe` shows it.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from ptune.backbone import context_bytes
from ptune.inputs import Encoded, trunk_start
from ptune.model import TaskModel
from ptune.prompt import registration
from ptune.recipe.recipe import Recipe

__all__ = ["Keeping", "Place", "decide_keeping", "num_shared", "storage"]

Place = Literal["memory", "file", "nowhere"]

_SHARE_OF_FREE_MEMORY = 0.25
_SHARE_OF_FREE_DISK = 0.5
_MIN_KEPT_TOKENS = 4


@dataclass(frozen=True)
class Keeping:
    """The decision.

    Args:
        place: where contexts are kept; `file` means what is over `memory_bytes`.
        reason: why they are not kept; empty where they are.
        num_tokens: tokens of all rows that stand in front of the first learned one.
        num_bytes: what their keys and values take.
        memory_bytes: how much of that may stay in memory.
        remark: what the user should be told, or nothing.
    """

    place: Place
    reason: str = ""
    num_tokens: int = 0
    num_bytes: int = 0
    memory_bytes: int = 0
    remark: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether contexts are kept at all."""
        return self.place != "nowhere"


def decide_keeping(model: TaskModel, recipe: Recipe, rows: Sequence[Encoded]) -> Keeping:
    """Whether and where a run keeps the contexts of these training rows.

    Raises:
        BackboneError: `keep_context: true` where that would not be exact.
    """
    if not registration(model.method).learns:
        return Keeping("nowhere", "the prompt learns nothing, so there is no first learned token")
    if recipe.keep_context is False:
        return Keeping("nowhere", "keep_context is false")
    if recipe.keep_context is True:
        model.check_keep()
    refusal = model.why_not_keep()
    if refusal:
        return Keeping("nowhere", refusal)
    num_tokens = sum(trunk_start(row) for row in rows)
    if recipe.keep_context == "auto" and num_tokens < _MIN_KEPT_TOKENS * len(rows):
        mean = num_tokens / len(rows)
        few = (
            f"{mean:.1f} tokens a row stand in front of the first learned one, fewer than the {_MIN_KEPT_TOKENS} worth keeping"
        )
        return Keeping("nowhere", few, num_tokens)
    batch_size = min(recipe.batch_size, len(rows))
    shared = num_shared(model, recipe, rows, batch_size)
    if recipe.keep_context == "auto" and shared * (1 - 1 / batch_size) * len(rows) > num_tokens:
        return Keeping("nowhere", f"reading the {shared} tokens that all rows start with once a step saves more", num_tokens)
    needed = context_bytes(model.backbone, num_tokens, recipe.context_dtype)
    memory: int = storage(recipe)["memory"]
    over = max(0, needed - memory)
    free_disk = shutil.disk_usage(tempfile.gettempdir()).free
    if recipe.keep_context == "auto" and over > _SHARE_OF_FREE_DISK * free_disk:
        remark = (
            f"the texts' contexts need {needed >> 20} MiB, over the {memory >> 20} MiB of context_memory "
            "and half of the free disk: computed anew in each step"
        )
        too_many = "the contexts fit neither into context_memory nor into half of the free disk"
        return Keeping("nowhere", too_many, num_tokens, needed, memory, remark)
    if over:
        remark = f"{over >> 20} of the contexts' {needed >> 20} MiB are over context_memory and go into a temporary file"
        return Keeping("file", "", num_tokens, needed, memory, remark)
    return Keeping("memory", "", num_tokens, needed, memory)


def num_shared(model: TaskModel, recipe: Recipe, rows: Sequence[Encoded], num_rows: int) -> int:
    """How many tokens all of these rows start with, learned ones included, that a forward pass on `num_rows` reads once."""
    return 0 if recipe.checkpointing else model.num_shared(rows, num_rows)


def storage(recipe: Recipe) -> dict[str, Any]:
    """How contexts are kept: number type, and bytes of memory before the file begins."""
    free = int(_SHARE_OF_FREE_MEMORY * psutil.virtual_memory().available)
    memory = free if recipe.context_memory is None else recipe.context_memory << 20
    return {"dtype": recipe.context_dtype if recipe.context_dtype != recipe.dtype else None, "memory": memory}
