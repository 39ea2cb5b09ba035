"""Asks a ptune server: two lines, answers as plain values.

    client = Client("http://127.0.0.1:8000")
    client.predict("reviews", "The hinge broke in a week.")

A full queue (429) and a server that starts (503) are asked again after the time that they name, a few times; what would take
longer than the client's timeout in all is not waited for.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, overload
from urllib.parse import quote

import httpx2

from ptune.serve.refusals import ServeError

__all__ = ["Client"]

Row = str | Mapping[str, Any]
Rows = list[Any] | tuple[Any, ...]


class Client:
    """A connection to a server.

    Args:
        url: where it listens.
        key: an API key, where it wants one.
        timeout: seconds to wait for an answer, and within which to ask again while the server is busy.
        tries: how often to ask while it is busy, once at least.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 60.0, tries: int = 5) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout)
        self._tries, self._timeout = max(1, tries), timeout

    @overload
    def predict(self, task: str, texts: Row, *, min_probability: float | None = None) -> dict[str, Any]: ...

    @overload
    def predict(self, task: str, texts: Rows, *, min_probability: float | None = None) -> list[dict[str, Any]]: ...

    def predict(
        self, task: str, texts: Row | Rows, *, min_probability: float | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Answers for one text or row, or a list of answers for a list of them.

        Args:
            task: its name.
            texts: a string, a row with the template's fields, or a list of either.
            min_probability: withhold a label that is less probable.

        Raises:
            ServeError: what the server said, or that it cannot be reached.
        """
        is_one = isinstance(texts, str | Mapping)
        body: dict[str, Any] = {"inputs": [texts] if is_one else list(texts)}
        if min_probability is not None:
            body["min_probability"] = min_probability
        answers: list[dict[str, Any]] = self._ask("POST", f"/v1/tasks/{quote(task, safe='')}/predict", body)["predictions"]
        return answers[0] if is_one else answers

    def complete(self, task: str, prompt: str, **settings: Any) -> str:
        """What the task writes behind a prompt.

        Args:
            task: its name.
            prompt: the text.
            **settings: of OpenAI's route: max_tokens, temperature, stop, ...
        """
        text: str = self._ask("POST", "/v1/completions", {"model": task, "prompt": prompt, **settings})["choices"][0]["text"]
        return text

    def tasks(self) -> list[dict[str, Any]]:
        """All bundles of the server's folder, those that it refuses with the reason."""
        tasks: list[dict[str, Any]] = self._ask("GET", "/v1/tasks")["tasks"]
        return tasks

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        ends = time.monotonic() + self._timeout
        for tries_left in reversed(range(self._tries)):
            try:
                answer = self._http.request(method, path, json=body)
            except httpx2.HTTPError as error:
                raise ServeError(f"no answer: {type(error).__name__}", where=str(self._http.base_url)) from error
            pause = _seconds(answer.headers.get("retry-after", ""))
            if answer.status_code not in (429, 503) or not tries_left or time.monotonic() + pause > ends:
                break
            time.sleep(pause)
        if answer.is_success:
            return answer.json()
        try:
            what = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            what = f"status {answer.status_code}"
        raise ServeError(what, where=f"{method} {path}")


def _seconds(retry_after: str) -> float:
    """Of the header: a whole number of them, or a date; one where there is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 1.0
