"""Texts that wait, a line for each task, taken in turn; bounded in number and in time.

In: tickets. Out: one text after the other, from each task in turn, so that a task with many texts never keeps the others from
being answered. What would wait too long is refused at once, and what did wait too long is given up.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from ptune.serve.metrics import Metrics
from ptune.serve.refusals import busy, late
from ptune.serve.tickets import Ticket, Waiting

__all__ = ["FairQueue", "Pace"]

_WEIGHT_OF_NEW = 0.2
_LONGEST_RETRY = 60.0


class Pace:
    """How long it takes from one text's end to the next one's, lately; other kinds of work in between count too.

    Texts that are computed together are noted by when they end. Texts that run side by side are noted by how long each took
    and how many ran: when many begin at once, the first one's end says nothing of how often texts end from then on.
    """

    def __init__(self) -> None:
        self.seconds_per_text = 0.0
        self._noted_at = 0.0

    def note(self, num_texts: int, queued_at: float) -> None:
        """Texts are done.

        Args:
            num_texts: that ended together.
            queued_at: when the first of them was put into the queue; before, there may have been nothing to do.
        """
        now = time.monotonic()
        self._learn((now - max(self._noted_at, queued_at)) / num_texts, num_texts)
        self._noted_at = now

    def note_beside(self, seconds: float, num_beside: int) -> None:
        """A text is done that was not alone; by Little's law one ends every `seconds / num_beside`.

        Args:
            seconds: from its beginning.
            num_beside: texts that ran, itself included.
        """
        self._learn(seconds / num_beside, 1)

    def _learn(self, own: float, num_texts: int) -> None:
        before = self.seconds_per_text
        weight = 1 - (1 - _WEIGHT_OF_NEW) ** num_texts  # as if each had been noted by itself
        self.seconds_per_text = own if before == 0 else before + weight * (own - before)


class FairQueue:
    """See the module's docstring.

    Args:
        work: what its texts wait for, in the figures.
        most: texts that may wait.
        max_wait: seconds that a ticket may wait for its beginning.
        wake: is called when something was put in.
        metrics: where waiting texts and refusals are counted.

    `free_places` is how many of the waiting texts can begin at once, where several are under way side by side.
    """

    def __init__(self, work: str, most: int, max_wait: float, wake: Callable[[], None], metrics: Metrics) -> None:
        self._waiting = metrics.waiting.labels(work)
        self._most, self._max_wait, self._wake, self._metrics = most, max_wait, wake, metrics
        self._lines: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._lock = threading.Lock()
        self._num = 0
        self.pace = Pace()
        self.free_places = 0

    def __len__(self) -> int:
        return self._num

    @property
    def expected_wait(self) -> float:
        """Seconds until what is put in now would begin."""
        return max(0, self._num - self.free_places) * self.pace.seconds_per_text

    def put(self, ticket: Ticket) -> None:
        """Takes a ticket on.

        A single task may fill the queue only while no other task waits; otherwise half of it.

        Raises:
            Refusal: too many wait, or it would wait too long (429, with the time after which to ask again).
        """
        num = len(ticket.rows)
        with self._lock:
            own = len(self._lines.get(ticket.name, ()))
            is_crowded = self._num + num > self._most or (self._num > own and own + num > max(1, self._most // 2))
            wait = self.expected_wait
            if is_crowded or wait > min(self._max_wait, max(0.0, ticket.deadline - time.monotonic())):
                self._metrics.refused.labels("queue").inc(num)
                raise busy(min(_LONGEST_RETRY, max(1.0, wait)))
            line = self._lines.setdefault(ticket.name, deque())
            line.extend(Waiting(ticket, place) for place in range(num))
            self._count(num)
        self._wake()

    def withdraw(self, ticket: Ticket) -> None:
        """Takes a ticket back; texts of it that are being computed are not delivered. Its task keeps its turn."""
        ticket.cancel()
        with self._lock:
            line = self._lines.get(ticket.name)
            if line is None:
                return
            left = deque(one for one in line if one.ticket is not ticket)
            self._metrics.refused.labels("withdrawn").inc(len(line) - len(left))
            self._count(len(left) - len(line))
            self._lines[ticket.name] = left
            if not left:
                del self._lines[ticket.name]

    def take(self) -> Waiting | None:
        """The next text whose ticket still wants it, of the task whose turn it is."""
        while True:
            with self._lock:
                if not self._lines:
                    return None
                name = next(iter(self._lines))
                one = self._lines[name].popleft()
                self._count(-1)
                self._set_line(name, self._lines[name])
            if self._is_wanted(one.ticket):
                return one

    def put_back(self, one: Waiting) -> None:
        """A text that did not fit into the step stands first again."""
        with self._lock:
            self._lines.setdefault(one.ticket.name, deque()).appendleft(one)
            self._lines.move_to_end(one.ticket.name, last=False)
            self._count(1)

    def fail_all(self, refuse: Callable[[Ticket], None]) -> None:
        """Empties the queue."""
        with self._lock:
            lines, self._lines = list(self._lines.values()), OrderedDict()
            self._count(-self._num)
        for ticket in dict.fromkeys(one.ticket for line in lines for one in line):
            refuse(ticket)

    def _is_wanted(self, ticket: Ticket) -> bool:
        if ticket.is_done:
            return False
        now = time.monotonic()
        if now > ticket.deadline:
            self._metrics.refused.labels("deadline").inc(len(ticket.rows))
            ticket.fail(late())
        elif ticket.started_at is None and now - ticket.queued_at > self._max_wait:
            self._metrics.refused.labels("waited").inc(len(ticket.rows))
            ticket.fail(busy(min(_LONGEST_RETRY, max(1.0, self.expected_wait))))
        return not ticket.is_done

    def _set_line(self, name: str, line: deque[Waiting]) -> None:
        """After a turn, a task's line stands last; an empty one goes."""
        if line:
            self._lines[name] = line
            self._lines.move_to_end(name)
        else:
            self._lines.pop(name, None)

    def _count(self, change: int) -> None:
        self._num += change
        self._waiting.set(self._num)
