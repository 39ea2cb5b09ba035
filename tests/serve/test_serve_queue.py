"""The queue: tasks take turns, each task's texts stay in order, nothing is lost or given twice, and too much is refused."""

import time
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue, Pace
from ptune.serve.refusals import Refusal
from ptune.serve.tickets import Order, Ticket

TASK: Any = cast(Any, "the queue never looks at a task")


def queue_of(most: int = 1000, max_wait: float = 60.0) -> FairQueue:
    return FairQueue("label", most, max_wait, lambda: None, Metrics())


def ticket(name: str, num: int = 1, *, seconds: float = 60.0, first: int = 0) -> Ticket:
    rows = [f"{name}{first + n}" for n in range(num)]
    return Ticket(Order(name, TASK, rows, time.monotonic() + seconds), lambda _: None)


def drain(queue: FairQueue) -> list[Any]:
    rows = []
    while (one := queue.take()) is not None:
        rows.append(one.row)
    return rows


def test_tasks_take_turns() -> None:
    queue = queue_of()
    queue.put(ticket("a", 4))
    queue.put(ticket("b", 1))
    queue.put(ticket("c", 2))
    assert drain(queue) == ["a0", "b0", "c0", "a1", "c1", "a2", "a3"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5)), max_size=20), st.data())
def test_nothing_is_lost_or_given_twice_and_each_task_keeps_its_order(puts: list[tuple[str, int]], data: st.DataObject) -> None:
    queue, given_rows, expected = queue_of(), [], []
    counts: dict[str, int] = {}
    for name, num in puts:
        first = counts.get(name, 0)
        counts[name] = first + num
        queue.put(ticket(name, num, first=first))
        expected += [f"{name}{first + n}" for n in range(num)]
        for _ in range(data.draw(st.integers(0, 3))):
            one = queue.take()
            if one is not None and data.draw(st.booleans()):
                queue.put_back(one)
            elif one is not None:
                given_rows.append(one.row)
    given_rows += drain(queue)
    assert sorted(given_rows) == sorted(expected) and len(queue) == 0
    for name in counts:
        mine = [int(row[1:]) for row in given_rows if row[0] == name]
        assert mine == sorted(mine)


def test_a_text_that_is_put_back_is_next() -> None:
    queue = queue_of()
    queue.put(ticket("a", 2))
    queue.put(ticket("b", 2))
    one = queue.take()
    assert one is not None
    queue.put_back(one)
    assert drain(queue) == ["a0", "b0", "a1", "b1"]


def test_more_than_fits_is_refused_with_a_time_to_come_back() -> None:
    queue = queue_of(most=4)
    queue.put(ticket("a", 3))
    with pytest.raises(Refusal) as refused:
        queue.put(ticket("a", 2))
    assert refused.value.status == 429 and int(refused.value.headers["retry-after"]) >= 1
    assert len(queue) == 3


def test_one_task_fills_half_of_the_queue_once_others_wait() -> None:
    queue = queue_of(most=8)
    queue.put(ticket("a", 6))
    queue.put(ticket("b", 1))
    with pytest.raises(Refusal):
        queue.put(ticket("a", 1))
    drain(queue)
    queue.put(ticket("b", 1))
    queue.put(ticket("a", 4))
    with pytest.raises(Refusal):
        queue.put(ticket("a", 1))
    queue.put(ticket("c", 2))


def test_what_would_wait_too_long_is_refused() -> None:
    queue = queue_of(max_wait=1.0)
    queue.pace.seconds_per_text = 0.3
    queue.put(ticket("a", 4))
    with pytest.raises(Refusal) as refused:
        queue.put(ticket("b", 1))
    assert refused.value.headers["retry-after"] == "2"  # 4 x 0.3 seconds, whole seconds up


def test_what_would_not_begin_before_its_deadline_is_refused() -> None:
    queue = queue_of()
    queue.pace.seconds_per_text = 0.5
    queue.put(ticket("a", 4))
    with pytest.raises(Refusal):
        queue.put(ticket("b", 1, seconds=1.0))
    queue.put(ticket("b", 1, seconds=3.0))


