"""A light HTTP client for load: it takes little of the processor that the server under test needs.

In: a path and a JSON body. Out: status, answer, seconds. One object is one kept-alive connection.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Answer", "Connection"]


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: of HTTP; 0 where the connection broke.
        body: as bytes.
        seconds: from sending to the last byte.
        headers: lower-cased names.
    """

    status: int
    body: bytes
    seconds: float
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Connection:
    """One connection.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Any) -> Answer:
        """A JSON body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.send("POST", path, content, {"content-type": "application/json"})

    async def send(self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Any request; a connection that the server closed is opened again."""
        started = time.perf_counter()
        head = {"host": f"{self._host}:{self._port}", "content-length": str(len(content)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        data = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape") + content
        for is_last in (
            self._streams is None,
            True,
        ):  # a kept connection may be closed: once more on a new one
            try:
                answer = await self._exchange(data, started)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                self.close()
                is_stale = isinstance(error, ConnectionError) or getattr(error, "partial", None) == b""
                if is_last or not is_stale:
                    break
                continue
            if answer.headers.get("connection", "").lower() == "close":
                self.close()
            return answer
        return Answer(0, b"", time.perf_counter() - started, {})

    async def _exchange(self, data: bytes, started: float) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        status, given = _head(await reader.readuntil(b"\r\n\r\n"))
        body = await _body(reader, given)
        return Answer(status, body, time.perf_counter() - started, given)

    def close(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).strip() or b"0", 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
