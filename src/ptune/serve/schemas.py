"""What requests and answers look like: the bodies of all routes, from which the OpenAPI page is made.

In: JSON. Out: checked bodies. Bounds that the server's settings decide are checked by `checked_rows` and its kin, before any
work.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ptune.serve.engine import InputRow
from ptune.serve.refusals import bad_request
from ptune.serve.settings import Limits

__all__ = [
    "ChatBody",
    "CompletionBody",
    "ErrorBody",
    "Health",
    "Message",
    "Model",
    "ModelList",
    "PredictAnswer",
    "PredictBody",
    "TaskList",
    "TaskState",
    "checked_number",
    "checked_rows",
]

_DEPTH = 8

Seconds = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PredictBody(_Body):
    """One text or row (`input`) or several (`inputs`): a string where the template has one field, else its fields by name."""

    input: str | dict[str, Any] | None = Field(default=None, examples=["The hinge broke in a week."])
    inputs: list[str | dict[str, Any]] | None = None
    min_probability: Share | None = Field(default=None, description="Abstain where the best label has less.")
    timeout: Seconds | None = Field(default=None, description="Give up after so many seconds.")


class PredictAnswer(BaseModel):
    """One prediction for each input, in order, by the named version of the task."""

    task: str
    version: str
    predictions: list[dict[str, Any]]


class TaskState(BaseModel):
    """One bundle of the folder."""

    task: str
    state: Literal["resident", "ready", "refused", "new"]
    kind: str | None = None
    version: str | None = None
    labels: list[str] | None = None
    fields: list[str] | None = None
    template: str | None = None
    method: str | None = None
    reason: str | None = None
    replacement_refused: str | None = None
    pinned: bool | None = None
    bytes: int | None = None
    loads: int | None = None


class TaskList(BaseModel):
    """All bundles of the folder."""

    backbone: str
    tasks: list[TaskState]


class Message(BaseModel):
    """One turn of a conversation; parts other than text are refused."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]


class _OpenAI(BaseModel):
    """What both of OpenAI's routes take; keys that ptune does not know are passed over, as their clients send many."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(description="The task's name, or backbone:task.")
    n: int = Field(default=1, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None


class CompletionBody(_OpenAI):
    """`POST /v1/completions`."""

    prompt: str | list[str]
    max_tokens: int | None = Field(default=None, ge=1)
    echo: bool | None = False
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None


class ChatBody(_OpenAI):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    tools: list[Any] | None = None


class Model(BaseModel):
    """A task as OpenAI's clients see it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ptune"
    root: str
    parent: str


class ModelList(BaseModel):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """How the server is."""

    live: bool
    ready: bool
    tasks: int


class ErrorDetail(BaseModel):
    """Why not."""

    message: str
    type: str
    code: str
    param: str | None = None


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail


def checked_rows(rows: Sequence[Any], limits: Limits, *, param: str) -> Sequence[InputRow]:
    """Texts and rows within the limits.

    Raises:
        Refusal: none or too many, too long, too deep, or not Unicode (400).
    """
    if not rows:
        raise bad_request(f"{param} is empty", param=param)
    if len(rows) > limits.inputs:
        raise bad_request(f"{param} has {len(rows)} texts, at most {limits.inputs} are taken", param=param)
    for row in rows:
        num_chars = _num_chars(row, param, _DEPTH)
        if num_chars > limits.text_chars:
            raise bad_request(f"a text has {num_chars:,} characters, at most {limits.text_chars:,} are taken", param=param)
    return rows


def checked_number(value: int, most: int, *, param: str) -> None:
    """A count within its bound.

    Raises:
        Refusal: above it (400).
    """
    if value > most:
        raise bad_request(f"{param} is {value}, at most {most} is taken", param=param)


def _num_chars(value: Any, param: str, depth: int) -> int:
    if depth == 0:
        raise bad_request("a row is nested too deeply", param=param)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise bad_request("a text holds half a character (a lone surrogate)", param=param) from None
        return len(value)
    if isinstance(value, Mapping):
        return sum(_num_chars(part, param, depth - 1) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return sum(_num_chars(part, param, depth - 1) for part in value)
    return len(str(value)) if isinstance(value, int | float) else 0