def test_what_waited_too_long_is_given_up() -> None:
    queue = queue_of(max_wait=0.02)
    old, begun = ticket("a", 1), ticket("b", 1)
    queue.put(old)
    queue.put(begun)
    begun.start()
    time.sleep(0.05)
    assert drain(queue) == ["b0"]
    assert old.refusal is not None and old.refusal.status == 429


def test_what_is_past_its_deadline_is_given_up() -> None:
    queue = queue_of()
    late = ticket("a", 2, seconds=0.01)
    queue.put(late)
    time.sleep(0.03)
    assert drain(queue) == []
    assert late.refusal is not None and late.refusal.status == 504


def test_what_is_withdrawn_leaves_room() -> None:
    queue = queue_of(most=4)
    one = ticket("a", 3)
    queue.put(one)
    queue.put(ticket("a", 1, first=9))
    queue.withdraw(one)
    assert len(queue) == 1
    queue.put(ticket("a", 3, first=10))
    assert drain(queue) == ["a9", "a10", "a11", "a12"]
    queue.withdraw(one)  # once more changes nothing


def test_a_ticket_is_done_once() -> None:
    calls = []
    one = Ticket(Order("a", TASK, ["x", "y"], 0.0), calls.append)
    one.answer(1, "second")
    one.answer(0, "first")
    one.answer(0, "again")
    one.fail(Refusal(500, "fault", "late"))
    assert calls == [one] and one.answers == ["first", "second"] and one.refusal is None


def test_a_refused_text_refuses_its_request_and_is_named() -> None:
    one = Ticket(Order("a", TASK, ["x", "y"], 0.0), lambda _: None)
    one.answer(1, Refusal(400, "bad_input", "no field 'text'"))
    assert one.refusal is not None and one.refusal.message == "input 1: no field 'text'"
    one.answer(0, "never mind")
    assert one.answers == [None, None]


def test_the_pace_is_from_end_to_end_whatever_else_ran_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("ptune.serve.queue.time.monotonic", lambda: now[0])
    pace = Pace()
    pace.note(2, 99.0)  # both came a second ago
    assert pace.seconds_per_text == 0.5
    now[0] = 103.0
    pace.note(3, 95.0)  # waited since before the last end: three seconds for three
    assert pace.seconds_per_text == pytest.approx(1.0 - 0.8**3 * 0.5)  # as after three that took one second each
    now[0] = 200.0
    pace.note(1, 199.0)  # there was nothing to do in between
    assert pace.seconds_per_text == pytest.approx(1.0 - 0.8**4 * 0.5)


def test_texts_side_by_side_end_as_often_as_their_number_over_their_time() -> None:
    """Eight texts that began together and take four seconds: the first end is no sign of one text every four seconds."""
    pace = Pace()
    for _ in range(8):
        pace.note_beside(4.0, 8)
        assert pace.seconds_per_text == pytest.approx(0.5)
    pace.note_beside(1.0, 1)
    assert pace.seconds_per_text == pytest.approx(0.5 + 0.2 * 0.5)


def test_what_finds_a_free_place_waits_for_nothing() -> None:
    queue = queue_of(max_wait=1.0)
    queue.pace.seconds_per_text, queue.free_places = 5.0, 4
    queue.put(ticket("a", 4))
    queue.put(ticket("b", 1))
    with pytest.raises(Refusal) as refused:
        queue.put(ticket("c", 1))
    assert refused.value.headers["retry-after"] == "5"  # for the one that has no place
    queue.free_places = 5
    queue.put(ticket("c", 1))


def test_a_task_keeps_its_turn_when_a_ticket_is_withdrawn() -> None:
    queue = queue_of()
    done, gone = ticket("a", 1), ticket("a", 1, first=1)
    for one in (done, gone, ticket("a", 1, first=2), ticket("b", 1), ticket("c", 1)):
        queue.put(one)
    taken = queue.take()
    assert taken is not None and taken.ticket is done
    queue.put_back(taken)
    queue.take()
    queue.put(ticket("d", 1))  # the turn is b's, then c's, a's, d's
    queue.withdraw(done)  # nothing of it waits any more
    queue.withdraw(gone)
    assert drain(queue) == ["b0", "c0", "a2", "d0"]
