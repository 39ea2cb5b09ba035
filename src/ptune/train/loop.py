"""The training loop, the only one: every method, readout and strategy goes through it.

In: a `Learner` (a `TaskModel`, mostly), prepared rows, settings. Out: `TrainResult`, with the model left at its best or last
parameters. Reads from top to bottom: set up, resume, step, look at validation, save, finish. Every random choice is a function
of the seed and the step, so that a run that was killed and resumed gives the same losses and the same bytes.
"""

import time
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from ptune.errors import TrainError
from ptune.inputs import Batch
from ptune.model import Look
from ptune.train.learner import Learner
from ptune.train.optimiser import build_optimiser, build_schedule
from ptune.train.order import epoch_batches
from ptune.train.run_folder import RunFolder
from ptune.train.settings import TrainSettings

__all__ = ["Listener", "TrainEvent", "TrainResult", "train"]

Rows = TypeVar("Rows", bound=Sized)


@dataclass(frozen=True)
class TrainEvent:
    """What a listener hears.

    Args:
        kind: `step`, `validation`, or `end`.
        step: steps done.
        num_steps: steps planned.
        loss: of this step, or mean validation loss.
        score: main figure of the kind of task on validation, else None.
        metric: name of that figure.
        seconds: since training began, in this process.
    """

    kind: str
    step: int
    num_steps: int
    loss: float
    score: float | None = None
    metric: str = "accuracy"
    seconds: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """The score where that is an accuracy."""
        return self.score if self.metric == "accuracy" else None


Listener = Callable[[TrainEvent], None]


