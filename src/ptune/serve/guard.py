"""In front of every route: who asks, how much they send, what is counted and logged, and what is said when something breaks.

In: an ASGI request. Out: the same with its body read (within a bound of size and time), or a refusal. Each request has an id
that is answered as `x-request-id` and stands in its log line; a client's own id is taken over if it is plain.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ptune.serve.keys import Keys
from ptune.serve.logs import log
from ptune.serve.metrics import Metrics
from ptune.serve.refusals import Refusal
from ptune.serve.settings import ServeSettings

__all__ = ["Guard", "facts_of"]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECONDS_FOR_BODY = 30.0
_TIMES_THROWN_AWAY = 16
_OPEN_PATHS = ("/health", "/health/live", "/health/ready")
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


class Guard:
    """ASGI middleware, around all routes.

    Args:
        app: the routes.
        settings: limits, and whether texts may be logged.
        keys, admin_keys: who may ask; None leaves the routes open, or the admin routes off.
        metrics: where requests are counted.
    """

    def __init__(
        self, app: ASGIApp, *, settings: ServeSettings, keys: Keys | None, admin_keys: Keys | None, metrics: Metrics
    ) -> None:
        self._app, self._settings, self._keys, self._admin_keys, self._metrics = app, settings, keys, admin_keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; everything else (lifespan) passes through."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run()

    def admit(self, path: str, headers: MutableMapping[str, str]) -> str | None:
        """The name of the key that a request carries, None where none is needed.

        Raises:
            Refusal: a key is needed (401), admin routes are off (403), or a foreign page asks by way of a browser (403).
        """
        given = headers.get("authorization")
        admin = self._admin_keys.owner(given) if self._admin_keys else None
        if path.startswith("/admin/") or path == "/admin":
            if self._admin_keys is None:
                raise Refusal(403, "admin_off", "the admin routes are off; start the server with --admin-key-file")
            if admin is None:
                raise Refusal(401, "bad_key", "an admin key is needed: Authorization: Bearer KEY")
            return admin
        if path in _OPEN_PATHS:
            return None
        if self._keys is None:
            if self._settings.is_loopback and not _LOCAL.fullmatch(headers.get("host", "localhost")):
                raise Refusal(403, "foreign_host", "this server answers to localhost only")
            return admin
        owner = admin or self._keys.owner(given)
        if owner is None:
            raise Refusal(401, "bad_key", "a key is needed: Authorization: Bearer KEY")
        return owner

    @property
    def most_bytes(self) -> int:
        """Of a body."""
        return self._settings.limits.body_bytes

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the routes."""
        await self._app(scope, receive, send)

    def note(self, scope: Scope, status: int, seconds: float, request_id: str, owner: str | None) -> None:
        """Counts a request and writes its line."""
        route = getattr(scope.get("route"), "path", "other")
        facts = facts_of(scope)
        task = facts.get("task", "")
        self._metrics.requests.labels(route, task, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        more = {"key": owner} if owner else {}
        level = "error" if status == 500 else "info"
        log("request", level=level, id=request_id, route=route, status=status, ms=round(1000 * seconds, 1), **more, **facts)


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._status = 0
        self._body: list[Message] = []
        self._is_unread = False
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        self._headers, self._id = headers, given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["facts"] = {}

    async def run(self) -> None:
        """Admits, reads the body, passes on; a failure that no route expected becomes a bare 500."""
        started = time.monotonic()
        owner = None
        try:
            owner = self._guard.admit(self._scope["path"], self._headers)
            await self._read_body()
            await self._guard.forward(self._scope, self._next_message, self._send_with_id)
        except Refusal as refusal:
            await self._refuse(refusal)
        except asyncio.CancelledError:
            self._status = self._status or 499
            raise
        except Exception as error:
            kind = f"{type(error).__name__}: {error}" if self._guard_logs_errors(error) else type(error).__name__
            log("fault", level="error", id=self._id, error=kind)
            await self._refuse(Refusal(500, "fault", "the server failed; its log says where, under this request's id"))
        finally:
            self._guard.note(self._scope, self._status or 499, time.monotonic() - started, self._id, owner)

    @staticmethod
    def _guard_logs_errors(error: Exception) -> bool:
        """Validation errors quote what was sent; others do not."""
        return "validat" not in type(error).__name__.lower()

    async def _read_body(self) -> None:
        """Reads it whole; of one that is too large the rest is thrown away, so that the client hears the answer."""
        most = self._guard.most_bytes
        too_large = Refusal(413, "too_large", f"the body has more than {most:,} bytes")
        declared = self._headers.get("content-length", "0")
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > most * _TIMES_THROWN_AWAY):
            self._is_unread = True
            raise too_large
        total, more = 0, True
        try:
            async with asyncio.timeout(_SECONDS_FOR_BODY):
                while more:
                    message = await self._receive()
                    more = message["type"] == "http.request" and message.get("more_body", False)
                    total += len(message.get("body", b""))
                    if total <= most:
                        self._body.append(message)
                    elif total > most * _TIMES_THROWN_AWAY:
                        self._is_unread = True
                        raise too_large
        except TimeoutError:
            self._is_unread = True
            raise Refusal(408, "slow_body", "the body did not come in time") from None
        if total > most:
            raise too_large

    async def _next_message(self) -> Message:
        return self._body.pop(0) if self._body else await self._receive()

    async def _send_with_id(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
            message = {**message, "headers": [*headers, (b"x-content-type-options", b"nosniff")]}
        await self._send(message)

    async def _refuse(self, refusal: Refusal) -> None:
        if self._status:  # the answer has begun: all that can be done is to end it
            return
        body = json.dumps(refusal.to_dict(), ensure_ascii=False).encode()
        own = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        headers = [(name.encode(), value.encode()) for name, value in own.items()]
        if self._is_unread:
            headers.append((b"connection", b"close"))
        await self._send_with_id({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def facts_of(scope: Scope) -> dict[str, Any]:
    """What a route found out about its request, for the log: task, number of texts, time in the queue."""
    facts: dict[str, Any] = scope["state"]["facts"]
    return facts
