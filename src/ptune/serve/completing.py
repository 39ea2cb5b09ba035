"""Completions of a task's prompts: what its label words say, or text that it writes, whole or piece by piece.

In: prompts (texts, or conversations) and how to write. Out: `Completed` for each, or `Piece`s in the order in which they come.
"""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request

from ptune.serve.engine import InputRow
from ptune.serve.refusals import bad_request
from ptune.serve.server import Server
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
        max_tokens: of each completion.
        temperature, top_p, seed: of sampling; None leaves the task's own.
        stops: texts at which writing ends.
    """

    task: str
    prompts: Sequence[Prompt]
    num: int
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Completed:
    """One completion.

    Args:
        number: its place among all of the request.
        text: what was written.
        reason: `stop` (it ended by itself or at a stop word) or `length`.
        num_tokens: that were written.
        num_prompt_tokens: that were read for it (counted at the first completion of a prompt).
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
    rows = _rows(server, asked)
    _, ticket = await server.ask(request, asked.task, rows, None)
    done = []
    for place, answer in enumerate(ticket.answers):
        text = _word(ticket.task, answer.to_dict())
        for sample in range(asked.num):
            num_read = ticket.num_tokens // len(rows) if sample == 0 else 0
            done.append(Completed(place * asked.num + sample, text, num_prompt_tokens=num_read))
    return done


async def stream(server: Server, request: Request, asked: Asked) -> AsyncGenerator[Piece, None]:
    """All completions, piece by piece.

    Raises:
        Refusal: as `Server.ask`.
    """
    for one in await complete(server, request, asked):
        yield Piece(one.number, one.text, one)


def _rows(server: Server, asked: Asked) -> list[InputRow]:
    """Prompts as rows of the task's template: a text where it has one field, else a JSON object with its fields.

    Raises:
        Refusal: neither.
    """
    version = server.registry.entry(asked.task).version
    fields = () if version is None else version.fields
    rows: list[InputRow] = []
    for prompt in asked.prompts:
        text = prompt if isinstance(prompt, str) else _last_of_user(prompt)
        rows.append(text if len(fields) < 2 else _row(text, fields))
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
    """What the model would have written: the first label word; where there is none, the answer itself."""
    label = answer.get("label")
    verbalizer = getattr(task.model, "verbalizer", None)
    if isinstance(label, str):
        return verbalizer.words[label][0].strip() if verbalizer is not None else label
    return json.dumps(answer, ensure_ascii=False)
