"""The folder while the server runs: bundles appear, are replaced, go bad, go away; memory is bounded; nothing is lost."""

import asyncio
import shutil
import struct
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from safetensors.torch import load_file, save_file

from ptune.bundle import CARD
from ptune.task import Task
from serving import TEXTS, run, running, save_task, task_of, until

PROMPT = "prompt.safetensors"


async def state(client: httpx2.AsyncClient, name: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/tasks/{name}")
    return answer.json() if answer.status_code == 200 else {"state": "gone"}


async def label(client: httpx2.AsyncClient, name: str, text: str = "bad") -> dict[str, Any]:
    answer = await client.post(f"/v1/tasks/{name}/predict", json={"input": text})
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(task: Task, text: str = "bad") -> Any:
    return pytest.approx(task.predict([text])[0].probabilities, abs=1e-5)


def test_a_bundle_is_found_when_it_appears_and_forgotten_when_it_is_gone(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (client, server):
            assert (await client.get("/v1/tasks")).json()["tasks"] == []
            task = save_task(tmp_path, "late")
            await until(lambda: any(entry.state == "resident" for entry in server.registry.entries))
            assert (await label(client, "late"))["predictions"][0]["probabilities"] == said(task)
            shutil.rmtree(tmp_path / "late")
            await until(lambda: not server.registry.entries)
            answer = await client.post("/v1/tasks/late/predict", json={"input": "bad"})
            assert answer.status_code == 404
            assert b'task="late"' not in server.metrics.text().replace(b'status="404",task="late"', b"")

    run(work)


def test_a_replaced_bundle_answers_anew_and_never_from_an_old_context(tmp_path: Path) -> None:
    """Learned tokens stand in front, so that each version keeps keys and values of its own."""
    versions = [task_of(seed, template="{soft:3} {text} It was{mask}") for seed in range(4)]
    versions[0].save(tmp_path / "one")

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            seen = {(await label(client, "one"))["version"]: versions[0]}
            for task in versions[1:]:
                task.save(tmp_path / "one")
                await until(lambda: server.registry.entry("one").version.digest[:16] not in seen)
                got = await label(client, "one")
                assert got["predictions"][0]["probabilities"] == said(task)
                seen[got["version"]] = task
            assert len(seen) == 4

    run(work)


def test_no_request_is_lost_or_mixed_while_a_bundle_is_replaced_again_and_again(tmp_path: Path) -> None:
    versions = [task_of(seed) for seed in range(3)]
    versions[0].save(tmp_path / "one")
    save_task(tmp_path, "other", 9)

    async def work() -> None:
        async with running(tmp_path, scan_seconds=0.01) as (client, server):
            digests: dict[str, Task] = {}
            answers: list[tuple[str, dict[str, Any]]] = []
            is_over = False

            async def asks(number: int) -> None:
                at = number
                while not is_over:
                    at += 1
                    text = TEXTS[at % len(TEXTS)]
                    answers.append((text, await label(client, "one", text)))

            asking = [asyncio.create_task(asks(number)) for number in range(6)]
            for turn in range(9):
                task = versions[turn % 3]
                task.save(tmp_path / "one")
                known = set(digests)

                def is_new(known: set[str] = known) -> bool:
                    digest = server.registry.entry("one").version.digest[:16]
                    return digest not in known or len(known) == 3

                await until(is_new)
                if len(digests) < 3:
                    digests[server.registry.entry("one").version.digest[:16]] = task
                await asyncio.sleep(0.05)
            is_over = True
            await asyncio.gather(*asking)
            assert len({got["version"] for _, got in answers}) >= 2 and len(answers) > 20
            for text, got in answers:
                assert got["predictions"][0]["probabilities"] == said(digests[got["version"]], text)

    run(work)


def truncate(folder: Path) -> None:
    content = (folder / PROMPT).read_bytes()
    (folder / PROMPT).write_bytes(content[: len(content) // 2])


def put_nan(folder: Path) -> None:
    kept = load_file(folder / PROMPT)
    save_file({**kept, "prior": torch.full_like(kept["prior"], float("nan"))}, folder / PROMPT)


def change_shape(folder: Path) -> None:
    kept = load_file(folder / PROMPT)
    save_file({**kept, "rows": kept["rows"][:2].clone()}, folder / PROMPT)


def change_labels(folder: Path) -> None:
    kept = load_file(folder / PROMPT)
    save_file({**kept, "prior": torch.zeros(7)}, folder / PROMPT)


def put_other_backbone(folder: Path) -> None:
    shutil.rmtree(folder)
    task_of(kind="gpt2").save(folder)


def declare_absurd_size(folder: Path) -> None:
    header = b'{"prior":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    (folder / PROMPT).write_bytes(struct.pack("<Q", len(header)) + header + b"12345678")


def link_out(folder: Path) -> None:
    outside = folder.parents[1] / "outside.safetensors"
    shutil.move(folder / PROMPT, outside)
    (folder / PROMPT).symlink_to(outside)


def break_card(folder: Path) -> None:
    (folder / CARD).write_text("{", encoding="utf-8")


def grow(folder: Path) -> None:
    with (folder / PROMPT).open("r+b") as file:
        file.truncate(2**36)


FAULTS = {
    truncate: "damaged",
    put_nan: "not finite",
    change_shape: "learned rows",
    change_labels: "cannot be put on the backbone",
    put_other_backbone: "made for tiny-gpt2",
    declare_absurd_size: "damaged",
    link_out: "leads out",
    break_card: "damaged",
    grow: "raise --max-bundle-bytes",
}


@pytest.mark.parametrize(("spoil", "words"), FAULTS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_a_bundle_that_goes_bad_is_listed_and_the_good_one_answers_on(tmp_path: Path, spoil: Any, words: str) -> None:
    root = tmp_path / "in"
    good = save_task(root, "one")
    save_task(root, "never-good")
    spoil(root / "never-good")

    async def work() -> None:
        async with running(root) as (client, server):
            refused = await state(client, "never-good")
            assert refused["state"] == "refused" and words in refused["reason"]
            assert str(tmp_path) not in refused["reason"]
            answer = await client.post("/v1/tasks/never-good/predict", json={"input": "bad"})
            assert answer.status_code == 404 and words in answer.json()["error"]["message"]
            assert [one["id"] for one in (await client.get("/v1/models")).json()["data"]] == ["one"]
            version = (await label(client, "one"))["version"]
            spoil(root / "one")
            listed = await until(lambda: _reason(client, "one"))
            assert words in listed
            assert not server.registry.entry("one").may_go
            got = await label(client, "one")
            assert got["version"] == version and got["predictions"][0]["probabilities"] == said(good)
            shutil.rmtree(root / "one")
            mended = save_task(root, "one", 5)
            await until(lambda: server.registry.entry("one").version.digest[:16] != version)
            got = await label(client, "one")
            assert got["predictions"][0]["probabilities"] == said(mended) and "replacement_refused" not in await state(
                client, "one"
            )

    async def _reason(client: httpx2.AsyncClient, name: str) -> Any:
        return (await state(client, name)).get("replacement_refused")

    run(work)


def test_memory_is_bounded_least_recently_used_first(tmp_path: Path) -> None:
    tasks = {f"t{n}": save_task(tmp_path, f"t{n}", n) for n in range(5)}

    async def work() -> None:
        async with running(tmp_path, task_bytes=5000) as (client, server):
            for name in (*tasks, "t0", "t1", *reversed(tasks)):
                assert (await label(client, name))["predictions"][0]["probabilities"] == said(tasks[name])
                assert server.registry.num_bytes <= 5000
                assert server.registry.entry(name).state == "resident"
            states = [entry.state for entry in server.registry.entries]
            assert 0 < states.count("resident") < 5
            page = server.metrics.text().decode()
            assert 'ptune_task_evictions_total{task="t0"}' in page
            assert 'ptune_tasks{state="refused"} 0.0' in page

    run(work)


def test_contexts_that_are_kept_count_as_memory(tmp_path: Path) -> None:
    save_task(tmp_path, "one")

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            before = server.registry.num_bytes
            await label(client, "one")
            await until(lambda: server.registry.num_bytes > before)

    run(work)


def test_many_who_wait_for_one_task_load_it_once(tmp_path: Path) -> None:
    task = save_task(tmp_path, "one")

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            server.registry.unload("one")
            loads = server.registry.entry("one").num_loads
            answers = await asyncio.gather(*(label(client, "one", text) for text in TEXTS * 4))
            assert server.registry.entry("one").num_loads == loads + 1
            for text, got in zip(TEXTS * 4, answers, strict=True):
                assert got["predictions"][0]["probabilities"] == said(task, text)

    run(work)


def test_a_task_out_of_memory_whose_bundle_went_bad_is_refused_with_the_reason(tmp_path: Path) -> None:
    save_task(tmp_path, "one")

    async def work() -> None:
        async with running(tmp_path, scan_seconds=0.5) as (client, server):
            server.registry.unload("one")
            truncate(tmp_path / "one")
            answer = await client.post("/v1/tasks/one/predict", json={"input": "bad"})
            assert answer.status_code in (404, 503) and answer.json()["error"]["code"] in ("task_refused", "not_ready")
            await until(lambda: server.registry.entry("one").state == "refused")

    run(work)


def test_texts_that_start_with_another_token_share_the_weights(tmp_path: Path) -> None:
    import json

    task = save_task(tmp_path, "one")
    path = tmp_path / "one" / CARD
    card = json.loads(path.read_text())
    card["backbone"]["text_start"] = "<|end|>"
    path.write_text(json.dumps(card))

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            got = (await label(client, "one"))["predictions"][0]["probabilities"]
            assert got != said(task)
            held = server.registry.entry("one").version.task
            assert held.model.backbone is not server.backbone and held.model.backbone.model is server.backbone.model

    run(work)


def test_a_folder_that_cannot_be_read_for_a_while_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import os

    from ptune.serve.refusals import Refusal

    save_task(tmp_path, "one")
    own, is_over = os.scandir, True

    def scandir(path: Any) -> Any:
        if not is_over and path == tmp_path.resolve():
            raise OSError(24, "Too many open files")
        return own(path)

    monkeypatch.setattr("ptune.serve.folder.os.scandir", scandir)

    def num_failed() -> int:
        return sum(getattr(record, "event", "") == "scan_failed" for record in caplog.records)

    async def work() -> None:
        nonlocal is_over
        async with running(tmp_path) as (client, server):
            is_over = False
            await until(lambda: num_failed() > 5)  # a folder that is gone is forgotten after two looks
            await label(client, "one")
            with pytest.raises(Refusal, match="cannot be read"):
                await server.registry.reload()
            server.registry.unload("one")
            await label(client, "one")
            is_over = True
            await server.registry.reload()
            assert server.registry.entry("one").state == "resident"

    run(work)


@pytest.mark.parametrize("is_told", [False, True], ids=["by itself", "by reload"])
@pytest.mark.parametrize(
    ("place", "error", "reason"),
    [
        ("ptune.serve.vetting._read", PermissionError(13, "Permission denied"), "it cannot be read (permission denied)"),
        ("ptune.serve.engine.Engine.build", MemoryError(), "it cannot be put on the backbone (MemoryError)"),
    ],
)
def test_a_bundle_that_was_refused_for_no_fault_of_its_own_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception, reason: str, is_told: bool
) -> None:
    save_task(tmp_path, "one")

    async def work() -> None:
        with monkeypatch.context() as patch:

            def fails(*_: Any) -> Any:
                raise error

            patch.setattr(place, fails)
            async with running(tmp_path, scan_seconds=0.1 if not is_told else 60.0) as (client, server):

                async def listed() -> Any:
                    if is_told:
                        await server.registry.reload()
                    return await state(client, "one")

                async def is_refused() -> bool:
                    return (await listed())["state"] == "refused"

                async def is_served() -> bool:
                    return (await listed())["state"] == "resident"

                await until(is_refused)
                assert (await state(client, "one"))["reason"] == reason
                patch.undo()
                await until(is_served)
                await label(client, "one")

    run(work)
