"""The real command in a process of its own: it starts, answers, is stopped, killed, started again, and left by its clients."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ptune.task import Task
from serving import TEXTS, own_process, save_task, task_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone as a folder, as a user would name his own."""
    from tiny import tiny_model, tiny_tokenizer

    path = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model("llama").save_pretrained(path)
    tiny_tokenizer("llama").save_pretrained(path)
    return path


def ask(url: str, text: str, task: str = "reviews") -> httpx2.Response:
    return httpx2.post(f"{url}/v1/tasks/{task}/predict", json={"input": text}, timeout=120)


def check(answer: dict[str, Any], task: Task, text: str) -> None:
    assert answer["predictions"][0]["probabilities"] == pytest.approx(task.predict([text])[0].probabilities, abs=1e-5)


class Asking:
    """Clients that ask without end, each on its own connection; what they were answered, and what broke."""

    def __init__(self, url: str, num: int = 4) -> None:
        self.url, self.answers, self.broken = url, list[tuple[str, int, Any]](), list[str]()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(num)]

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, num: int) -> None:
        end = time.monotonic() + 300
        while len(self.answers) < num:
            assert time.monotonic() < end, self.broken[-3:]
            time.sleep(0.01)

    def _ask(self, number: int) -> None:
        with httpx2.Client(timeout=120) as client:
            while not self._is_over.is_set():
                number += 1
                text = TEXTS[number % len(TEXTS)]
                try:
                    answer = client.post(f"{self.url}/v1/tasks/reviews/predict", json={"input": text})
                except httpx2.TransportError as error:
                    self.broken.append(type(error).__name__)
                    time.sleep(0.05)
                else:
                    self.answers.append((text, answer.status_code, answer.json()))


def test_it_serves_the_folder_and_stops_when_told(tmp_path: Path, model: Path) -> None:
    task = save_task(tmp_path / "in", "reviews")
    with own_process(tmp_path / "in", model, "--threads", "1") as server:
        for text in TEXTS:
            check(ask(server.url, text).json(), task, text)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
    assert [line["event"] for line in server.lines if line["event"] in ("listening", "start", "task_new", "stop")] == [
        "listening",
        "start",
        "task_new",
        "stop",
    ]
    assert not any(text in json.dumps(server.lines, ensure_ascii=False) for text in TEXTS if len(text) > 8)


def test_sigterm_under_load_finishes_what_was_accepted(tmp_path: Path, model: Path) -> None:
    task = save_task(tmp_path / "in", "reviews")
    with own_process(tmp_path / "in", model) as server, Asking(server.url) as asking:
        asking.wait_for(40)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0
    for text, status, answer in asking.answers:
        assert status in (200, 503)
        if status == 200:
            check(answer, task, text)
    logged = [line["status"] for line in server.lines if line["event"] == "request" and "predict" in line["route"]]
    num_answered = sum(status == 200 for _, status, _ in asking.answers)
    assert set(logged) <= {200, 503} and logged.count(200) == num_answered, "what the server had taken on was not answered"
    assert [line["finished"] for line in server.lines if line["event"] == "stop"] == [True]
    assert set(asking.broken) <= {"ConnectError", "ReadError", "RemoteProtocolError"}  # sent as an idle connection was closed


def test_sigkill_and_restart(tmp_path: Path, model: Path) -> None:
    task = save_task(tmp_path / "in", "reviews")
    with own_process(tmp_path / "in", model) as server:
        with Asking(server.url) as asking:
            asking.wait_for(20)
            server.process.kill()
            server.process.wait(120)
        port = server.url.rsplit(":", 1)[1]
    for text, status, answer in asking.answers:
        assert status == 200
        check(answer, task, text)
    with own_process(tmp_path / "in", model, "--port", port) as again:
        check(ask(again.url, TEXTS[0]).json(), task, TEXTS[0])


def spoil(folder: Path) -> None:
    (folder / "prompt.safetensors").write_bytes(b"x" * 100)


