"""How the server says no: a status, a code that programs read, a sentence for people; never anything of its inside.

`ServeError` stops the start (a `PtuneError` like any other). `Refusal` is the answer to one request, in the form that OpenAI's
clients know: {"error": {"message", "type", "code", "param"}}.
"""

from math import ceil
from typing import Any

from ptune.errors import PtuneError

__all__ = [
    "Refusal",
    "ServeError",
    "bad_request",
    "busy",
    "fault",
    "gone",
    "late",
    "no_task",
    "not_ready",
    "of_error",
    "refused_task",
]

_LONGEST_MESSAGE = 500


class ServeError(PtuneError):
    """A server that cannot start as it was told."""


class Refusal(Exception):
    """One request that is not served.

    Args:
        status: of HTTP.
        code: a word for programs.
        message: a sentence for people.
        param: the key of the request that it is about.
        retry_after: seconds after which it may be asked again.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.message = message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "..."
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After` where there is one, in whole seconds as HTTP wants it."""
        headers = {} if self.retry_after is None else {"retry-after": str(max(1, ceil(self.retry_after)))}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})

    def to_dict(self) -> dict[str, Any]:
        """The body."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "code": self.code, "param": self.param}}


def bad_request(message: str, *, param: str | None = None, status: int = 400, code: str = "bad_request") -> Refusal:
    """The request itself is at fault."""
    return Refusal(status, code, message, param=param)


def of_error(error: PtuneError, *, param: str | None = None) -> Refusal:
    """A `PtuneError` about a text or row: what is wrong and what to do, without the place in a file."""
    place = f"{error.where}: " if error.where.startswith("row ") else ""
    return Refusal(400, "bad_input", f"{place}{error.what}" + (f" ({error.fix})" if error.fix else ""), param=param)


def no_task(name: str) -> Refusal:
    """Nothing of that name."""
    return Refusal(404, "task_not_found", f"there is no task {name[:80]!r}; GET /v1/tasks lists them", param="model")


def refused_task(name: str, reason: str) -> Refusal:
    """A bundle that is there and cannot be served."""
    return Refusal(404, "task_refused", f"the task {name!r} is not served: {reason}", param="model")


def busy(retry_after: float) -> Refusal:
    """More is waiting than the server takes on."""
    return Refusal(429, "queue_full", "too many texts are waiting; ask again later", retry_after=retry_after)


def late() -> Refusal:
    """The request's time ran out."""
    return Refusal(504, "deadline", "the request's time ran out before it was computed")


def not_ready(message: str = "the server is starting", *, retry_after: float = 2.0) -> Refusal:
    """Starting or stopping."""
    return Refusal(503, "not_ready", message, retry_after=retry_after)


def fault() -> Refusal:
    """An error of ptune's own."""
    return Refusal(500, "fault", "this text could not be computed; the server's log says why")


def gone() -> Refusal:
    """The client has left; nobody reads this."""
    return Refusal(499, "client_gone", "the client left")
