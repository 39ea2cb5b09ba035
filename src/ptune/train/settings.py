"""How a prompt is trained: steps, optimiser, schedule, what is kept, and when a run ends."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["OptimiserName", "ScheduleName", "TrainSettings"]

OptimiserName = Literal["adamw", "adafactor"]
ScheduleName = Literal["linear", "cosine", "constant"]


class TrainSettings(BaseModel):
    """The training keys of a recipe; each has a default that works without being touched.

    Args:
        steps: optimiser steps. None: `epochs` if given, else a few-shot default that grows with the data.
        epochs: passes over the training rows, in place of `steps`.
        batch_size: rows per forward pass.
        group_by_length: put rows of like length into one batch, so that little is padded; for many rows of uneven length.
        accumulate: forward passes per optimiser step.
        learning_rate: of the leading parameter group; None takes the method's stated rule.
        optimizer: `adamw`, or `adafactor` (Lester's: constant rate 0.3 on T5, no parameter scaling).
        weight_decay, clip_norm: as usual; clip_norm None never clips.
        schedule, warmup: after `warmup` (share of the steps) the rate falls linearly, like a cosine, or stays.
        ema: decay of an exponential average of the learned parameters that replaces them at the end; 0 is off.
        evaluate_every: steps between looks at the validation rows; None: about ten looks.
        patience: looks without improvement before the run stops; None never stops early.
        save_every: steps between saved states; None: at every look, at least every 25 steps.
        checkpointing: recompute layers in the backward pass to save memory.
        keep_context: keep what lies in front of the learned tokens: `auto` where it is exact and worth it.
        context_memory: MiB for kept contexts, None for a quarter of free memory; what is over goes into a temporary file.
        context_dtype: number type of kept contexts; `bf16` halves them, and the run says what that costs.
        candidates: prompts to train at once, which differ in initialisation and learning rate.
        keep_candidates: `best` on validation, or all of them as an `ensemble`; None: best where there is validation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=8, ge=1)
    group_by_length: bool = False
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    optimizer: OptimiserName = "adamw"
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    schedule: ScheduleName = "linear"
    warmup: float = Field(default=0.1, ge=0, le=1)
    ema: float = Field(default=0.0, ge=0, lt=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    save_every: int | None = Field(default=None, ge=1)
    checkpointing: bool = False
    keep_context: bool | Literal["auto"] = "auto"
    context_memory: int | None = Field(default=None, ge=1)
    context_dtype: Literal["fp32", "bf16"] = "fp32"
    candidates: int = Field(default=1, ge=1, le=64)
    keep_candidates: Literal["best", "ensemble"] | None = None

    def num_steps(self, num_rows: int) -> int:
        """Optimiser steps for so many training rows: as set, else 12 passes, at least 80 and at most 1,000 steps."""
        per_epoch = max(1, -(-num_rows // (self.batch_size * self.accumulate)))
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * per_epoch
        return min(1000, max(80, 12 * per_epoch))

    def keeps_best(self, *, has_validation: bool) -> bool:
        """Whether one of several candidates is kept, rather than all of them."""
        return (self.keep_candidates or ("best" if has_validation else "ensemble")) == "best"
