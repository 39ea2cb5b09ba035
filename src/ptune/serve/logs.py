"""The server's log: one JSON object a line on standard error; no text of a request stands in it unless that was asked for."""

import json
import logging
import sys
import time
from typing import Any

__all__ = ["log", "set_up_logs"]

_LOGGER = logging.getLogger("ptune.serve")


class _Lines(logging.Formatter):
    """A record of any logger as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
        }
        facts |= getattr(record, "facts", None) or {"message": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            facts["error"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
        return json.dumps(facts, ensure_ascii=False, default=str)


def set_up_logs() -> None:
    """Sends ptune's, the server's and uvicorn's records to standard error as JSON lines, each as often as it comes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level, is_outer in (
        ("ptune", logging.WARNING, True),
        ("ptune.serve", logging.INFO, False),
        ("uvicorn", logging.WARNING, True),
        ("uvicorn.error", logging.WARNING, False),
    ):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler] if is_outer else [], not is_outer
        logger.setLevel(level)


def log(event: str, *, level: str = "info", **facts: Any) -> None:
    """One line.

    Args:
        event: what happened.
        level: `info`, `warning` or `error`.
        **facts: what goes with it; never a text of a request.
    """
    number = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}[level]
    if _LOGGER.isEnabledFor(number):
        _LOGGER.log(number, event, extra={"event": event, "facts": facts})
