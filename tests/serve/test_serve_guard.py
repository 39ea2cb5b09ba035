"""In front of the routes: keys, sizes, ids, hosts, logs without texts, admin routes, figures."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ptune.errors import PtuneError, notice
from ptune.serve import Limits, ServeError, ServeSettings, add_key
from ptune.serve.keys import Keys, read_keys
from ptune.serve.logs import log
from serving import TEXTS, run, running, save_task, until

PREDICT = "/v1/tasks/reviews/predict"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_keys_are_hashed_at_rest_and_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first, second = add_key(path, "team-a"), add_key(path, "team-b")
    assert first != second and len(first) > 40
    text = path.read_text()
    assert first not in text and second not in text and text.count("sha256:") == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = read_keys(path)
    assert keys.owner(f"Bearer {first}") == "team-a" and keys.owner(f"bearer {second}") == "team-b"
    for wrong in (None, "", first, f"Basic {first}", f"Bearer {first[:-1]}", "Bearer ", f"Bearer {first} x"):
        assert keys.owner(wrong) is None
    with pytest.raises(ServeError, match="already"):
        add_key(path, "team-a")


def test_every_stored_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib
    import hmac

    digests = tuple((name, hashlib.sha256(name.encode()).digest()) for name in "abc")
    calls: list[bytes] = []
    own = hmac.compare_digest
    monkeypatch.setattr("ptune.serve.keys.hmac.compare_digest", lambda a, b: calls.append(b) or own(a, b))
    assert Keys(digests).owner("Bearer a") == "a" and len(calls) == 3


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "team-a pt-secretsecret\n", "team-a sha256:12\n", "sha256:" + "0" * 64 + "\n"]
)
def test_key_files_that_are_none_do_not_show_what_stands_in_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ServeError, match="ptune serve-key") as refused:
        read_keys(path)
    assert "secret" not in str(refused.value)


def test_key_files_that_cannot_be_read_are_told_why_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptune.serve import run as running_it

    monkeypatch.setattr(running_it, "load_backbone", lambda *_, **__: pytest.fail("the model was loaded"))
    for settings in ({"api_key_file": tmp_path / "none"}, {"admin_key_file": tmp_path / "none"}):
        with pytest.raises(ServeError, match="no such file"):
            running_it.serve(ServeSettings(tmp_path, backbone="smollm2-135m-q4", port=0, **settings))  # type: ignore[arg-type]
    (tmp_path / "odd").write_bytes(b"\xff")
    with pytest.raises(ServeError, match="no text"):
        read_keys(tmp_path / "odd")


def test_who_may_ask(tmp_path: Path) -> None:
    save_task(tmp_path / "in", "reviews")
    users, admins = tmp_path / "users", tmp_path / "admins"
    user, admin = add_key(users, "user"), add_key(admins, "admin")

    async def work() -> None:
        async with running(tmp_path / "in", api_key_file=users, admin_key_file=admins) as (client, _):

            async def status(method: str, path: str, key: str | None) -> int:
                body = {"input": "good"} if method == "POST" and "predict" in path else None
                answer = await client.request(method, path, json=body, headers=bearer(key) if key else {})
                return answer.status_code

            for path in ("/v1/tasks", "/v1/models", "/metrics", "/openapi.json", "/nowhere"):
                assert await status("GET", path, None) == 401
                assert await status("GET", path, "wrong") == 401
            for key in (user, admin):
                assert await status("GET", "/v1/tasks", key) == 200
                assert await status("POST", PREDICT, key) == 200
            assert await status("POST", PREDICT, None) == 401
            assert await status("GET", "/health/ready", None) == 200
            for path in ("/admin/tasks", "/admin/none"):
                assert await status("GET", path, user) == 401
            assert await status("GET", "/admin/tasks", admin) == 200
            refused = await client.get("/v1/tasks")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["error"]["type"] == "authentication_error"

    run(work)


def test_admin_routes_are_off_without_a_key_file(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (client, _):
            for path in ("/admin/tasks", "/admin/reload", "/admin"):
                assert (await client.get(path)).status_code == 403
            assert "/admin" not in (await client.get("/openapi.json")).text

    run(work)


def test_what_admins_may_do(tmp_path: Path) -> None:
    save_task(tmp_path / "in", "reviews")
    admins = tmp_path / "admins"
    headers = bearer(add_key(admins, "admin"))

    async def work() -> None:
        async with running(tmp_path / "in", admin_key_file=admins, scan_seconds=30.0) as (client, server):

            async def does(verb: str, status: int = 200) -> Any:
                answer = await client.post(f"/admin/tasks/reviews/{verb}", headers=headers)
                assert answer.status_code == status
                return answer.json()

            assert (await does("unload"))["state"] == "ready"
            loaded = await does("load")
            assert loaded["state"] == "resident" and loaded["loads"] == 2 and loaded["bytes"] > 0
            assert (await does("pin"))["pinned"] is True
            assert (await does("unload", 409))["error"]["code"] == "not_now"
            assert (await does("unpin"))["pinned"] is False
            assert (await does("unload"))["bytes"] == 0
            assert (await client.post("/admin/tasks/none/load", headers=headers)).status_code == 404
            save_task(tmp_path / "in", "second")
            assert len(server.registry.entries) == 1
            listed = (await client.post("/admin/reload", headers=headers)).json()["tasks"]
            assert [one["task"] for one in listed] == ["reviews", "second"]

    run(work)


def test_a_pinned_task_stays_in_memory(tmp_path: Path) -> None:
    for number in range(4):
        save_task(tmp_path, f"t{number}", number)

    async def work() -> None:
        async with running(tmp_path, task_bytes=4000) as (client, server):
            await server.registry.pin("t0", True)
            for name in ("t1", "t2", "t3") * 2:
                assert (await client.post(f"/v1/tasks/{name}/predict", json={"input": "bad"})).status_code == 200
            assert server.registry.entry("t0").state == "resident"
            assert [server.registry.entry(f"t{n}").state for n in range(1, 4)].count("ready") >= 1

    run(work)


def test_bodies_have_a_bound_whether_they_say_their_size_or_not(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")

    async def chunks() -> Any:
        for _ in range(50):
            yield b" " * 100

    async def work() -> None:
        async with running(tmp_path, limits=Limits(body_bytes=1000)) as (client, _):
            large = await client.post(PREDICT, json={"input": "a" * 2000})
            assert large.status_code == 413 and "connection" not in large.headers
            absurd = await client.post(PREDICT, json={"input": "a" * 20_000})
            assert absurd.status_code == 413 and absurd.headers["connection"] == "close"
            unsaid = await client.post(PREDICT, content=chunks(), headers={"content-type": "application/json"})
            assert unsaid.status_code == 413
            assert (await client.post(PREDICT, json={"input": "good"})).status_code == 200

    run(work)


def test_a_body_that_does_not_come_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_task(tmp_path, "reviews")
    monkeypatch.setattr("ptune.serve.guard._SECONDS_FOR_BODY", 0.05)

    async def slow() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            answer = await client.post(PREDICT, content=slow(), headers={"content-type": "application/json"})
            assert answer.status_code == 408

    run(work)


def test_every_answer_has_the_id_of_its_request(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (client, _):
            own = await client.get("/v1/tasks", headers={"x-request-id": "mine-1"})
            assert own.headers["x-request-id"] == "mine-1"
            for path, given in (("/v1/tasks", "a b\tc"), ("/nowhere", "x" * 65), ("/admin/x", "")):
                made = (await client.get(path, headers={"x-request-id": given})).headers["x-request-id"]
                assert made != given and len(made) == 32

    run(work)


def test_browsers_cannot_be_led_here(tmp_path: Path) -> None:
    """A page elsewhere whose name is made to point at this machine, and a form that sends plain text."""
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            foreign = await client.get("/v1/tasks", headers={"host": "evil.example"})
            assert foreign.status_code == 403
            for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
                assert (await client.get("/v1/tasks", headers={"host": host})).status_code == 200
            form = await client.post(PREDICT, content=b'{"input": "good"}', headers={"content-type": "text/plain"})
            assert form.status_code == 422
            assert "access-control-allow-origin" not in form.headers

    run(work)


def test_the_log_has_no_texts_unless_they_are_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_task(tmp_path, "reviews")
    texts = [text for text in TEXTS if len(text) > 8]  # "bad" could stand in the digits of a version
    caplog.set_level("INFO", "ptune.serve")

    def work_with(**settings: Any) -> list[dict[str, Any]]:
        caplog.clear()

        async def work() -> None:
            async with running(tmp_path, **settings) as (client, _):
                for text in texts:
                    await client.post(PREDICT, json={"input": text}, headers={"x-request-id": "mine"})
                await client.post(PREDICT, json={"input": {"wrong": texts[0]}})
                await client.post(PREDICT, json={"inputs": texts[0]})
                await client.post(
                    "/v1/chat/completions", json={"model": "reviews", "messages": [{"role": "x", "content": texts[0]}]}
                )

        run(work)
        return [record.facts for record in caplog.records if getattr(record, "event", "") == "request"]

    facts = [one for one in work_with() if one["id"] == "mine"]
    assert len(facts) == len(texts)
    assert facts[0].items() >= {"route": "/v1/tasks/{task}/predict", "task": "reviews", "status": 200, "texts": 1}.items()
    assert {"ms", "queue_ms", "version"} <= set(facts[0])
    everything = json.dumps(
        [getattr(record, "facts", record.getMessage()) for record in caplog.records], default=str, ensure_ascii=False
    )
    assert not any(text in everything for text in texts)
    assert [one["inputs"] for one in work_with(log_texts=True) if one["id"] == "mine"] == [[text] for text in texts]


def test_a_log_line_is_json_and_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    from ptune.serve.logs import set_up_logs

    loggers = [logging.getLogger(name) for name in ("ptune", "ptune.serve", "uvicorn", "uvicorn.error")]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    try:
        set_up_logs()
        log("start", backbone="a\nb")
        logging.getLogger("uvicorn.error").error("odd")
        for _ in range(2):
            notice("worth knowing")
    finally:
        for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    first, second, *noted = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["event"] == "start" and first["backbone"] == "a\nb" and first["level"] == "info"
    assert second["event"] == "uvicorn.error" and second["message"] == "odd"
    assert [(one["level"], one["message"]) for one in noted] == [("warning", "worth knowing")] * 2


def test_figures(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            await client.post(PREDICT, json={"inputs": TEXTS})
            await client.post("/v1/tasks/made-up/predict", json={"input": "x"})
            page = (await client.get("/metrics")).text
            for line in (
                'ptune_requests_total{route="/v1/tasks/{task}/predict",status="200",task="reviews"} 1.0',
                'ptune_texts_total{task="reviews"} 5.0',
                'ptune_task_resident{task="reviews"} 1.0',
                'ptune_task_loads_total{task="reviews"} 1.0',
                'ptune_queue_texts{work="label"} 0.0',
                'ptune_step_fill_count{work="label"}',
                'ptune_tokens_total{kind="read"}',
            ):
                assert line in page
            assert "made-up" not in page

    run(work)


def test_more_than_the_queue_takes_is_told_when_to_come_back(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path, max_queue=4) as (client, server):
            import time

            server.worker.call(lambda: time.sleep(0.3))
            answers = await asyncio.gather(*(client.post(PREDICT, json={"input": text}) for text in TEXTS * 3))
            statuses = [answer.status_code for answer in answers]
            assert statuses.count(200) == 4 and statuses.count(429) == len(statuses) - 4
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert int(refused.headers["retry-after"]) >= 1 and refused.json()["error"]["code"] == "queue_full"
            assert (await client.post(PREDICT, json={"input": "good"})).status_code == 200

    run(work)


def test_a_client_that_leaves_takes_its_texts_out_of_the_queue(tmp_path: Path) -> None:
    save_task(tmp_path, "reviews")

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            import time

            server.worker.call(lambda: time.sleep(0.5))
            asking = asyncio.create_task(client.post(PREDICT, json={"inputs": TEXTS}))
            await until(lambda: len(server.queue) == len(TEXTS))
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: len(server.queue) == 0)

    run(work)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"folder": Path("/none")}, "no folder"),
        ({"host": "0.0.0.0"}, "without a key"),
        ({"port": 70000}, "no port"),
        ({"max_queue": 0}, "--max-queue"),
        ({"timeout": float("nan")}, "--timeout"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(PtuneError, match=words):
        ServeSettings(**{"folder": tmp_path, **settings})
    assert ServeSettings(tmp_path, host="0.0.0.0", is_open=True).port == 8000


def test_a_server_that_starts_or_is_asked_too_early_says_so(tmp_path: Path) -> None:
    from ptune.serve import build_app
    from tiny import tiny_backbone

    app = build_app(ServeSettings(tmp_path), tiny_backbone("llama"))

    async def work() -> None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
            assert (await client.get("/health/ready")).status_code == 503
            early = await client.post(PREDICT, json={"input": "good"})
            assert early.status_code == 503 and "retry-after" in early.headers

    run(work)
