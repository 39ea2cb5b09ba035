"""The lines that people copy: every curl line of the page and of the demo works, and the Python client's two lines."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptune.serve import Client, Limits, ServeError, add_key
from ptune.task import Task
from serving import TEXTS, live, save_task

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
DEMO = (ROOT / "examples" / "serve_demo.sh").read_text(encoding="utf-8")
CURLS = [line for line in (*PAGE.splitlines(), *DEMO.splitlines()) if line.startswith("curl ")]
HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Task]]:
    root = tmp_path_factory.mktemp("bundles")
    task = save_task(root / "in", "reviews")
    save_task(root / "in", "support", 1)
    key = add_key(root / "keys", "me")
    with live(root / "in", api_key_file=root / "keys", limits=Limits(inputs=8)) as url:
        yield url, key, task


@pytest.mark.parametrize("line", CURLS)
def test_curl_lines_work(served: tuple[str, str, Task], line: str) -> None:
    url, key, _ = served
    assert HERE in line
    command = line.replace(HERE, url) + f" -H 'authorization: Bearer {key}' --fail"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    if '"stream": true' in line:
        assert done.stdout.rstrip().endswith("data: [DONE]")
    else:
        assert json.loads(done.stdout)


def test_there_are_lines_to_copy() -> None:
    assert len(CURLS) >= 8 and DEMO.count("curl ") == 3


def test_the_client_asks_in_two_lines(served: tuple[str, str, Task]) -> None:
    url, key, task = served
    client = Client(url, key=key)
    one = client.predict("reviews", TEXTS[0])
    assert one["probabilities"] == pytest.approx(task.predict([TEXTS[0]])[0].probabilities, abs=1e-5)
    many = client.predict("reviews", TEXTS)
    assert [answer["label"] for answer in many] == [answer.label for answer in task.predict(TEXTS)]
    assert client.predict("reviews", {"text": TEXTS[0]}) == one
    assert client.predict("reviews", TEXTS[0], min_probability=1.0)["abstained"] is True
    assert client.complete("reviews", TEXTS[0]) in ("great", "bad")
    assert [one["task"] for one in client.tasks()] == ["reviews", "support"]
    client.close()


def test_the_client_says_what_the_server_said(served: tuple[str, str, Task]) -> None:
    url, key, _ = served
    with Client(url, key=key) as client:
        with pytest.raises(ServeError, match="no task 'none'"):
            client.predict("none", "x")
        with pytest.raises(ServeError, match="at most 8"):
            client.predict("reviews", ["x"] * 9)
        with pytest.raises(ServeError, match="Not Found"):
            client.predict("../../health", "x")
    with Client(url, key="wrong") as client, pytest.raises(ServeError, match="a key is needed"):
        client.tasks()
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServeError, match="no answer"):
        client.tasks()


def test_the_client_comes_back_when_the_server_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    waits: list[float] = []
    answers = [
        httpx2.Response(429, headers={"retry-after": "3"}),
        httpx2.Response(503),
        httpx2.Response(200, json={"tasks": []}),
    ]
    monkeypatch.setattr("ptune.serve.client.time.sleep", waits.append)
    with Client("http://server") as client:
        monkeypatch.setattr(client._http, "request", lambda *_, **__: answers.pop(0))
        assert client.tasks() == [] and waits == [3.0, 1.0]
        answers[:] = [httpx2.Response(429, json={"error": {"message": "full"}})] * 9
        with pytest.raises(ServeError, match="full"):
            client.tasks()
        assert len(answers) == 4


def test_importing_the_client_loads_neither_torch_nor_the_web_framework() -> None:
    import sys

    heavy = "any(name in sys.modules for name in ('torch', 'transformers', 'fastapi', 'uvicorn'))"
    code = f"import sys; from ptune.serve import Client; sys.exit({heavy})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_limit_of_the_page_is_an_option_with_that_default() -> None:
    from typer.main import get_command

    from ptune.cli import app

    command: Any = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {option: one.default for one in command.params for option in one.opts}
    rows = re.findall(r"^\| `(--[a-z-]+)` \| ([\d,]+)", PAGE, re.MULTILINE)
    assert len(rows) >= 9
    for option, default in rows:
        assert float(default.replace(",", "")) == options[option], option
    routes = set(re.findall(r"`(?:GET|POST) ([^`]+)`", PAGE))
    assert "/v1/tasks/{task}/predict" in routes


def test_files_for_running_it_name_real_options() -> None:
    from typer.main import get_command

    from ptune.cli import app

    command: Any = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for one in command.params for option in one.opts}
    docker = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    unit = (ROOT / "deploy" / "ptune-serve.service").read_text(encoding="utf-8")
    words = re.findall(r'"(--[a-z-]+)"', docker)
    words += re.findall(r"(--[a-z-]+)", next(line for line in unit.splitlines() if line.startswith("ExecStart=")))
    assert words and set(words) <= known
    assert "USER ptune" in docker and "NoNewPrivileges=yes" in unit


def test_how_long_the_client_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a date too, never longer than its timeout in all; and it asks once, however few tries it is told."""
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    import httpx2

    now, waits, asked = [100.0], list[float](), list[str]()
    monkeypatch.setattr("ptune.serve.client.time.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    def waits_of(retry_after: str | None, **settings: Any) -> list[float]:
        waits.clear()
        asked.clear()
        headers = {} if retry_after is None else {"retry-after": retry_after}
        with Client("http://server", **settings) as client:
            busy = httpx2.Response(429, headers=headers, json={"error": {"message": "full"}})
            monkeypatch.setattr(client._http, "request", lambda *words, **_: asked.append(words[1]) or busy)
            with pytest.raises(ServeError, match="full"):
                client.tasks()
        return list(waits)

    monkeypatch.setattr("ptune.serve.client.time.sleep", sleep)
    assert waits_of("20", timeout=50.0) == [20.0, 20.0] and len(asked) == 3
    assert waits_of("51", timeout=50.0) == [] and waits_of("9" * 400) == []
    assert waits_of(None, tries=0) == [] and len(asked) == 1
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert waits_of(date, tries=2) == [pytest.approx(30.0, abs=2.0)]
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    assert waits_of(past, tries=2) == [0.0]
    for odd in ("", "soon", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 -0000", "²"):
        assert waits_of(odd.encode("ascii", "ignore").decode(), tries=2) == [1.0], odd


def test_the_files_for_running_it_make_what_they_name() -> None:
    unit = (ROOT / "deploy" / "ptune-serve.service").read_text(encoding="utf-8")
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    keys = re.findall(r"/etc/ptune/\S+", start)
    assert keys and all(f"serve-key {path} " in unit for path in keys)
    assert re.search(r"install -d .*/srv/ptune/bundles", unit) and re.search(r"install -d .*/etc/ptune$", unit, re.MULTILINE)
    docker = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    user = re.search(r"--uid (\d+)", docker)
    assert user is not None and f"chown {user[1]} keys.txt" in docker
    for text, pattern in ((docker, r"--stop-timeout (\d+)"), (unit, r"TimeoutStopSec=(\d+)")):
        seconds = re.search(pattern, text)
        assert seconds is not None and int(seconds[1]) > 30


def test_the_demo_trains_again_what_was_broken_off(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    lines = [line.strip() for line in makefile if line.startswith("\ttest -d runs/serve-demo")]
    stub = tmp_path / "ptune"
    stub.write_text('#!/bin/sh\ntest ! -e "$4" && mkdir -p "$4/bundle"\n')  # as `ptune train FILE --out DIR`
    stub.chmod(0o755)
    for name in ("reviews", "support"):
        (tmp_path / "runs" / "serve-demo" / name).mkdir(parents=True)
        (tmp_path / "runs" / "serve-demo" / name / "run.json").write_text("{}")
    for _ in range(2):  # trained at the first time, left alone at the second
        for line in lines:
            subprocess.run(["sh", "-c", line.replace("$(BIN)/ptune", str(stub))], cwd=tmp_path, check=True)
    assert len(lines) == 2 and all(
        (tmp_path / "runs" / "serve-demo" / name / "bundle").is_dir() for name in ("reviews", "support")
    )
