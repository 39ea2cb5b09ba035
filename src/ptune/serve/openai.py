"""The routes that OpenAI's clients know: models, completions and chat, whole or streamed; `model` names the task.

A task that writes is asked with the settings of the request, or its own where they are not given. A task that labels answers
with the label word that its model likes best (the label's name where it reads a head); sampling then changes nothing.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from ptune.serve.completing import Asked, Completed, complete, stream
from ptune.serve.refusals import Refusal, bad_request, no_task
from ptune.serve.registry import Entry
from ptune.serve.routes import ERRORS
from ptune.serve.schemas import ChatBody, CompletionBody, Message, Model, ModelList, checked_number, checked_rows
from ptune.serve.server import Server, unless_gone

__all__ = ["openai_routes"]

_MOST_STOPS = 4
_STOP_CHARS = 64


def openai_routes(server: Server) -> APIRouter:
    """`/v1/models`, `/v1/completions`, `/v1/chat/completions`."""
    router = APIRouter(responses=ERRORS, tags=["openai"])

    @router.get("/v1/models", operation_id="list_models")
    async def models() -> ModelList:
        """The tasks that are served."""
        return ModelList(data=[_model(server, entry) for entry in server.registry.entries if entry.version is not None])

    @router.get("/v1/models/{model:path}", operation_id="get_model")
    async def model(model: str) -> Model:
        """One task."""
        entry = server.registry.entry(server.task_name(model))
        if entry.version is None:
            raise no_task(model)
        return _model(server, entry)

    @router.post("/v1/completions", operation_id="create_completion", response_model=None)
    async def completions(body: CompletionBody, request: Request) -> JSONResponse | StreamingResponse:
        """Complete prompts."""
        _refuse_given({"echo": body.echo, "logprobs": body.logprobs, "best_of": (body.best_of or 1) > 1, "suffix": body.suffix})
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        checked_rows(prompts, server.settings.limits, param="prompt")
        asked = _asked(server, body, prompts, body.max_tokens)
        frame = _Frame("text_completion", f"cmpl-{uuid.uuid4().hex}", body.model)
        if body.stream:
            return await _streamed(server, request, asked, frame, body.stream_options)
        done = await complete(server, request, asked)
        choices = [{**_end(one), "text": one.text, "logprobs": None} for one in done]
        return JSONResponse(frame.whole(choices, done))

    @router.post("/v1/chat/completions", operation_id="create_chat_completion", response_model=None)
    async def chat(body: ChatBody, request: Request) -> JSONResponse | StreamingResponse:
        """Answer a conversation."""
        _refuse_given({"logprobs": body.logprobs, "tools": body.tools})
        messages = [{"role": one.role, "content": _text_of(one)} for one in body.messages]
        checked_rows([" ".join(one["content"] for one in messages)], server.settings.limits, param="messages")
        asked = _asked(server, body, [messages], body.max_completion_tokens or body.max_tokens)
        frame = _Frame("chat.completion", f"chatcmpl-{uuid.uuid4().hex}", body.model)
        if body.stream:
            return await _streamed(server, request, asked, frame, body.stream_options)
        done = await complete(server, request, asked)
        choices = [{**_end(one), "message": {"role": "assistant", "content": one.text}, "logprobs": None} for one in done]
        return JSONResponse(frame.whole(choices, done))

    return router


class _Frame:
    """What all parts of one answer carry."""

    def __init__(self, kind: str, name: str, model: str) -> None:
        self._is_chat = kind == "chat.completion"
        self._head = {"id": name, "created": int(time.time()), "model": model}
        self._kind = kind

    def whole(self, choices: list[dict[str, Any]], done: Sequence[Completed]) -> dict[str, Any]:
        """An answer at once."""
        return {**self._head, "object": self._kind, "choices": choices, "usage": _usage(done)}

    def event(self, number: int, text: str | None, reason: str | None) -> str:
        """A piece of one choice."""
        if self._is_chat:
            choice: dict[str, Any] = {"index": number, "delta": {} if text is None else {"role": "assistant", "content": text}}
        else:
            choice = {"index": number, "text": text or ""}
        kind = f"{self._kind}.chunk" if self._is_chat else self._kind
        return self._line({**self._head, "object": kind, "choices": [{**choice, "finish_reason": reason, "logprobs": None}]})

    def usage(self, done: Sequence[Completed]) -> str:
        """The last event where it was asked for."""
        kind = f"{self._kind}.chunk" if self._is_chat else self._kind
        return self._line({**self._head, "object": kind, "choices": [], "usage": _usage(done)})

    @staticmethod
    def refusal(refusal: Refusal) -> str:
        """An error in the middle of a stream."""
        return _Frame._line(refusal.to_dict())

    @staticmethod
    def _line(value: dict[str, Any]) -> str:
        return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _streamed(
    server: Server, request: Request, asked: Asked, frame: _Frame, options: dict[str, Any] | None
) -> StreamingResponse:
    """Events as they come; the status is only sent once there is a first piece, so that a refusal keeps its own."""
    pieces = stream(server, request, asked)
    try:
        first = await unless_gone(request, anext(pieces))
    except BaseException:
        await pieces.aclose()
        raise

    async def events() -> AsyncIterator[str]:
        done: list[Completed] = []
        try:
            piece = first
            while True:
                if piece.text or piece.end is None:
                    yield frame.event(piece.number, piece.text, None)
                if piece.end is not None:
                    done.append(piece.end)
                    yield frame.event(piece.number, None, piece.end.reason)
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    break
            if (options or {}).get("include_usage"):
                yield frame.usage(done)
            yield "data: [DONE]\n\n"
        except Refusal as refusal:
            yield frame.refusal(refusal)
        finally:
            await pieces.aclose()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


def _asked(server: Server, body: CompletionBody | ChatBody, prompts: Sequence[Any], max_tokens: int | None) -> Asked:
    limits = server.settings.limits
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > _MOST_STOPS or any(not 0 < len(stop) <= _STOP_CHARS for stop in stops):
        raise bad_request(f"stop takes up to {_MOST_STOPS} texts of up to {_STOP_CHARS} characters", param="stop")
    checked_rows([*stops, ""], limits, param="stop")
    checked_number(body.n, limits.returns, param="n")
    if body.n * len(prompts) > limits.inputs:
        raise bad_request(f"n times prompts is more than {limits.inputs}", param="n")
    if max_tokens is not None:
        checked_number(max_tokens, limits.new_tokens, param="max_tokens")
    drawn = body.temperature if body.temperature is not None or body.top_p is None else 1.0
    words = {"max_new_tokens": max_tokens, "temperature": drawn, "top_p": body.top_p, "stop": tuple(stops)}
    words["seed"] = None if body.seed is None else body.seed % 2**62
    return Asked(server.task_name(body.model), prompts, body.n, words)


def _refuse_given(given: dict[str, Any]) -> None:
    name = next((name for name, value in given.items() if value), None)
    if name is not None:
        raise bad_request(f"{name} is not supported", param=name, code="unsupported")


def _text_of(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = [part.get("text") for part in message.content if part.get("type") == "text"]
    if len(texts) < len(message.content) or not all(isinstance(text, str) for text in texts):
        raise bad_request("only parts of type text are taken", param="messages", code="unsupported")
    return "".join(map(str, texts))


def _model(server: Server, entry: Entry) -> Model:
    name = server.backbone.spec.name
    root = name.rsplit("/", 1)[-1]  # a folder's own name, not where it lies on the server
    return Model(id=entry.name, created=int(entry.since), root=root, parent=root)


def _end(one: Completed) -> dict[str, Any]:
    return {"index": one.number, "finish_reason": one.reason}


def _usage(done: Sequence[Completed]) -> dict[str, int]:
    prompt, written = sum(one.num_prompt_tokens for one in done), sum(one.num_tokens for one in done)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
