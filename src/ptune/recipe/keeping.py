"""What becomes of the texts' contexts: kept in memory, in a file, for a batch alone, or not at all, and why.

In: a model, its recipe and encoded rows. Out: `Keeping`. `ContextKeeper` acts on it and `plan_recipe` shows it.
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

__all__ = [
    "Keeping",
    "Place",
    "decide_keeping",
    "decide_validation",
    "memory_for_contexts",
    "num_shared",
    "storage",
]

Place = Literal["memory", "file", "batch", "nowhere"]

_SHARE_OF_FREE_MEMORY = 0.25
_SHARE_OF_FREE_DISK = 0.5
_MIN_KEPT_TOKENS = 4


@dataclass(frozen=True)
class Keeping:
    """The decision.

    Args:
        place: where contexts are kept; `file` means what is over `memory_bytes`; `batch`, that each is computed when its row is
            read and goes with the batch, since no row is read twice.
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
        """Whether a row's context is computed once, by itself and without gradients."""
        return self.place != "nowhere"


def decide_keeping(
    model: TaskModel, recipe: Recipe, rows: Sequence[Encoded], *, num_rows: int | None = None, memory: int | None = None
) -> Keeping:
    """Whether and where a run keeps the contexts of these training rows.

    Args:
        model: which reads them.
        recipe: whose training keys count.
        rows: of one task.
        num_rows: that the run draws its batches from, where other tasks have some too.
        memory: bytes that there are for contexts; None for what the recipe says.

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
    is_read_once = _reads_once(recipe, len(rows) if num_rows is None else num_rows)
    batch_size = min(recipe.batch_size, len(rows))
    shared = num_shared(model, recipe, rows, batch_size)
    saved = num_tokens / 2 if is_read_once else num_tokens  # a context read once still costs its forward pass
    if recipe.keep_context == "auto" and shared * (1 - 1 / batch_size) * len(rows) > saved:
        return Keeping("nowhere", f"reading the {shared} tokens that all rows start with once a step saves more", num_tokens)
    if is_read_once:
        return Keeping("batch", "", num_tokens)
    return _place_contexts(model, recipe, num_tokens, memory_for_contexts(recipe) if memory is None else memory)


def decide_validation(model: TaskModel, recipe: Recipe, rows: Sequence[Encoded], memory: int) -> Keeping:
    """Where the contexts of validation rows go, which every look reads; asked where those of training rows are kept.

    Args:
        model, recipe: as in `decide_keeping`.
        rows: of validation.
        memory: bytes that the training rows leave.
    """
    num_tokens = sum(map(trunk_start, rows))
    return _place_contexts(model, recipe, num_tokens, memory, whose="the validation texts'", again="in each look")


def _reads_once(recipe: Recipe, num_rows: int) -> bool:
    """Whether a run ends with the first pass over its rows, or with the step in which that ends."""
    settings = recipe.train_settings()
    num_batches = settings.num_steps(num_rows) * settings.accumulate
    return num_batches < -(-num_rows // settings.batch_size) + settings.accumulate


def _place_contexts(
    model: TaskModel, recipe: Recipe, num_tokens: int, memory: int, *, whose: str = "the texts'", again: str = "in each step"
) -> Keeping:
    """Where contexts that are worth keeping go.

    Args:
        model: whose they are.
        recipe: of the run.
        num_tokens: that they have.
        memory: bytes that there are for them.
        whose, again: for the remark: of which texts, and when those are computed that are not kept.
    """
    needed = context_bytes(model.backbone, num_tokens, recipe.context_dtype)
    over = max(0, needed - memory)
    free_disk = shutil.disk_usage(tempfile.gettempdir()).free
    if recipe.keep_context == "auto" and over > _SHARE_OF_FREE_DISK * free_disk:
        remark = (
            f"{whose} contexts need {needed >> 20} MiB, over the {memory >> 20} MiB of context_memory "
            f"and half of the free disk: computed anew {again}"
        )
        too_many = "the contexts fit neither into context_memory nor into half of the free disk"
        return Keeping("nowhere", too_many, num_tokens, needed, memory, remark)
    if over:
        remark = f"{over >> 20} of {whose} contexts' {needed >> 20} MiB are over context_memory and go into a temporary file"
        return Keeping("file", "", num_tokens, needed, memory, remark)
    return Keeping("memory", "", num_tokens, needed, memory)


def num_shared(model: TaskModel, recipe: Recipe, rows: Sequence[Encoded], num_rows: int) -> int:
    """How many tokens all of these rows start with, learned ones included, that a forward pass on `num_rows` reads once."""
    return 0 if recipe.checkpointing else model.num_shared(rows, num_rows)


def memory_for_contexts(recipe: Recipe) -> int:
    """Bytes that kept contexts may take: the recipe's, else a share of what is free now."""
    if recipe.context_memory is not None:
        return recipe.context_memory << 20
    return int(_SHARE_OF_FREE_MEMORY * psutil.virtual_memory().available)


def storage(recipe: Recipe, memory: int | None = None) -> dict[str, Any]:
    """How contexts are kept: number type, and bytes of memory before the file begins (None: what the recipe says)."""
    dtype = recipe.context_dtype if recipe.context_dtype != recipe.dtype else None
    return {"dtype": dtype, "memory": memory_for_contexts(recipe) if memory is None else memory}