@dataclass
class TrainResult:
    """How training went.

    Args:
        losses: loss of every step; of candidates, their mean.
        validations: (step, score, loss) of every look; of candidates, the best one's.
        best_step: step whose parameters were kept; the last where there was no validation.
        stopped_early: whether patience ended the run.
        seconds: time spent training, over all resumed parts.
        candidate_losses: of candidates, each one's loss at every step, [steps][J].
        candidate_rates, candidate_scores: each one's highest learning rate, and its score at its best look, if there was one.
        chosen: the candidate that was kept, None for an ensemble or a prompt by itself.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    best_step: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    candidate_losses: list[list[float]] = field(default_factory=list)
    candidate_rates: list[float] = field(default_factory=list)
    candidate_scores: list[float] = field(default_factory=list)
    chosen: int | None = None


def train(
    model: Learner[Rows],
    rows: Rows,
    settings: TrainSettings,
    *,
    seed: int,
    validation: Rows | None = None,
    folder: RunFolder | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
) -> TrainResult:
    """Trains what the model says it learns.

    Args:
        model: left with its best parameters (by the main figure on validation, then loss), or its last without validation.
        rows: prepared training rows.
        settings: the recipe's training keys.
        seed: decides the order of the rows.
        validation: rows for early stopping and for the choice of the best step; never the test rows.
        folder: where events and states go; None keeps nothing.
        resume: go on from the folder's state.
        listeners: called after every step and look.

    Raises:
        TrainError: int8 weights, no rows, nothing to learn, candidates but nothing to choose one by, a loss that is no number.
    """
    if model.backbone.is_quantised:
        raise TrainError("int8 weights pass no gradients", where="dtype", fix="train in fp32 and predict in int8")
    if not len(rows):
        raise TrainError("there are no training rows", where="train")
    num_steps = settings.num_steps(len(rows))
    look_every = settings.evaluate_every or max(1, num_steps // 10)
    save_every = settings.save_every or min(look_every, 25)
    accelerator = Accelerator(cpu=model.backbone.device.type == "cpu", gradient_accumulation_steps=settings.accumulate)
    optimiser = build_optimiser(model.parameter_groups(settings.learning_rate), settings)
    schedule = build_schedule(optimiser, settings, num_steps)
    optimiser = accelerator.prepare_optimizer(optimiser)
    members = [group["params"] for group in optimiser.param_groups] if model.has_candidates else []
    if members and settings.keep_candidates == "best" and validation is None:
        raise TrainError(
            "there are no validation rows to choose a candidate by",
            where="keep_candidates",
            fix="set validation or hold_out, or keep_candidates: ensemble",
        )
    learned = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for parameter in learned:
        parameter.requires_grad_(True)
    if settings.checkpointing:
        model.backbone.checkpoint(True)

    result, first = TrainResult(), 0
    best = [_Best(part) for part in _parts(members, learned)]
    average = _Average(learned, settings.ema)
    if resume and folder is not None:
        state = folder.load_state()
        first = 0 if state is None else _restore(state, learned, optimiser, schedule, result, best, average)
        folder.rewind(first)
    started, before = time.perf_counter(), result.seconds

    batches = _batches(model, rows, settings, seed, first)
    for step in range(first + 1, num_steps + 1):
        if result.stopped_early:  # already before the interruption
            break
        torch.manual_seed(seed * 1_000_003 + step)  # dropout on a prompt draws the same after an interruption
        losses = torch.zeros(max(1, len(members)))
        for _ in range(settings.accumulate):
            outcome = model(next(batches))
            if outcome.loss is None:
                raise TrainError("a training row has no known target", where="train")
            accelerator.backward(outcome.loss / settings.accumulate)
            each = outcome.loss[None] if outcome.candidate_losses is None else outcome.candidate_losses
            losses += each.detach().float().cpu() / settings.accumulate
            del outcome, each  # and with them the graph
        loss = losses.mean().item()
        if not torch.isfinite(losses).all():
            raise TrainError(f"the loss of step {step} is {loss}", where="train", fix="lower learning_rate")
        if settings.clip_norm is not None:
            for group in members or [learned]:
                torch.nn.utils.clip_grad_norm_(group, settings.clip_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        average.update(learned)
        result.losses.append(loss)
        if members:
            result.candidate_losses.append(losses.tolist())
        _tell(folder, listeners, TrainEvent("step", step, num_steps, loss, seconds=time.perf_counter() - started))

        if validation is not None and (step % look_every == 0 or step == num_steps):
            values = average.values(learned)
            looks = _look(model, validation, learned, values)
            for one, look in zip(best, looks, strict=True):
                one.offer(step, look, values)
            top = max(looks, key=lambda look: (look.score, -look.loss))
            result.validations.append((step, top.score, top.loss))
            seconds = time.perf_counter() - started
            event = TrainEvent("validation", step, num_steps, top.loss, top.score, model.metric, seconds)
            _tell(folder, listeners, event)
            since = min(one.num_since for one in best)
            result.stopped_early = settings.patience is not None and since >= settings.patience
        result.seconds = before + time.perf_counter() - started
        if folder is not None and (step % save_every == 0 or step == num_steps or result.stopped_early):
            folder.save_state(_state(step, learned, optimiser, schedule, result, best, average))
        if result.stopped_early:
            break

    _put(learned, average.values(learned))
    for one in best:
        one.put_back(learned)
    leader = max(best, key=lambda one: one.score or (0.0, 0.0))
    result.best_step = len(result.losses) if leader.score is None else leader.step
    if members:
        result.candidate_rates = [group["initial_lr"] for group in optimiser.param_groups]
        result.candidate_scores = [one.score[0] for one in best if one.score is not None]
    if members and settings.keeps_best(has_validation=validation is not None):
        result.chosen = best.index(leader)
        model.keep_candidate(result.chosen)
    if settings.checkpointing:
        model.backbone.checkpoint(False)
    _tell(None, listeners, TrainEvent("end", len(result.losses), num_steps, result.losses[-1], seconds=result.seconds))
    return result


def _batches(model: Learner[Rows], rows: Rows, settings: TrainSettings, seed: int, first_step: int) -> Iterator[Batch]:
    """Endless batches, in an order by (seed, epoch); starts where `first_step` steps would have ended."""
    lengths = model.live_lengths(rows) if settings.group_by_length else None
    epoch, skip = divmod(first_step * settings.accumulate, -(-len(rows) // settings.batch_size))
    while True:
        for index in epoch_batches(len(rows), settings.batch_size, seed=seed, epoch=epoch, lengths=lengths)[skip:]:
            yield model.batch(rows, index)
        epoch, skip = epoch + 1, 0


def _parts(members: Sequence[Sequence[Tensor]], learned: Sequence[Tensor]) -> list[range]:
    """Where each candidate's parameters stand among all; one part for a prompt by itself."""
    parts, at = [], 0
    for size in map(len, members or [learned]):
        parts.append(range(at, at + size))
        at += size
    return parts


