"""Tasks that write, step by step and without a server: what joins when, how much room there is, and what a fault leaves."""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ptune.backbone import Backbone
from ptune.decode import Flow
from ptune.model import GenerationModel
from ptune.serve import ServeSettings
from ptune.serve.metrics import Metrics
from ptune.serve.queue import FairQueue
from ptune.serve.tickets import Order, Ticket
from ptune.serve.writing import Writing
from ptune.task import Task
from serving import writer
from tiny import tiny_backbone

PROMPTS = ("The film was", "bad", "I like this place , it is", "What a day !", "这部电影")


def writing_of(root: Path, **settings: Any) -> tuple[Writing, FairQueue]:
    metrics = Metrics()
    queue = FairQueue("write", 1000, 60.0, lambda: None, metrics)
    return Writing(queue, ServeSettings(root, **settings), metrics, lambda _: None), queue


def asked(queue: FairQueue, task: Task, texts: Sequence[str], **words: Any) -> Ticket:
    ticket = Ticket(Order(str(id(task)), task, texts, time.monotonic() + 60, words), lambda _: None)
    queue.put(ticket)
    return ticket


@torch.no_grad()
def write_all(writing: Writing) -> None:
    while writing.has_work:
        writing.step()


@torch.no_grad()
def test_a_step_writes_one_text_that_cannot_share(tmp_path: Path) -> None:
    beams, plain = writer(tmp_path, "beams", decode={"beams": 3}), writer(tmp_path, "plain", 1)
    writing, queue = writing_of(tmp_path)
    alone, beside = asked(queue, beams, PROMPTS[:3]), asked(queue, plain, PROMPTS[:3])
    for num_done in (1, 2, 3):
        writing.step()
        assert sum(answer is not None for answer in alone.answers) == num_done
        assert num_done == 1 or writing.num_running > 0  # the others begin in between
    write_all(writing)
    assert [texts[0].text for texts in alone.answers] == [one.text for one in beams.predict(list(PROMPTS[:3]))]
    assert [texts[0].text for texts in beside.answers] == [one.text for one in plain.predict(list(PROMPTS[:3]))]


def test_room_for_keys_and_values_is_bounded_rows_times_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 120
    monkeypatch.setattr("ptune.serve.writing._MOST_TOKENS_HELD", most)
    task = writer(tmp_path, "w", max_new_tokens=40)
    writing, queue = writing_of(tmp_path)
    rooms, own = list[int](), Flow.step

    def step(self: Flow, tokens: Any) -> Any:
        assert self._held is not None
        rooms.append(self._held.shape[2] * max(self._lengths))
        return own(self, tokens)

    monkeypatch.setattr(Flow, "step", step)
    monkeypatch.setattr("ptune.model.WritingModel.end_ids", frozenset())  # all are as long as they may be
    tickets = [asked(queue, task, ["bad"], max_new_tokens=40)]  # a long one, then as many short ones as fit beside it
    tickets += [asked(queue, task, ["bad"], max_new_tokens=4) for _ in range(12)]
    write_all(writing)
    tickets += [asked(queue, task, ["bad"], max_new_tokens=4 + n % 3) for n in range(12)]  # room for many rows, then a long one
    tickets += [asked(queue, task, ["bad"], max_new_tokens=40)]
    write_all(writing)
    assert all(one.refusal is None and one.answers[0] is not None for one in tickets)
    assert max(rooms) <= 2 * most  # rows are made room for by doubling


def test_a_text_that_waits_for_room_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptune.serve.writing._MOST_TOKENS_HELD", 1)
    task, nums = writer(tmp_path, "w"), list[int]()
    own = GenerationModel.prompts
    monkeypatch.setattr(GenerationModel, "prompts", lambda self, rows: nums.append(len(rows)) or own(self, rows))
    writing, queue = writing_of(tmp_path)
    tickets = [asked(queue, task, [text]) for text in PROMPTS]
    write_all(writing)
    assert all(one.answers[0] is not None for one in tickets) and nums == [1] * len(PROMPTS)


@torch.no_grad()
def test_the_queue_knows_how_many_texts_find_a_place(tmp_path: Path) -> None:
    plain, beams = writer(tmp_path, "w", max_new_tokens=20), writer(tmp_path, "beams", 1, decode={"beams": 2})
    writing, queue = writing_of(tmp_path, max_running=4)
    assert queue.free_places == 4
    asked(queue, plain, ["bad"] * 3)
    writing.step()
    assert queue.free_places == 4 - writing.num_running == 1
    write_all(writing)
    assert queue.free_places == 4
    asked(queue, beams, ["bad"] * 2)
    writing.step()
    assert queue.free_places == 0  # those that are written alone wait for each other
    write_all(writing)
    assert queue.free_places == 4


@torch.no_grad()
def test_after_a_fault_a_task_with_weights_of_its_own_goes_on_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tiny_backbone("llama")
    tuned = copy.deepcopy(shared.model)
    for parameter in tuned.parameters():
        parameter.mul_(-0.7)
    backbone = Backbone(tuned, shared.tokens.tokenizer, name="tuned")
    model = GenerationModel.build(backbone=backbone, template="{text}{mask}", method="hard", max_new_tokens=8)
    task = Task(model.requires_grad_(False))
    writing, queue = writing_of(tmp_path)
    lost = asked(queue, task, ["The film was"])
    writing.step()
    kept = asked(queue, task, ["The film was"])
    own, faults = Flow.step, [RuntimeError("a fault")]
    monkeypatch.setattr(Flow, "step", lambda self, tokens: _raise(faults.pop()) if faults else own(self, tokens))
    write_all(writing)
    assert lost.refusal is not None and lost.refusal.status == 500
    assert kept.answers[0][0].text == task.predict(["The film was"])[0].text


def _raise(error: Exception) -> Any:
    raise error


@torch.no_grad()
def test_who_hears_of_an_end_may_ask_again_before_the_step_is_over(tmp_path: Path) -> None:
    """Slow texts fill all places; each end makes one free at once, and a slow pace then refuses nobody who takes it."""
    task = writer(tmp_path, "w", max_new_tokens=6)
    metrics = Metrics()
    queue = FairQueue("write", 1000, 1.0, lambda: None, metrics)
    writing = Writing(queue, ServeSettings(tmp_path, max_running=3), metrics, lambda _: None)
    later = list[Ticket]()

    def again(ticket: Ticket) -> None:
        if len(later) < 6:
            queue.pace.seconds_per_text = 5.0
            later.append(Ticket(Order("w", task, ["bad"], time.monotonic() + 60, {}), again))
            queue.put(later[-1])

    for text in PROMPTS[:3]:
        queue.put(Ticket(Order("w", task, [text], time.monotonic() + 60, {}), again))
    write_all(writing)
    assert len(later) == 6 and all(one.refusal is None and one.answers[0] is not None for one in later)
