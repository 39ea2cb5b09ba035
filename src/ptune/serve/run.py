"""From settings to a running process: the model is loaded, a socket is bound, uvicorn serves until it is told to stop.

SIGTERM and Ctrl-C stop it gracefully: nothing new is taken on, what was taken on is finished, and the exit code is 0.
"""

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from types import FrameType

import uvicorn

from ptune.backbone import Backbone, load_backbone
from ptune.bundle import CARD
from ptune.serve.app import build_app
from ptune.serve.folder import Place, look
from ptune.serve.keys import read_keys
from ptune.serve.logs import log, set_up_logs
from ptune.serve.refusals import ServeError
from ptune.serve.server import Server
from ptune.serve.settings import ServeSettings

__all__ = ["serve"]

_CONNECTIONS_WAITING = 512
_SECONDS_KEPT_ALIVE = 30
_SECONDS_TO_REFUSE = 2


def serve(settings: ServeSettings) -> None:
    """Serves until the process is told to stop.

    Raises:
        ServeError: the folder or a key file cannot be read, no backbone can be chosen, or the port is taken.
        PtuneError: the backbone cannot be loaded.
    """
    for path in (settings.api_key_file, settings.admin_key_file):
        if path is not None:
            read_keys(path)
    places = _places(settings.folder)  # whatever is wrong is said before the model is loaded
    name = settings.backbone or _backbone_of(places, settings.folder)
    with _bound(settings.host, settings.port) as own_socket:
        backbone = load_backbone(name, dtype=settings.dtype, device=settings.device)
        set_up_logs()
        run_on(own_socket, settings, backbone)


def run_on(own_socket: socket.socket, settings: ServeSettings, backbone: Backbone) -> None:
    """Serves on a bound socket."""
    app = build_app(settings, backbone)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        backlog=_CONNECTIONS_WAITING,
        timeout_keep_alive=_SECONDS_KEPT_ALIVE,
        timeout_graceful_shutdown=ceil(settings.grace_seconds) + _SECONDS_TO_REFUSE,
        server_header=False,
        date_header=False,
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises a signal again after it has stopped
        signal.signal(number, lambda *_: None)
    host, port = own_socket.getsockname()[:2]
    log("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", pid=os.getpid(), folder=str(settings.folder))
    _Uvicorn(config, app.state.server).run(sockets=[own_socket])


class _Uvicorn(uvicorn.Server):
    """Uvicorn that lets the server know when it begins to stop, and refuses what is not finished when the grace is spent."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On a signal."""
        self._server.begin_to_stop()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for connections, then ends the server."""
        self._server.begin_to_stop()
        refusing = asyncio.create_task(self._server.refuse_the_rest())
        await super().shutdown(sockets)
        refusing.cancel()


def _places(folder: Path) -> Mapping[str, Place]:
    """What lies in the folder.

    Raises:
        ServeError: it cannot be read.
    """
    try:
        return look(folder)
    except OSError as error:
        what = f"the folder {folder} cannot be read: {(error.strerror or str(error)).lower()}"
        raise ServeError(what, where="DIR", fix="let the server's user read and enter it") from None


def _backbone_of(places: Mapping[str, Place], folder: Path) -> str:
    """The backbone that the folder's bundles name.

    Raises:
        ServeError: none, or several.
    """
    names: Counter[str] = Counter()
    for place in places.values():
        if place.path is not None:
            try:
                names[str(json.loads((place.path / CARD).read_text(encoding="utf-8"))["backbone"]["name"])] += 1
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
    if len(names) != 1:
        what = "no bundle here names a backbone" if not names else f"the bundles name {', '.join(sorted(names)[:5])}"
        raise ServeError(what, where=str(folder), fix="say which with --backbone")
    return next(iter(names))


def _bound(host: str, port: int) -> socket.socket:
    own = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind((host, port))
    except (OSError, OverflowError) as error:
        own.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ServeError(f"{host}:{port} cannot be listened on: {reason}", where="--port", fix="choose another port") from None
    own.set_inheritable(True)
    return own
