"""Tasks that write, over HTTP: the same texts as alone, whoever is beside them; streams, samples, stops, and leaving."""

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import ptune
from ptune.decode import Flow
from ptune.serve import Limits
from ptune.task import Task
from serving import TEXTS, live, run, running, save_task, speaker, until, writer
from tiny import tiny_backbone

PROMPTS = ("The film was", "bad", "I like this place , it is", "What a day !", "这部电影")


async def predict(client: httpx2.AsyncClient, task: str, **body: Any) -> Any:
    answer = await client.post(f"/v1/tasks/{task}/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_texts_of_many_tasks_at_once_equal_each_task_alone(tmp_path: Path, kind: str) -> None:
    """Soft and deep prompts, written and labelled, side by side; rows join while others are under way."""
    methods: list[Any] = ["p-tuning", "prompt-tuning", {"name": "p-tuning-v2", "num_tokens": 3}]
    tasks = {f"w{n}": writer(tmp_path, f"w{n}", n, kind=kind, method=methods[n % 3]) for n in range(6)}
    label = save_task(tmp_path, "label", kind=kind)

    async def work() -> None:
        async with running(tmp_path, kind=kind, max_running=4) as (client, server):

            async def asks(number: int) -> tuple[str, str, Any]:
                await asyncio.sleep(0.01 * number)
                name, text = f"w{number % 6}", PROMPTS[number % len(PROMPTS)]
                return name, text, (await predict(client, name, input=text))[0]

            jobs = [asks(number) for number in range(30)]
            labels = [predict(client, "label", input=text) for text in TEXTS]
            *answers, said = await asyncio.gather(*jobs, asyncio.gather(*labels))
            for name, text, got in answers:
                expected = tasks[name].predict([text])[0]
                assert (got["text"], got["reason"]) == (expected.text, expected.reason)
                assert got["log_probability"] == pytest.approx(expected.log_probability, abs=1e-4)
            for text, (got,) in zip(TEXTS, said, strict=True):
                assert got["probabilities"] == pytest.approx(label.predict([text])[0].probabilities, abs=1e-5)
            page = server.metrics.text().decode()
            beside = re.findall(r'ptune_step_texts_bucket\{le="1.0",work="write"\} (\S+)', page)
            total = re.findall(r'ptune_step_texts_count\{work="write"\} (\S+)', page)
            assert float(beside[0]) < float(total[0]), "no two texts were written side by side"
            assert 'ptune_tokens_total{kind="written"}' in page and "ptune_running_texts 0.0" in page

    run(work)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("t5", {}),
        ("llama", {"decode": {"beams": 3}}),
        ("llama", {"method": {"name": "p-tuning-v2", "num_tokens": 3, "gate": True}}),
        ("llama", {"decode": {"beams": 3, "returns": 2}}),
    ],
)
def test_tasks_that_cannot_share_write_by_themselves(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    task = writer(tmp_path, "alone", kind=kind, **settings)

    async def work() -> None:
        async with running(tmp_path, kind=kind) as (client, _):
            for text, got in zip(PROMPTS, await predict(client, "alone", inputs=list(PROMPTS)), strict=True):
                expected = task.predict([text])[0].to_dict()
                assert got.pop("log_probability") == pytest.approx(expected.pop("log_probability"), abs=1e-4)
                assert got == expected

    run(work)


def test_a_text_that_is_too_long_or_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    writer(tmp_path, "w")

    async def work() -> None:
        async with running(tmp_path, limits=Limits(new_tokens=60)) as (client, _):

            async def status(**body: Any) -> tuple[int, str]:
                answer = await client.post("/v1/completions", json={"model": "w", "prompt": "bad", **body})
                return answer.status_code, answer.json().get("error", {}).get("message", "")

            assert (await status(max_tokens=40))[0] == 200
            code, message = await status(prompt="The film was great , a good story", max_tokens=60)
            assert code == 400 and "64 positions" in message
            assert (await status(max_tokens=61))[0] == 400
            assert (await status(prompt=["bad"] * 65))[0] == 400
            assert (await status(prompt="bad"))[0] == 200

    run(work)


def test_samples_depend_on_the_seed_alone(tmp_path: Path) -> None:
    task = writer(tmp_path, "w", max_new_tokens=10)

    async def work() -> None:
        async with running(tmp_path) as (client, _):

            async def texts(**body: Any) -> list[str]:
                answer = await client.post(
                    "/v1/completions", json={"model": "w", "prompt": list(PROMPTS), "temperature": 1, **body}
                )
                return [one["text"] for one in answer.json()["choices"]]

            first, again, other = await asyncio.gather(texts(seed=1, n=2), texts(seed=1, n=2), texts(seed=2, n=2))
            assert first == again != other
            expected = task.predict(list(PROMPTS), temperature=1.0, seed=1, returns=2)
            assert first == [text for one in expected for text in (one.text, *one.alternatives)]
            assert await texts(seed=1, temperature=0, top_p=0.5) == [one.text for one in task.predict(list(PROMPTS))]
            repeated = await texts(temperature=0, n=2)
            assert repeated[::2] == repeated[1::2] == [one.text for one in task.predict(list(PROMPTS))]

    run(work)


def test_openai_client_writes_streams_and_talks(tmp_path: Path) -> None:
    task, chat = writer(tmp_path, "w", max_new_tokens=12), speaker(tmp_path, "chat")
    messages: Any = [
        {"role": "system", "content": "Be kind ."},
        {"role": "user", "content": "What a day !"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "bad"},
    ]
    with live(tmp_path) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        for text in PROMPTS:
            expected = task.predict([text])[0]
            whole = client.completions.create(model="w", prompt=text)
            assert whole.choices[0].text == expected.text
            assert whole.choices[0].finish_reason == {"end": "stop", "stop": "stop", "length": "length"}[expected.reason]
            assert whole.usage is not None and whole.usage.completion_tokens >= 1
            pieces = list(client.completions.create(model="w", prompt=text, stream=True))
            assert "".join(one.choices[0].text for one in pieces) == expected.text
            assert [one.choices[0].finish_reason for one in pieces if one.choices[0].finish_reason] == [
                whole.choices[0].finish_reason
            ]
        stopped = task.predict(["bad"], stop=("e",))[0]
        for streams in (False, True):
            done: Any = client.completions.create(model="w", prompt="bad", stop="e", stream=streams)
            text = "".join(one.choices[0].text for one in done) if streams else done.choices[0].text
            assert text == stopped.text and "e" not in text
        said = chat.predict([{"messages": messages}])[0].text
        assert client.chat.completions.create(model="chat", messages=messages).choices[0].message.content == said
        chunks = client.chat.completions.create(
            model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == said
        for name, prompts in (("chat", None), ("w", list(PROMPTS))):
            ask: Any = client.chat.completions.create if prompts is None else client.completions.create
            words: Any = {"model": name, **({"messages": messages} if prompts is None else {"prompt": prompts})}
            *_, last = ask(**words, stream=True, stream_options={"include_usage": True})
            assert last.usage == ask(**words).usage and last.usage.prompt_tokens > 4
        short = client.chat.completions.create(model="chat", messages=messages, max_completion_tokens=1)
        assert short.usage is not None and short.usage.completion_tokens == 1


def test_several_prompts_are_streamed_side_by_side(tmp_path: Path) -> None:
    task = writer(tmp_path, "w")
    with live(tmp_path) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        texts = [""] * len(PROMPTS)
        for one in client.completions.create(model="w", prompt=list(PROMPTS), stream=True):
            texts[one.choices[0].index] += one.choices[0].text
        assert texts == [one.text for one in task.predict(list(PROMPTS))]


def test_a_client_that_leaves_a_stream_stops_the_writing(tmp_path: Path) -> None:
    writer(tmp_path, "w", max_new_tokens=40)
    with live(tmp_path) as url:
        body = {"model": "w", "prompt": "bad", "stream": True, "max_tokens": 40}
        for _ in range(5):
            with httpx2.stream("POST", f"{url}/v1/completions", json=body) as answer:
                next(answer.iter_lines())
        end_of_wait = 100
        for _ in range(end_of_wait):
            page = httpx2.get(f"{url}/metrics").text
            if "ptune_running_texts 0.0" in page and 'ptune_queue_texts{work="write"} 0.0' in page:
                break
        else:
            raise AssertionError("texts are still written for clients that left")


def test_the_time_of_a_request_runs_out_in_the_middle_of_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer(tmp_path, "w", max_new_tokens=40)
    own = Flow.step
    monkeypatch.setattr(Flow, "step", lambda self, tokens: (time.sleep(0.05), own(self, tokens))[1])

    async def work() -> None:
        async with running(tmp_path, timeout=0.4) as (client, server):
            answer = await client.post("/v1/tasks/w/predict", json={"input": "The film was"})
            assert answer.status_code == 504
            stream = await client.post("/v1/completions", json={"model": "w", "prompt": "The film was", "stream": True})
            events = [line.removeprefix("data: ") for line in stream.text.splitlines() if line]
            assert json.loads(events[-1])["error"]["code"] == "deadline" and len(events) > 1
            await until(lambda: not server._works[1].num_running)

    run(work)


def test_a_fault_takes_no_other_text_along_once_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = writer(tmp_path, "w")
    own, faults = Flow.step, [RuntimeError("secret")]

    def failing(self: Flow, tokens: Any) -> Any:
        if faults:
            raise faults.pop()
        return own(self, tokens)

    monkeypatch.setattr(Flow, "step", failing)

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            first = await client.post("/v1/tasks/w/predict", json={"input": "The film was"})
            assert first.status_code == 500 and "secret" not in first.text
            assert (await predict(client, "w", input="The film was"))[0]["text"] == task.predict(["The film was"])[0].text

    run(work)


OTHERS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "multi-label": (
        {"template": "{text} Topic : {choice}{soft:2}{mask}", "labels": ["good", "bad"], "yes_no": ["great", "bad"]},
        list(TEXTS),
    ),
    "regression": ({"template": "{text}{soft:2} It was{mask}", "labels": {"1": "bad", "2": "great"}}, list(TEXTS)),
    "choice": (
        {"template": "{text}{soft:2} {choice}{mask}", "yes_no": ["great", "bad"]},
        [{"text": text, "choices": ["good", "bad", "The film"]} for text in TEXTS],
    ),
    "tagging": ({"labels": ["PER", "LOC"]}, [{"tokens": text.split()} for text in TEXTS]),
    "qa": ({}, [{"question": "What is good ?", "context": f"The food is good . {text}"} for text in TEXTS]),
}


def test_other_kinds_are_answered_by_their_own_predict(tmp_path: Path) -> None:
    """Several labels, numbers, choices, tags, spans: rows of one task together, and all kinds in one folder."""
    for name, (settings, _) in OTHERS.items():
        model = ptune.model.KINDS[name].build(backbone=tiny_backbone("llama"), **settings)
        Task(model.requires_grad_(False)).save(tmp_path / name)

    async def work() -> None:
        async with running(tmp_path) as (client, server):
            listed = {one["task"]: one for one in (await client.get("/v1/tasks")).json()["tasks"]}
            assert {name: (one["kind"], one["state"]) for name, one in listed.items()} == {
                name: (name, "resident") for name in OTHERS
            }
            answers = await asyncio.gather(*(predict(client, name, inputs=rows) for name, (_, rows) in OTHERS.items()))
            for (name, (_, rows)), got in zip(OTHERS.items(), answers, strict=True):
                held = server.registry.entry(name).version.task
                assert held is not None
                expected = json.loads(json.dumps([held.predict([row])[0].to_dict() for row in rows]))
                assert _same(got, expected), name
            wrong = await client.post("/v1/tasks/choice/predict", json={"input": {"text": "good"}})
            assert wrong.status_code == 400 and "choices" in wrong.json()["error"]["message"]
            said = await client.post(
                "/v1/completions", json={"model": "qa", "prompt": json.dumps(OTHERS["qa"][1][0], ensure_ascii=False)}
            )
            assert said.status_code == 200 and said.json()["choices"][0]["text"]

    run(work)


def _same(got: Any, expected: Any) -> bool:
    """Equal, numbers to five places."""
    if isinstance(expected, dict):
        return set(got) == set(expected) and all(_same(got[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(_same, got, expected))
    return bool(got == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected))


def test_conversations_of_too_many_messages_are_refused_however_they_come(tmp_path: Path) -> None:
    speaker(tmp_path, "chat")
    writer(tmp_path, "w")

    def talk(num: int) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[n % 2], "content": "bad"} for n in range(num)]

    async def work() -> None:
        async with running(tmp_path, limits=Limits(messages=5)) as (client, _):

            async def told(path: str, **body: Any) -> tuple[int, str]:
                answer = await client.post(path, json=body)
                return answer.status_code, answer.text

            def rows(num: int) -> list[Any]:
                pairs = [["bad", "good"]] * (num // 2)
                return [{"messages": talk(num)}, {"messages": json.dumps(talk(num))}, {"prompt": 3, "history": pairs}]

            for row in rows(5):
                assert (await told("/v1/tasks/chat/predict", input=row))[0] == 200
            for row in rows(7):
                status, text = await told("/v1/tasks/chat/predict", input=row)
                assert status == 400 and "7 messages, at most 5" in text
            assert (await told("/v1/chat/completions", model="chat", messages=talk(5)))[0] == 200
            for stream in (False, True):
                status, text = await told("/v1/chat/completions", model="chat", messages=talk(7), stream=stream)
                assert status == 400 and "7 messages, at most 5" in text
            deep = await told("/v1/tasks/chat/predict", input={"messages": "[" * 9000 + "]" * 9000})
            assert deep[0] == 400
            assert (await told("/v1/chat/completions", model="w", messages=talk(7)))[0] == 200  # reads the last one alone

    run(work)


def test_only_tasks_of_classification_abstain_when_they_are_told_to(tmp_path: Path) -> None:
    writer(tmp_path, "w")
    words: Any = {"backbone": tiny_backbone("llama"), "template": "{text} Topic : {choice}{soft:2}{mask}"}
    many = ptune.model.KINDS["multi-label"].build(**words, labels=["good", "bad"], yes_no=["great", "bad"])
    Task(many.requires_grad_(False)).save(tmp_path / "many")

    async def work() -> None:
        async with running(tmp_path) as (client, _):
            for name, kind in (("w", "generation"), ("many", "multi-label")):
                answer = await client.post(f"/v1/tasks/{name}/predict", json={"input": "bad", "min_probability": 0.5})
                assert answer.status_code == 400 and kind in answer.text
                assert answer.json()["error"]["param"] == "min_probability"

    run(work)
