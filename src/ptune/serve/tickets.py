"""A request on its way: its texts, how long they may take, and who waits for the answers.

In: texts of one task. Out: their answers, all at once, from the worker's thread to the one that asked. A ticket holds its task,
so that a bundle that is replaced or put out of memory meanwhile still answers what was accepted with it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from ptune.serve.engine import InputRow
from ptune.serve.refusals import Refusal, late
from ptune.task import Task

__all__ = ["Ticket", "Waiting", "answers_of"]


class Ticket:
    """Texts of one request.

    Args:
        name: the task's name, by which the queue is fair.
        task: the version that answers.
        rows: the texts.
        deadline: on the clock of `time.monotonic`.
        on_done: is called once, on any thread, when nothing more comes.
    """

    def __init__(
        self, name: str, task: Task, rows: Sequence[InputRow], *, deadline: float, on_done: Callable[["Ticket"], None]
    ) -> None:
        self.name, self.task, self.rows, self.deadline = name, task, rows, deadline
        self.answers: list[Any] = [None] * len(rows)
        self.refusal: Refusal | None = None
        self.queued_at = time.monotonic()
        self.started_at: float | None = None
        self.is_done = False
        self.num_tokens = 0
        self._num_open = len(rows)
        self._on_done = on_done

    @property
    def waited(self) -> float:
        """Seconds in the queue before the first text was begun."""
        return (time.monotonic() if self.started_at is None else self.started_at) - self.queued_at

    def start(self) -> None:
        """The first of its texts is begun."""
        if self.started_at is None:
            self.started_at = time.monotonic()

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
    """One text of a ticket in the queue; its cost is found out once, on the worker's thread."""

    __slots__ = ("cost", "place", "ticket")

    def __init__(self, ticket: Ticket, place: int) -> None:
        self.ticket, self.place = ticket, place
        self.cost: int | None = None

    @property
    def row(self) -> InputRow:
        """The text."""
        return self.ticket.rows[self.place]


async def answers_of(
    put: Callable[[Ticket], None],
    withdraw: Callable[[Ticket], None],
    name: str,
    task: Task,
    rows: Sequence[InputRow],
    deadline: float,
) -> Ticket:
    """Puts texts into a queue and waits for all of their answers.

    Args:
        put, withdraw: of the queue.
        name, task, rows, deadline: of the ticket.

    Raises:
        Refusal: the queue is full, the time ran out, or a text cannot be used.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def on_done(_: Ticket) -> None:
        loop.call_soon_threadsafe(_settle, done)

    ticket = Ticket(name, task, rows, deadline=deadline, on_done=on_done)
    put(ticket)
    try:
        await asyncio.wait_for(done, max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        withdraw(ticket)
        raise late() from None
    except asyncio.CancelledError:
        withdraw(ticket)
        raise
    if ticket.refusal is not None:
        raise ticket.refusal
    return ticket


def _settle(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)
