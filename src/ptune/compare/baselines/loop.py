"""The loop of all baselines that torch trains: the same steps, schedule and looks at validation as ptune's own methods.

In: parameter groups, a loss of some rows, probabilities of validation rows. Out: the looks, with the parameters of the best one
put back (higher accuracy, then lower loss). AdamW, warm-up over a tenth of the steps, then a linear fall; gradients are clipped
at 1. Random numbers are a function of the seed; the caller's generator is left as it was.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptune.compare.contender import Point, Probabilities, look_of
from ptune.errors import TrainError

__all__ = ["train_network"]

_NUM_LOOKS = 10
_WARMUP = 0.1


def train_network(
    groups: Sequence[dict[str, Any]],
    loss_of: Callable[[Sequence[int]], Tensor],
    probabilities: Callable[[], Probabilities],
    classes: np.ndarray[Any, np.dtype[np.int64]],
    *,
    num_rows: int,
    num_steps: int,
    batch_size: int,
    seed: int,
    weight_decay: float = 0.0,
) -> tuple[Point, ...]:
    """Trains and keeps the best look.

    Args:
        groups: `params` and `lr` of each group.
        loss_of: mean loss of the training rows with these numbers.
        probabilities: [V, C] of the validation rows, with the parameters as they are.
        classes: [V] their class numbers.
        num_rows: training rows.
        num_steps, batch_size: as all contenders have them.
        seed: of the order of rows, and of dropout.
        weight_decay: of AdamW.

    Raises:
        TrainError: a loss that is no number.
    """
    learned = [parameter for group in groups for parameter in group["params"]]
    optimiser = torch.optim.AdamW(groups, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(step, num_steps))
    every, points = max(1, num_steps // _NUM_LOOKS), list[Point]()
    best: tuple[tuple[float, float], list[Tensor]] | None = None
    batches, started = _batches(num_rows, batch_size, seed), time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        for step in range(1, num_steps + 1):
            torch.manual_seed(seed * 1_000_003 + step)
            loss = loss_of(next(batches))
            if not torch.isfinite(loss):
                raise TrainError(f"the loss of step {step} is {loss.item()}", where="train", fix="lower the learning rate")
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            if step % every and step != num_steps:
                continue
            with torch.no_grad():
                accuracy, mean_loss = look_of(probabilities(), classes)
            points.append(Point(step, time.perf_counter() - started, accuracy, mean_loss))
            if best is None or (accuracy, -mean_loss) > best[0]:
                best = (accuracy, -mean_loss), [parameter.detach().clone() for parameter in learned]
    assert best is not None
    with torch.no_grad():
        for parameter, value in zip(learned, best[1], strict=True):
            parameter.copy_(value)
    return tuple(points)


def _factor(step: int, num_steps: int) -> float:
    """Warm-up, then a linear fall to zero."""
    warm = max(1, int(_WARMUP * num_steps))
    return (step + 1) / warm if step < warm else max(0.0, (num_steps - step) / max(1, num_steps - warm))


def _batches(num_rows: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Row numbers without end, each round in a new order."""
    epoch = 0
    while True:
        order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()
        yield from (order[first : first + batch_size] for first in range(0, num_rows, batch_size))
        epoch += 1
