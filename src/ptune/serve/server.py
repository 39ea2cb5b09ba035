"""All parts of a running server, put together: model, worker, queue, tasks; and how a request waits for its answers.

In: settings and a loaded backbone. Out: `Server`, which the routes talk to.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from ptune.backbone import Backbone
from ptune.serve.engine import Engine, InputRow
from ptune.serve.guard import facts_of
from ptune.serve.labelling import Labelling
from ptune.serve.logs import log
from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue
from ptune.serve.refusals import gone, late
from ptune.serve.registry import Registry, Version
from ptune.serve.settings import ServeSettings
from ptune.serve.tickets import Ticket, answers_of
from ptune.serve.worker import Worker

__all__ = ["Server", "unless_gone"]

T = TypeVar("T")


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
        self.queue = FairQueue(settings.max_queue, settings.max_wait, self.worker.wake, self.metrics)
        self._works = [
            Labelling(self.queue, self.engine, settings.tokens_per_step, self.metrics, self.registry.used),
        ]
        self.is_stopping = False

    @property
    def is_live(self) -> bool:
        """Whether the worker's thread runs."""
        return self.worker.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken on."""
        return self.is_live and self.registry.is_ready and not self.is_stopping

    def start(self) -> None:
        """Starts the threads."""
        self.worker.start(self._works)
        self.registry.start()
        log("start", backbone=self.backbone.spec.name, fingerprint=self.backbone.fingerprint[:12])

    def stop(self) -> None:
        """Finishes what was taken on, and ends."""
        self.is_stopping = True
        self.registry.stop()
        is_finished = self.worker.stop(self.settings.grace_seconds)
        log("stop", level="info" if is_finished else "warning", finished=is_finished)

    def task_name(self, model: str) -> str:
        """`task`, or `backbone:task`."""
        return model.removeprefix(f"{self.backbone.spec.name}:")

    def deadline(self, timeout: float | None) -> float:
        """When a request is given up, on the monotonic clock."""
        return time.monotonic() + min(timeout or self.settings.timeout, self.settings.timeout)

    async def ask(self, request: Request, name: str, rows: Sequence[InputRow], timeout: float | None) -> tuple[Version, Ticket]:
        """The answers to texts of one task.

        Raises:
            Refusal: no such task, the queue is full, the time ran out, a text cannot be used, or the client left.
        """
        facts = facts_of(request.scope)
        deadline = self.deadline(timeout)
        version, ticket = await unless_gone(request, self._ask(facts, name, rows, deadline))
        return version, ticket

    async def _ask(self, facts: dict[str, Any], name: str, rows: Sequence[InputRow], deadline: float) -> tuple[Version, Ticket]:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, deadline - time.monotonic())):
                entry, version, task = await self.registry.acquire(name)
        except TimeoutError:
            raise late() from None
        facts |= {"task": entry.name, "version": version.digest[:16], "texts": len(rows)}
        if self.settings.log_texts:
            facts["inputs"] = list(rows)
        ticket = await answers_of(self.queue.put, self.queue.withdraw, entry.name, task, rows, deadline)
        facts |= {"queue_ms": round(1000 * ticket.waited, 1)}
        return version, ticket


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


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