def _look(model: Learner[Rows], rows: Rows, learned: Sequence[Tensor], values: Sequence[Tensor]) -> list[Look]:
    """How each candidate does on validation rows, with the parameters given."""
    raw = [parameter.detach().clone() for parameter in learned]
    _put(learned, values)
    looks = model.looks(rows)
    _put(learned, raw)
    return looks


def _put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


class _Best:
    """The parameters of one candidate that did best on validation: a higher score, or the same with a lower loss.

    Args:
        part: where they stand among all that is learned.
    """

    def __init__(self, part: range) -> None:
        self.part = part
        self.step, self.num_since = 0, 0
        self.score: tuple[float, float] | None = None
        self.values: list[Tensor] | None = None

    def offer(self, step: int, look: Look, values: Sequence[Tensor]) -> None:
        if self.score is None or (look.score, -look.loss) > self.score:
            self.step, self.num_since, self.score = step, 0, (look.score, -look.loss)
            self.values = [values[at].detach().clone() for at in self.part]
        else:
            self.num_since += 1

    def put_back(self, learned: Sequence[Tensor]) -> None:
        if self.values is not None:
            _put([learned[at] for at in self.part], self.values)

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "num_since": self.num_since, "score": self.score, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        self.step, self.num_since = state["step"], state["num_since"]
        self.score, self.values = state["score"], state["values"]


class _Average:
    """Exponential moving average of the learned parameters, corrected for its start at zero; off at decay 0."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.decay, self.num_updates = decay, 0
        self.sums = [torch.zeros_like(parameter) for parameter in parameters] if decay else []

    def update(self, parameters: Sequence[Tensor]) -> None:
        self.num_updates += 1
        with torch.no_grad():
            for total, parameter in zip(self.sums, parameters, strict=False):
                total.mul_(self.decay).add_(parameter, alpha=1 - self.decay)

    def values(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        if not self.decay or not self.num_updates:
            return [parameter.detach().clone() for parameter in parameters]
        return [total / (1 - self.decay**self.num_updates) for total in self.sums]


def _state(
    step: int,
    learned: Sequence[Tensor],
    optimiser: Any,
    schedule: Any,
    result: TrainResult,
    best: Sequence[_Best],
    average: _Average,
) -> dict[str, Any]:
    return {
        "step": step,
        "learned": [parameter.detach() for parameter in learned],
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "losses": result.losses,
        "candidate_losses": result.candidate_losses,
        "validations": result.validations,
        "stopped_early": result.stopped_early,
        "seconds": result.seconds,
        "best": [one.state() for one in best],
        "average": {"sums": average.sums, "num_updates": average.num_updates},
    }


def _restore(
    state: dict[str, Any],
    learned: Sequence[Tensor],
    optimiser: Any,
    schedule: Any,
    result: TrainResult,
    best: Sequence[_Best],
    average: _Average,
) -> int:
    """Puts a saved state back; returns the steps it had done."""
    _put(learned, state["learned"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    result.losses, result.validations = list(state["losses"]), [tuple(look) for look in state["validations"]]
    result.candidate_losses = [list(losses) for losses in state.get("candidate_losses", [])]
    result.seconds, result.stopped_early = state["seconds"], state["stopped_early"]
    for one, kept in zip(best, state["best"], strict=True):
        one.restore(kept)
    average.sums, average.num_updates = state["average"]["sums"], state["average"]["num_updates"]
    return int(state["step"])


def _tell(folder: RunFolder | None, listeners: Sequence[Listener], event: TrainEvent) -> None:
    if folder is not None:
        keys = {"event": event.kind, "step": event.step, "loss": event.loss, "seconds": round(event.seconds, 3)}
        folder.append(keys if event.score is None else {**keys, event.metric: event.score})
    for listener in listeners:
        listener(event)
