"""Completions of a task's prompts: what its label words say, or text that it writes, whole or piece by piece.

In: prompts (texts, or conversations) and how to write. Out: `Completed` for each, or `Piece`s in the order in which they come.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from starlette.requests import Request

from ptune.decode import Written
from ptune.model import DialogueModel, WritingModel
from ptune.serve.engine import InputRow
from ptune.serve.refusals import bad_request
from ptune.serve.server import Server
from ptune.serve.tickets import Order, news_of
from ptune.task import Task

__all__ = ["Asked", "Completed", "Piece", "complete", "stream"]

Prompt = str | Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Asked:
    """What is to be completed, and how.

    Args:
        task: its name.
        prompts: texts, or conversations of messages with `role` and `content`.
        num: completions of each.
        words: `max_new_tokens`, `temperature`, `top_p`, `seed` and `stop`, where they are given.
    """

    task: str
    prompts: Sequence[Prompt]
    num: int
    words: Mapping[str, Any]


@dataclass(frozen=True)
class Completed:
    """One completion.

    Args:
        number: its place among all of the request.
        text: what was written.
        reason: `stop` (it ended by itself or at a stop word) or `length`.
        num_tokens: that were written.
        num_prompt_tokens: that were read for the whole request, at one of its completions; 0 at the others.
    """

    number: int
    text: str
    reason: Literal["stop", "length"] = "stop"
    num_tokens: int = 1
    num_prompt_tokens: int = 0


@dataclass(frozen=True)
class Piece:
    """What came of a completion since its last piece; with its end, nothing more comes."""

    number: int
    text: str
    end: Completed | None = None


async def complete(server: Server, request: Request, asked: Asked) -> list[Completed]:
    """All completions, whole.

    Raises:
        Refusal: as `Server.ask`.
    """
    _, ticket = await server.ask(request, asked.task, lambda task: _rows(task, asked), None, words=asked.words, num=asked.num)
    if isinstance(ticket.task.model, WritingModel):
        done = [_completed(place, answer) for place, answer in enumerate(ticket.answers)]
        if len(done) < len(asked.prompts) * asked.num:  # without chance all completions of a prompt are one
            done = [replace(one, number=at * asked.num + n) for at, one in enumerate(done) for n in range(asked.num)]
    else:
        words = [_word(ticket.task, answer.to_dict()) for answer in ticket.answers]
        done = [Completed(at * asked.num + n, word) for at, word in enumerate(words) for n in range(asked.num)]
    return [replace(done[0], num_prompt_tokens=ticket.num_tokens), *done[1:]]


async def stream(server: Server, request: Request, asked: Asked) -> AsyncGenerator[Piece, None]:
    """All completions, piece by piece.

    Raises:
        Refusal: as `Server.ask`; in the middle too, if the time runs out or the server stops.
    """
    _, task = await server.acquire(request, asked.task)
    if not isinstance(task.model, WritingModel) or asked.num > 1:
        for one in await complete(server, request, asked):
            yield Piece(one.number, one.text, one)
        return
    rows = _rows(task, asked)
    server.note_texts(request, rows)
    order = Order(asked.task, task, rows, server.deadline(None), words=asked.words)
    news, num_open = news_of(server.queue_of(task), order), len(rows)
    try:
        async for ticket, (place, text, answer) in news:
            if answer is None:
                yield Piece(place, text)
                continue
            num_open -= 1  # at the last end, all prompts have been read
            end = replace(_completed(place, answer), num_prompt_tokens=0 if num_open else ticket.num_tokens)
            yield Piece(place, text, end)
    finally:
        await news.aclose()


def _completed(place: int, written: tuple[Written, ...]) -> Completed:
    best = written[0]
    return Completed(place, best.text, "length" if best.reason == "length" else "stop", len(best.ids) + (best.reason == "end"))


def _rows(task: Task, asked: Asked) -> list[InputRow]:
    """Prompts as the task reads them: a text where it has one field, else a JSON object with its fields.

    Raises:
        Refusal: neither.
    """
    rows: list[InputRow] = []
    for prompt in asked.prompts:
        if isinstance(task.model, DialogueModel) and not isinstance(prompt, str):
            rows.append({"messages": list(prompt)})
            continue
        text = prompt if isinstance(prompt, str) else _last_of_user(prompt)
        rows.append(text if len(task.field_names) < 2 else _row(text, task.field_names))
    return rows


def _last_of_user(messages: Sequence[Mapping[str, str]]) -> str:
    text = next((one["content"] for one in reversed(messages) if one["role"] == "user"), None)
    if text is None:
        raise bad_request("no message is the user's", param="messages")
    return text


def _row(text: str, fields: Sequence[str]) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        shape = ", ".join(f'"{name}": ...' for name in fields)
        raise bad_request(f"this task reads several fields; write the prompt as a JSON object {{{shape}}}", param="prompt")
    return row


def _word(task: Task, answer: Mapping[str, Any]) -> str:
    """What the model would have written: the first label word; the label where it has none (it abstains), or the answer."""
    label = answer.get("label")
    verbalizer = getattr(task.model, "verbalizer", None)
    if isinstance(label, str):
        if verbalizer is None or label not in verbalizer.words:
            return label
        return " ".join(word.strip() for word in verbalizer.fillings(label)[0])
    return json.dumps(answer, ensure_ascii=False)