def test_bundles_replaced_spoiled_and_deleted_under_load(tmp_path: Path, model: Path) -> None:
    versions = [task_of(seed) for seed in range(4)]
    place = tmp_path / "in" / "reviews"
    versions[0].save(place)
    digests: dict[str, Task] = {}
    with (
        own_process(tmp_path / "in", model, "--scan-seconds", "0.05") as server,
        Asking(server.url) as asking,
    ):
        for task in versions:
            task.save(place)
            number = len(asking.answers)
            asking.wait_for(number + 20)
            _wait(lambda: ask(server.url, "bad").json().get("version") not in {None, *digests})
            digests[ask(server.url, "bad").json()["version"]] = task
            spoil(place)
            _wait(lambda: "replacement_refused" in httpx2.get(f"{server.url}/v1/tasks/reviews").json())
            shutil.rmtree(place)
        _wait(lambda: ask(server.url, "bad").status_code == 404)
    by_status = {status for _, status, _ in asking.answers}
    assert 200 in by_status and by_status <= {200, 404} and not asking.broken
    gone = [number for number, one in enumerate(asking.answers) if one[1] == 404]
    assert all(one[1] == 404 for one in asking.answers[gone[0] + 8 :]) if gone else True
    for text, status, answer in asking.answers:
        if status == 200:
            check(answer, digests[answer["version"]], text)


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_clients_that_are_cut_off_leave_nothing_behind(tmp_path: Path, model: Path) -> None:
    task = save_task(tmp_path / "in", "reviews")
    with own_process(tmp_path / "in", model) as server:
        host, port = server.url.removeprefix("http://").split(":")
        bodies = [
            json.dumps({"inputs": TEXTS * 10}),
            json.dumps({"model": "reviews", "prompt": TEXTS * 10, "stream": True}),
        ]
        for number in range(30):
            path = "/v1/completions" if number % 2 else "/v1/tasks/reviews/predict"
            body = bodies[number % 2].encode()
            head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            with socket.create_connection((host, int(port))) as cut:
                cut.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[: len(body) - (number % 3 == 0)])
                cut.settimeout(1)
                if number % 3 == 1:
                    cut.recv(10)
        check(ask(server.url, TEXTS[0]).json(), task, TEXTS[0])
        _wait(lambda: 'ptune_queue_texts{work="label"} 0.0' in httpx2.get(f"{server.url}/metrics").text)
    assert not [line for line in server.lines if line["level"] == "error"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{root}/none"], "no folder"),
        (["{root}", "--host", "0.0.0.0"], "without a key"),
        (["{root}"], "no bundle here names a backbone"),
        (["{root}", "--backbone", "smollm2-135m-q5"], "did you mean"),
        (["{root}", "--api-key-file", "{root}/keys", "--backbone", "{model}"], "ptune serve-key"),
        (["{root}", "--port", "{taken}", "--backbone", "{model}"], "choose another port"),
        (["{root}", "--max-queue", "0"], "above 0"),
    ],
)
def test_what_cannot_start_says_so_in_one_line(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    from ptune.cli import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {"root": tmp_path, "model": model, "taken": taken.getsockname()[1]}
        assert main(["serve", *(word.format(**values) for word in words)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1 and expected in lines[-1]


def test_the_backbone_is_the_one_that_the_bundles_name(tmp_path: Path, model: Path) -> None:
    import ptune

    backbone = ptune.load_backbone(str(model))
    built = ptune.PromptModel.build(
        backbone=backbone, template="{text}{soft:2} It was{mask}", labels={"yes": "great", "no": "bad"}, method="p-tuning"
    )
    Task(built.requires_grad_(False)).save(tmp_path / "in" / "one")
    from ptune.serve.run import _backbone_of, _places

    assert _backbone_of(_places(tmp_path / "in"), tmp_path / "in") == str(model.resolve())


def test_a_folder_that_cannot_be_read_is_said_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptune.serve import ServeError, ServeSettings
    from ptune.serve import run as running_it

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ptune.serve.folder.os.scandir", refuse)
    monkeypatch.setattr(running_it, "load_backbone", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(ServeError, match="cannot be read: permission denied"):
        running_it.serve(ServeSettings(tmp_path, backbone="smollm2-135m-q4", port=0))


def test_serve_key_prints_a_key_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ptune", "serve-key", str(tmp_path / "keys"), "team-a"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pt-") and done.stdout.strip() not in (tmp_path / "keys").read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2 and "already" in again.stderr
