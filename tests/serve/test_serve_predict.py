"""Predictions over HTTP: equal to each task alone, whatever shares their batches; bounds, bad texts, deadlines, abstentions."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

import ptune
from ptune.serve import Limits
from serving import TEXTS, WORDS, run, running, save_task

PREDICT = "/v1/tasks/{}/predict"


async def predict(client: httpx2.AsyncClient, task: str, **body: Any) -> httpx2.Response:
    return await client.post(PREDICT.format(task), json=body)


@pytest.mark.parametrize("kind", ["llama", "bert", "t5"])
def test_answers_of_many_tasks_at_once_equal_each_task_alone(tmp_path: Path, kind: str) -> None:
    labels = [WORDS, {"a": ["great", "terrible"], "b": ["不喜欢", "bad"], "c": "积极"}]
    tasks = {f"task-{seed}": save_task(tmp_path, f"task-{seed}", seed, labels=labels[seed % 2], kind=kind) for seed in range(6)}

    async def work() -> None:
        async with running(tmp_path, kind=kind) as (client, server):
            jobs = [(name, text) for text in TEXTS for name in tasks]
            answers = await asyncio.gather(*(predict(client, name, input=text) for name, text in jobs))
            for (name, text), answer in zip(jobs, answers, strict=True):
                assert answer.status_code == 200
                expected = tasks[name].predict([text])[0]
                (got,) = answer.json()["predictions"]
                assert got["label"] == expected.label
                assert got["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
            page = server.metrics.text().decode()
            steps = float(re.search(r'ptune_step_tasks_count{work="label"} (\S+)', page)[1])  # type: ignore[index]
            assert steps < len(jobs)

    run(work)


def test_several_inputs_come_back_in_order(tmp_path: Path) -> None:
    task = save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path, tokens_per_step=16) as (client, _):
            answer = (await predict(client, "reviews", inputs=TEXTS)).json()
            assert answer["task"] == "reviews" and len(answer["version"]) == 16
            for got, expected in zip(answer["predictions"], task.predict(TEXTS), strict=True):
                assert got["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)

    run(work)


def test_rows_with_several_fields(tmp_path: Path) -> None:
    task = save_task(tmp_path, "pairs", template="{text} ? {other}{soft:2} It was{mask}")
    row = {"text": "good", "other": "The film was bad"}

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            got = (await predict(client, "pairs", input=row)).json()["predictions"][0]
            assert got["probabilities"] == pytest.approx(task.predict([row])[0].probabilities, abs=1e-5)
            plain = await predict(client, "pairs", input="good")
            assert plain.status_code == 400 and "text, other" in plain.json()["error"]["message"]
            short = await predict(client, "pairs", inputs=[row, {"text": "good"}])
            assert short.status_code == 400
            assert short.json()["error"]["param"] == "inputs[1]" and "other" in short.json()["error"]["message"]

    run(work)


def test_a_bad_text_does_not_harm_those_beside_it(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            bodies: list[dict[str, Any]] = [{"input": text if n % 2 else {"wrong": text}} for n, text in enumerate(TEXTS * 4)]
            answers = await asyncio.gather(*(predict(client, "reviews", **body) for body in bodies))
            assert [answer.status_code for answer in answers] == [200 if n % 2 else 400 for n in range(len(bodies))]

    run(work)


def test_a_fault_of_one_text_is_its_own_and_says_nothing_of_the_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save_task(tmp_path, "reviews")
    own = ptune.serve.engine.predict_mixed

    def failing(rows: Any) -> Any:
        if any("fault" in text for _, text in rows):
            raise RuntimeError("secret place /root/x")
        return own(rows)

    monkeypatch.setattr("ptune.serve.engine.predict_mixed", failing)

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            answers = await asyncio.gather(*(predict(client, "reviews", input=text) for text in ("good", "a fault", "bad")))
            assert [answer.status_code for answer in answers] == [200, 500, 200]
            assert "secret" not in answers[1].text and "RuntimeError" not in answers[1].text

    run(work)
    faults = [record for record in caplog.records if getattr(record, "event", "") == "text_failed"]
    assert len(faults) == 1 and faults[0].levelname == "ERROR"
    assert faults[0].facts == {"error": "RuntimeError: secret place /root/x"}  # type: ignore[attr-defined]


def test_a_task_that_abstains_by_itself_completes_with_its_word_for_that(tmp_path: Path) -> None:
    task = save_task(tmp_path, "reviews")
    task.model.abstain_below = 1.0  # type: ignore[assignment]
    task.save(tmp_path / "reviews")
    assert task.predict(["bad"])[0].label == "unknown"

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            for stream in (False, True):
                done = await client.post("/v1/completions", json={"model": "reviews", "prompt": "bad", "stream": stream})
                assert done.status_code == 200 and '"unknown"' in done.text

    run(work)


def test_abstentions(tmp_path: Path) -> None:
    task = save_task(tmp_path, "reviews")
    best = max(task.predict(["bad"])[0].probabilities.values())

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            for floor, abstains in ((best - 1e-3, False), (best + 1e-3, True)):
                got = (await predict(client, "reviews", input="bad", min_probability=floor)).json()["predictions"][0]
                assert got["abstained"] is abstains
                assert (got["label"] is None) is abstains
            assert "abstained" not in (await predict(client, "reviews", input="bad")).json()["predictions"][0]

    run(work)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "either input or inputs"),
        ({"input": "a", "inputs": ["b"]}, 400, "either input or inputs"),
        ({"inputs": []}, 400, "inputs is empty"),
        ({"inputs": ["a"] * 5}, 400, "at most 4"),
        ({"input": "a" * 41}, 400, "at most 40"),
        ({"input": {"text": "good", "more": ["a" * 20, "b" * 20]}}, 400, "at most 40"),
        ({"input": {"text": [[[[[[[[[]]]]]]]]]}}, 400, "too deeply"),
        ({"input": 3}, 422, "input"),
        ({"input": "a", "extra": 1}, 422, "extra"),
        ({"input": "a", "min_probability": 2}, 422, "min_probability"),
        ({"input": "a", "timeout": 0}, 422, "timeout"),
    ],
)
def test_bounds(tmp_path: Path, body: dict[str, Any], status: int, words: str) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path, limits=Limits(inputs=4, text_chars=40)) as (client, _):
            answer = await predict(client, "reviews", **body)
            assert answer.status_code == status
            assert words in answer.json()["error"]["message"]

    run(work)


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e%2fx", "a/b", "reviews%00", "." * 200])
def test_names_that_are_no_task(tmp_path: Path, name: str) -> None:
    save_task(tmp_path / "in", "reviews")
    save_task(tmp_path, "x")

    async def work() -> None:
        async with running(tmp_path / "in") as (client, _):
            answer = await client.post(PREDICT.format(name), json={"input": "good"})
            assert answer.status_code == 404
            assert set(answer.json()["error"]) == {"message", "type", "code", "param"}

    run(work)


def test_text_that_is_cut_half_through_a_character_is_refused(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            for body in (b'{"input": "\\ud800"}', b'{"input": {"text": "a", "\\udfff": 1}}'):
                answer = await client.post(
                    PREDICT.format("reviews"), content=body, headers={"content-type": "application/json"}
                )
                assert answer.status_code in (400, 422)
            whole = await predict(client, "reviews", input="a \U0001f600 b")
            assert whole.status_code == 200

    run(work)


def test_a_request_whose_time_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            import time

            server.worker.call(lambda: time.sleep(0.5))
            answer = await predict(client, "reviews", input="good", timeout=0.1)
            assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline"
            assert len(server.queue) == 0
            assert (await predict(client, "reviews", input="good")).status_code == 200

    run(work)


def test_the_list_of_tasks(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")
    save_task(tmp_path / "run", "bundle")  # as `ptune train` leaves it: runs/NAME/bundle
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no bundle")

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            listed = (await client.get("/v1/tasks")).json()
            assert listed["backbone"] == "tiny-llama"
            assert [one["task"] for one in listed["tasks"]] == ["reviews", "run"]
            one = (await client.get("/v1/tasks/reviews")).json()
            assert one == listed["tasks"][0]
            assert one["state"] == "resident" and one["labels"] == ["yes", "no"] and one["fields"] == ["text"]
            assert (await client.get("/v1/tasks/none")).status_code == 404

    run(work)
