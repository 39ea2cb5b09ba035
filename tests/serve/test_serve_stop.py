"""The end of a server: what was taken on is finished within the grace, and the rest hears that it is not."""

import asyncio
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from ptune.serve import ServeSettings, build_app
from ptune.serve.run import _Uvicorn
from serving import TEXTS, run, running, save_task, until
from tiny import tiny_backbone

PREDICT = "/v1/tasks/reviews/predict"


def test_what_was_taken_on_is_finished_when_the_server_stops(tmp_path: Path) -> None:
    task = save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path, tokens_per_step=8) as (client, server):
            server.worker.call(lambda: time.sleep(0.2))
            asking = [asyncio.create_task(client.post(PREDICT, json={"input": text})) for text in TEXTS]
            await until(lambda: len(server.queue) == len(TEXTS))
            stopping = asyncio.create_task(server.stop())
            for text, answer in zip(TEXTS, await asyncio.gather(*asking), strict=True):
                assert answer.json()["predictions"][0]["label"] == task.predict([text])[0].label
            await stopping
            assert (await client.get("/health/ready")).status_code == 503

    run(work)


def test_a_stop_takes_no_longer_than_the_grace_and_says_no_to_what_is_left(tmp_path: Path) -> None:
    """The worker is held up for much longer; who waits hears of the end when the grace is over, and the process ends."""
    save_task(tmp_path, "reviews")
    app = build_app(ServeSettings(tmp_path, grace_seconds=1.0), tiny_backbone("llama"))
    server, held = app.state.server, threading.Event()
    own = socket.create_server(("127.0.0.1", 0))
    serving = _Uvicorn(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=30), server)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [own]}, daemon=True)
    thread.start()
    answers: list[httpx2.Response] = []

    def waits(until: Any) -> None:
        ends = time.monotonic() + 60
        while not until():
            assert time.monotonic() < ends
            time.sleep(0.01)

    waits(lambda: server.is_ready)
    try:
        server.worker.call(lambda: held.wait(60))
        url = f"http://127.0.0.1:{own.getsockname()[1]}{PREDICT}"
        asking = threading.Thread(target=lambda: answers.append(httpx2.post(url, json={"input": "good"}, timeout=60)))
        asking.start()
        waits(lambda: len(server.queue) == 1)
        begun = time.monotonic()
        serving.handle_exit(signal.SIGTERM, None)
        asking.join(60)
        answered = time.monotonic() - begun
        thread.join(60)
        ended = time.monotonic() - begun
    finally:
        held.set()
    assert [answer.status_code for answer in answers] == [503] and "stopping" in answers[0].text
    assert 0.9 <= answered <= ended < 5.0 and not thread.is_alive()
