"""What the tests of the server share: bundles on a tiny backbone, a server in this process, one in a process of its own."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import torch
import uvicorn

import ptune
from ptune.model import DialogueModel, GenerationModel
from ptune.serve import ServeSettings, build_app
from ptune.serve.server import Server
from ptune.task import Task
from tiny import tiny_backbone

__all__ = [
    "TEXTS",
    "Live",
    "live",
    "own_process",
    "run",
    "running",
    "save_task",
    "speaker",
    "task_of",
    "until",
    "writer",
]

TEXTS = ["The film was great", "bad", "这部电影很好，我很喜欢。", "Rather mediocre acting", "What a day !"]
WORDS: Mapping[str, Any] = {"yes": "great", "no": "bad"}


def task_of(seed: int = 0, *, template: str = "{soft:3} {text} It was{mask}", labels: Any = WORDS, kind: str = "llama") -> Task:
    """A task that was never trained: its learned tokens depend on the seed."""
    model = ptune.PromptModel.build(
        backbone=tiny_backbone(kind), template=template, labels=labels, method="p-tuning", seed=seed
    )
    with torch.no_grad():
        model.prior.copy_(torch.linspace(-0.3, 0.3, model.prior.numel()))
    return Task(model.requires_grad_(False))


def save_task(root: Path, name: str, seed: int = 0, **settings: Any) -> Task:
    """Such a task as a bundle in the server's folder."""
    task = task_of(seed, **settings)
    task.save(root / name)
    return task


def writer(root: Path, name: str, seed: int = 0, *, kind: str = "llama", method: Any = "p-tuning", **settings: Any) -> Task:
    """A task that writes, as a bundle; how much it writes depends on the seed."""
    template = "{soft:3} {text}{mask}" if method == "p-tuning" else "{text}{mask}"
    words = {"max_new_tokens": 8 + seed % 5, **settings}
    model = GenerationModel.build(backbone=tiny_backbone(kind), template=template, method=method, seed=seed, **words)
    task = Task(model.requires_grad_(False))
    task.save(root / name)
    return task


def speaker(root: Path, name: str) -> Task:
    """A task that talks."""
    model = DialogueModel.build(
        backbone=tiny_backbone("llama"), template="{soft:2}{messages}{mask}", chat_template="plain", max_new_tokens=8
    )
    task = Task(model.requires_grad_(False))
    task.save(root / name)
    return task


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """An async test's body, with a limit of time."""

    async def bounded() -> None:
        async with asyncio.timeout(300):
            await work()

    asyncio.run(bounded())


@asynccontextmanager
async def running(root: Path, *, kind: str = "llama", **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Server]]:
    """A server in this process, ready, and a client of it."""
    app = build_app(ServeSettings(root, **{"scan_seconds": 0.05, **settings}), tiny_backbone(kind))
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        while (await client.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.01)
        yield client, app.state.server


async def until(condition: Callable[[], Any]) -> Any:
    """Waits until an async or plain condition is true."""
    while True:
        value = condition()
        value = await value if asyncio.iscoroutine(value) else value
        if value:
            return value
        await asyncio.sleep(0.02)


@contextmanager
def live(root: Path, *, kind: str = "llama", **settings: Any) -> Iterator[str]:
    """A server behind a real socket, on a thread of this process; its address."""
    app = build_app(ServeSettings(root, **{"scan_seconds": 0.05, **settings}), tiny_backbone(kind))
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{own.getsockname()[1]}"
    try:
        _wait_until_ready(url)
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
        own.close()


@dataclass
class Live:
    """`ptune serve` in a process of its own.

    Args:
        process: to be stopped, or killed.
        url: where it listens.
        lines: what its log said so far.
    """

    process: "subprocess.Popen[str]"
    url: str
    lines: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def own_process(root: Path, model: Path, *options: str) -> Iterator[Live]:
    """Starts the real command and ends it."""
    command = [sys.executable, "-m", "ptune", "serve", str(root), "--backbone", str(model), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    one = Live(process, "")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{"):
            one.lines.append(json.loads(line))
            if one.lines[-1]["event"] == "listening":
                break
    else:
        raise AssertionError(f"the server ended with {process.wait()}")
    one.url = one.lines[-1]["url"]
    reader = threading.Thread(target=_read, args=(one,), daemon=True)
    reader.start()
    try:
        _wait_until_ready(one.url)
        yield one
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        reader.join(10)
        process.stderr.close()


def _read(one: Live) -> None:
    assert one.process.stderr is not None
    for line in one.process.stderr:
        if line.startswith("{"):
            one.lines.append(json.loads(line))


def _wait_until_ready(url: str) -> None:
    end = time.monotonic() + 300
    with httpx2.Client() as client:
        while time.monotonic() < end:
            try:
                if client.get(f"{url}/health/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.02)
    raise AssertionError("the server did not become ready")
