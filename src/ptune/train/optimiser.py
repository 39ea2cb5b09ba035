"""Optimisers and learning-rate schedules by name.

`adamw` is torch's. `adafactor` is transformers' with Lester's settings (constant rate, no scaling by the parameter's size,
decay exponent 0.8, weight decay 1e-5 unless set): torch's own Adafactor always scales by the parameter's size.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ptune.errors import TrainError
from ptune.train.settings import ScheduleName, TrainSettings

__all__ = ["build_optimiser", "build_schedule"]

ADAFACTOR_RATE = 0.3


def build_optimiser(groups: list[dict[str, Any]], settings: TrainSettings) -> Optimizer:
    """The optimiser over the model's parameter groups, each with its own rate.

    Raises:
        TrainError: nothing to train.
    """
    if not groups:
        raise TrainError("nothing in this task learns", where="method", fix="use a prompt method, head: linear, or tune: lm")
    if settings.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        if settings.learning_rate is None:
            groups = [{**group, "lr": ADAFACTOR_RATE} if group["name"] == "prompt" else group for group in groups]
        adafactor: Optimizer = Adafactor(
            groups, scale_parameter=False, relative_step=False, warmup_init=False, weight_decay=settings.weight_decay or 1e-5
        )
        return adafactor
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def build_schedule(optimiser: Optimizer, settings: TrainSettings, num_steps: int) -> LambdaLR:
    """Warm-up, then linear or cosine decay to zero, or constant. Adafactor's rate stays constant unless asked otherwise."""
    schedule: ScheduleName = settings.schedule
    if settings.optimizer == "adafactor" and "schedule" not in settings.model_fields_set:
        schedule = "constant"
    num_warmup = round(settings.warmup * num_steps)
    return LambdaLR(optimiser, _factor(schedule, num_warmup, num_steps))


def _factor(schedule: ScheduleName, num_warmup: int, num_steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / (num_warmup + 1)
        done = (step - num_warmup) / max(1, num_steps - num_warmup)
        return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[schedule]

    return factor
