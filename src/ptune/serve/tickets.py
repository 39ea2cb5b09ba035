"""A request on its way: its texts, how long they may take, and who waits for the answers.

In: texts of one task. Out: their answers, all at once or as they come, from the worker's thread to the one that asked. A ticket
holds its task, so that a bundle that is replaced or put out of memory meanwhile still answers what was accepted with it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ptune.serve.engine import InputRow
from ptune.serve.refusals import Refusal, late
from ptune.task import Task

__all__ = ["Line", "Order", "Ticket", "Waiting", "answers_of", "news_of"]

News = tuple[int, str, Any]
"""A text's number, what was written since the last news, and its answer once there is one."""


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Args:
        name: the task's name, by which the queue is fair.
        task: the version that answers.
        rows: the texts.
        deadline: on the clock of `time.monotonic`.
        words: how texts are written, where that differs from the task's own way.
        samples: which sample of its row each text is; empty where each is the only one.
    """

    name: str
    task: Task
    rows: Sequence[InputRow]
    deadline: float
    words: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[int] = ()


class Ticket:
    """An order on its way.

    Args:
        order: what is asked for.
        on_done: is called once, on any thread, when nothing more comes.
        on_news: is told what is written while it is written; None where nobody reads along.
    """

    def __init__(
        self, order: Order, on_done: Callable[["Ticket"], None], on_news: Callable[[News], None] | None = None
    ) -> None:
        self.order = order
        self.name, self.task, self.rows, self.deadline = order.name, order.task, order.rows, order.deadline
        self.answers: list[Any] = [None] * len(order.rows)
        self.refusal: Refusal | None = None
        self.queued_at = time.monotonic()
        self.started_at: float | None = None
        self.is_done = False
        self.num_tokens = 0
        self._num_open = len(order.rows)
        self._on_done, self.on_news = on_done, on_news

    @property
    def waited(self) -> float:
        """Seconds in the queue before the first text was begun."""
        return (time.monotonic() if self.started_at is None else self.started_at) - self.queued_at

    def start(self) -> bool:
        """A text is begun; whether it is the first."""
        if self.started_at is not None:
            return False
        self.started_at = time.monotonic()
        return True

    def tell(self, place: int, piece: str, answer: Any = None) -> None:
        """What was written of a text."""
        if self.on_news is not None and not self.is_done and (piece or answer is not None):
            self.on_news((place, piece, answer))

    def answer(self, place: int, answer: Any) -> None:
        """Takes one text's answer; a refusal of one text refuses the request, and names the text."""
        if self.is_done:
            return
        if isinstance(answer, Refusal):
            if len(self.rows) > 1 and answer.status == 400:
                answer = Refusal(400, answer.code, f"input {place}: {answer.message}", param=f"inputs[{place}]")
            self.fail(answer)
            return
        self.answers[place] = answer
        self._num_open -= 1
        if self._num_open == 0:
            self._finish()

    def fail(self, refusal: Refusal) -> None:
        """Gives the whole request up."""
        if not self.is_done:
            self.refusal = refusal
            self._finish()

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.is_done = True

    def _finish(self) -> None:
        self.is_done = True
        self._on_done(self)


class Waiting:
    """One text of a ticket in the queue; what it costs and how it is read is found out once, on the worker's thread."""

    __slots__ = ("cost", "place", "prepared", "ticket")

    def __init__(self, ticket: Ticket, place: int) -> None:
        self.ticket, self.place = ticket, place
        self.cost: int | None = None
        self.prepared: Any = None

    @property
    def row(self) -> InputRow:
        """The text."""
        return self.ticket.rows[self.place]


class Line(Protocol):
    """A queue that takes tickets."""

    def put(self, ticket: Ticket) -> None:
        """Takes one on, or raises `Refusal`."""

    def withdraw(self, ticket: Ticket) -> None:
        """Takes it back."""


async def answers_of(line: Line, order: Order) -> Ticket:
    """Puts texts into a queue and waits for all of their answers.

    Raises:
        Refusal: the queue is full, the time ran out, or a text cannot be used.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    ticket = Ticket(order, lambda _: _safely(loop, _settle, done))
    line.put(ticket)
    try:
        await asyncio.wait_for(done, max(0.0, order.deadline - time.monotonic()))
    except TimeoutError:
        line.withdraw(ticket)
        raise late() from None
    except asyncio.CancelledError:
        line.withdraw(ticket)
        raise
    if ticket.refusal is not None:
        raise ticket.refusal
    return ticket


async def news_of(line: Line, order: Order) -> AsyncGenerator[tuple[Ticket, News], None]:
    """Puts texts into a queue and hands on what is written of them while it is written, with the ticket that it belongs to.

    Raises:
        Refusal: as in `answers_of`; in the middle too.
    """
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[News | None] = asyncio.Queue()
    ticket = Ticket(
        order,
        lambda _: _safely(loop, news.put_nowait, None),
        lambda one: _safely(loop, news.put_nowait, one),
    )
    line.put(ticket)
    try:
        while True:
            try:
                one = await asyncio.wait_for(news.get(), max(0.0, order.deadline - time.monotonic()))
            except TimeoutError:
                raise late() from None
            if one is None:
                break
            yield ticket, one
        if ticket.refusal is not None:
            raise ticket.refusal
    finally:
        line.withdraw(ticket)


def _settle(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


def _safely(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *values: Any) -> None:
    """From the worker's thread to the event loop, which may be gone when a server is stopped by force."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *values)
