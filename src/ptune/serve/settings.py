"""What a server is told at its start: where bundles lie, how much it takes on, and what it refuses.

In: options of `ptune serve`. Out: frozen settings, checked before a model is loaded.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from ptune.backbone import DType
from ptune.serve.refusals import ServeError

__all__ = ["Limits", "ServeSettings"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Limits:
    """How large one request may be; whatever is over is refused before any work.

    Args:
        body_bytes: of the request's body.
        text_chars: characters of one text, field or message.
        inputs: texts of one request.
        returns: completions of one prompt (`n`).
        new_tokens: tokens that are written for one prompt (`max_tokens`).
        bundle_bytes: of one bundle's files.
        messages: of one conversation, however short they are.
    """

    body_bytes: int = 1_000_000
    text_chars: int = 20_000
    inputs: int = 64
    returns: int = 4
    new_tokens: int = 256
    bundle_bytes: int = 64_000_000
    messages: int = 256


@dataclass(frozen=True)
class ServeSettings:
    """One server.

    Args:
        folder: holds bundles, each in a folder of its own (or in a run's folder, as `ptune train` writes it).
        backbone: name of the frozen model; None takes the one that the bundles name.
        dtype, device: of the backbone.
        threads: torch's threads; None leaves torch's own number.
        host, port: where to listen; port 0 takes a free one.
        api_key_file, admin_key_file: hashed keys (`ptune serve-key`); None leaves the routes open, or the admin routes off.
        is_open: says that it is meant when other machines may ask without a key.
        max_queue: texts that may wait.
        max_wait: seconds that a text may wait before its computation begins.
        timeout: seconds after which a request is given up, unless it asks for fewer.
        tokens_per_step: live tokens that one step computes.
        max_running: texts that are written side by side.
        task_bytes: memory for tasks (learned tokens and the contexts kept for them), least recently used out first.
        scan_seconds: how often the folder is looked at.
        grace_seconds: how long a stopping server goes on with what it has taken on.
        log_texts: whether texts may stand in the log.
        limits: of one request.

    Raises:
        ServeError: no such folder, a number that cannot be, or a server open to other machines by accident.
    """

    folder: Path
    backbone: str | None = None
    dtype: DType = "fp32"
    device: str = "auto"
    threads: int | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    admin_key_file: Path | None = None
    is_open: bool = False
    max_queue: int = 256
    max_wait: float = 10.0
    timeout: float = 60.0
    tokens_per_step: int = 1024
    max_running: int = 32
    task_bytes: int = 1_000_000_000
    scan_seconds: float = 2.0
    grace_seconds: float = 30.0
    log_texts: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ServeError(f"there is no folder {self.folder}", where="DIR", fix="name the folder that holds the bundles")
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name not in ("port", "is_open", "log_texts") and isinstance(value, int | float) and not value > 0:
                raise ServeError(f"{value} is not above 0", where=f"--{one.name.replace('_', '-')}")
        if not 0 <= self.port < 65536:
            raise ServeError(f"{self.port} is no port", where="--port", fix="use 1 to 65535, or 0 for a free one")
        if not self.is_loopback and self.api_key_file is None and not self.is_open:
            raise ServeError(
                f"on {self.host} other machines could ask without a key",
                where="--host",
                fix="give --api-key-file (ptune serve-key writes one), or say --open if that is meant",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in _LOOPBACK
