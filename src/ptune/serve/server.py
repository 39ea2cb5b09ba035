"""All parts of a running server, put together: model, worker, queue, tasks; and how a request waits for its answers.

In: settings and a loaded backbone. Out: `Server`, which the routes talk to.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from ptune.backbone import Backbone
from ptune.model import WritingModel
from ptune.serve.engine import Engine, InputRow
from ptune.serve.guard import facts_of
from ptune.serve.labelling import Labelling
from ptune.serve.logs import log
from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue
from ptune.serve.refusals import gone, late, not_ready
from ptune.serve.registry import Registry, Version
from ptune.serve.settings import ServeSettings
from ptune.serve.tickets import Order, Ticket, answers_of
from ptune.serve.worker import Work, Worker
from ptune.serve.writing import Writing
from ptune.task import Task

__all__ = ["Server", "unless_gone"]

T = TypeVar("T")

_SECONDS_TO_END = 0.5
"""That the worker's thread has to end even where the grace is spent."""


class Server:
    """See the module's docstring.

    Args:
        settings: of this server.
        backbone: the frozen model; from now on only the worker's thread computes with it.
    """

    def __init__(self, settings: ServeSettings, backbone: Backbone) -> None:
        self.settings, self.backbone = settings, backbone
        self.metrics = Metrics()
        self.engine = Engine(backbone)
        self.worker = Worker(settings.threads)
        self.registry = Registry(settings, self.engine, self.worker, self.metrics)
        self.queue = FairQueue("label", settings.max_queue, settings.max_wait, self.worker.wake, self.metrics)
        self.writing_queue = FairQueue("write", settings.max_queue, settings.max_wait, self.worker.wake, self.metrics)
        self._works: list[Work] = [
            Labelling(self.queue, self.engine, settings.tokens_per_step, self.metrics, self.registry.used),
            Writing(self.writing_queue, settings, self.metrics, self.registry.used),
        ]
        self._stops_at: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether the worker's thread runs."""
        return self.worker.is_alive

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new is taken on."""
        return self._stops_at is not None

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken on."""
        return self.is_live and self.registry.is_ready and not self.is_stopping

    def start(self) -> None:
        """Starts the threads."""
        self.worker.start(self._works)
        self.registry.start()
        log("start", backbone=self.backbone.spec.name, fingerprint=self.backbone.fingerprint[:12])

    def begin_to_stop(self) -> None:
        """Takes nothing new on; the grace for what was taken on runs from the first call."""
        if self._stops_at is None:
            self._stops_at = time.monotonic() + self.settings.grace_seconds

    async def refuse_the_rest(self) -> None:
        """Once the grace is spent, refuses what still waits or runs, so that its clients hear of it."""
        await asyncio.sleep(self._grace_left)
        self.worker.give_up(not_ready("the server is stopping"))

    async def stop(self) -> None:
        """Finishes what was taken on while there is grace left, refuses the rest, and ends."""
        self.begin_to_stop()
        self.registry.stop()
        is_finished = await asyncio.to_thread(self.worker.stop, max(_SECONDS_TO_END, self._grace_left))
        log("stop", level="info" if is_finished else "warning", finished=is_finished)

    @property
    def _grace_left(self) -> float:
        return max(0.0, (self._stops_at or 0.0) - time.monotonic())

    def task_name(self, model: str) -> str:
        """`task`, or `backbone:task`."""
        return model.removeprefix(f"{self.backbone.spec.name}:")

    def deadline(self, timeout: float | None) -> float:
        """When a request is given up, on the monotonic clock."""
        return time.monotonic() + min(timeout or self.settings.timeout, self.settings.timeout)

    def queue_of(self, task: Task) -> FairQueue:
        """Where a task's texts wait."""
        return self.writing_queue if isinstance(task.model, WritingModel) else self.queue

    async def ask(
        self,
        request: Request,
        name: str,
        rows: Callable[[Task], Sequence[InputRow]],
        timeout: float | None,
        *,
        words: Mapping[str, Any] | None = None,
        num: int = 1,
    ) -> tuple[Version, Ticket]:
        """The answers to texts of one task.

        Args:
            request: whose client may leave.
            name: the task's.
            rows: makes its texts, once the task is known.
            timeout: seconds; None takes the server's.
            words: how texts are written.
            num: samples of each.

        Raises:
            Refusal: no such task, the queue is full, the time ran out, a text cannot be used, or the client left.
        """

        async def work() -> tuple[Version, Ticket]:
            deadline = self.deadline(timeout)
            version, task = await self._acquire(request, name, deadline)
            texts = rows(task)
            samples: Sequence[int] = ()
            if num > 1 and _draws(task, words or {}):
                texts, samples = [text for text in texts for _ in range(num)], tuple(range(num)) * len(texts)
            self.note_texts(request, texts)
            order = Order(name, task, texts, deadline, words or {}, samples)
            ticket = await answers_of(self.queue_of(task), order)
            facts_of(request.scope)["queue_ms"] = round(1000 * ticket.waited, 1)
            return version, ticket

        return await unless_gone(request, work())

    async def acquire(self, request: Request, name: str) -> tuple[Version, Task]:
        """The task that answers now, for those who put their texts into its queue themselves.

        Raises:
            Refusal: as `ask`.
        """
        return await unless_gone(request, self._acquire(request, name, self.deadline(None)))

    async def _acquire(self, request: Request, name: str, deadline: float) -> tuple[Version, Task]:
        if self.is_stopping:
            raise not_ready("the server is stopping")
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                entry, version, task = await self.registry.acquire(name)
        except TimeoutError:
            raise late() from None
        facts_of(request.scope).update(task=entry.name, version=version.digest[:16])
        return version, task

    def note_texts(self, request: Request, rows: Sequence[InputRow]) -> None:
        """For the log."""
        facts = facts_of(request.scope)
        facts["texts"] = len(rows)
        if self.settings.log_texts:
            facts["inputs"] = list(rows)


def _draws(task: Task, words: Mapping[str, Any]) -> bool:
    """Whether chance decides what a task writes."""
    model = task.model
    given = words.get("temperature")
    return isinstance(model, WritingModel) and (model.decoding.temperature if given is None else given) > 0


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, unless the client leaves first: then it is cancelled.

    Raises:
        Refusal: the client left.
    """
    mine = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({mine, left}, return_when=asyncio.FIRST_COMPLETED)
        if not mine.done():
            raise gone()
        return mine.result()
    finally:
        for one in (mine, left):
            one.cancel()
        await asyncio.wait({mine, left})  # what was cancelled ends before its generator is closed


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
