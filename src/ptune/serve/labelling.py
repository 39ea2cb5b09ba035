"""Labels, tags, spans: work that is done in one pass. Texts of all tasks that wait share the step's batches.

In: the queue. Out: each text's answer. A step takes texts, one of each task in turn, until their live tokens fill it.
"""

import time
from collections.abc import Callable, Mapping

from ptune.serve.engine import Engine, refusal_of
from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue
from ptune.serve.refusals import Refusal
from ptune.serve.tickets import Waiting
from ptune.task import Task

__all__ = ["Labelling"]

_MOST_TEXTS = 128
_WORK = "label"


class Labelling:
    """See the module's docstring; a kind of `Work`.

    Args:
        queue: texts that wait.
        engine: computes them.
        tokens_per_step: live tokens of a step.
        metrics: where steps are counted.
        after: is told which tasks were used.
    """

    weight = 1.0

    def __init__(
        self,
        queue: FairQueue,
        engine: Engine,
        tokens_per_step: int,
        metrics: Metrics,
        after: Callable[[Mapping[str, Task]], None],
    ) -> None:
        self._queue, self._engine, self._budget = queue, engine, tokens_per_step
        self._metrics, self._after = metrics, after

    @property
    def has_work(self) -> bool:
        """Whether texts wait."""
        return len(self._queue) > 0

    def step(self) -> None:
        """Labels as many texts as fit."""
        started = time.monotonic()
        taken = self._take()
        if not taken:
            return
        for one in taken:
            if one.ticket.start():
                self._metrics.wait_seconds.observe(one.ticket.waited)
        answers = self._engine.predict([(one.ticket.task, one.row) for one in taken])
        self._after({one.ticket.name: one.ticket.task for one in taken})
        self._note(taken, time.monotonic() - started)
        for one, answer in zip(taken, answers, strict=True):
            one.ticket.answer(one.place, answer)

    def give_up(self, refusal: Refusal) -> None:
        """Refuses all that wait."""
        self._queue.fail_all(lambda ticket: ticket.fail(refusal))

    def _take(self) -> list[Waiting]:
        taken: list[Waiting] = []
        tokens = 0
        while len(taken) < _MOST_TEXTS and (one := self._queue.take()) is not None:
            if one.cost is None:
                try:
                    one.cost = self._engine.cost(one.ticket.task, one.row)
                except Exception as error:
                    one.ticket.answer(one.place, refusal_of(error))
                    continue
            if taken and tokens + one.cost > self._budget:
                self._queue.put_back(one)
                break
            taken.append(one)
            one.ticket.num_tokens += one.cost
            tokens += one.cost
        return taken

    def _note(self, taken: list[Waiting], seconds: float) -> None:
        self._queue.pace.note(len(taken), min(one.ticket.queued_at for one in taken))
        tokens = sum(one.cost or 0 for one in taken)
        metrics = self._metrics
        metrics.step_seconds.labels(_WORK).observe(seconds)
        metrics.step_texts.labels(_WORK).observe(len(taken))
        metrics.step_tasks.labels(_WORK).observe(len({one.ticket.name for one in taken}))
        metrics.step_fill.labels(_WORK).observe(tokens / self._budget)
        metrics.tokens.labels("read").inc(tokens)
        for one in taken:
            metrics.texts.labels(one.ticket.name).inc()
