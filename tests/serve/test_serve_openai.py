"""OpenAI's own client, unchanged: lists models, completes, chats, streams; and what it is told when something is wrong."""

from collections.abc import Iterator

import openai
import pytest

from ptune.task import Task
from serving import TEXTS, WORDS, live, save_task


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[openai.OpenAI, dict[str, Task]]]:
    root = tmp_path_factory.mktemp("bundles")
    tasks = {
        "reviews": save_task(root, "reviews"),
        "pairs": save_task(root, "pairs", template="{text} ? {other}{soft:2}{mask}"),
    }
    with live(root) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client, tasks


def word(task: Task, text: str) -> str:
    return str(WORDS[task.predict([text])[0].label])


def test_models(tasks: tuple[openai.OpenAI, dict[str, Task]]) -> None:
    client, _ = tasks
    models = list(client.models.list())
    assert [one.id for one in models] == ["pairs", "reviews"]
    assert all(one.object == "model" and one.owned_by == "ptune" for one in models)
    assert client.models.retrieve("reviews").model_dump()["parent"] == "tiny-llama"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none")


@pytest.mark.parametrize("model", ["reviews", "tiny-llama:reviews"])
def test_completions_say_the_label_word(tasks: tuple[openai.OpenAI, dict[str, Task]], model: str) -> None:
    client, known = tasks
    done = client.completions.create(model=model, prompt=TEXTS, max_tokens=5, temperature=0, n=2)
    assert [one.text for one in done.choices] == [word(known["reviews"], text) for text in TEXTS for _ in range(2)]
    assert [one.index for one in done.choices] == list(range(2 * len(TEXTS)))
    assert {one.finish_reason for one in done.choices} == {"stop"}
    assert done.usage is not None and done.usage.prompt_tokens > len(TEXTS) and done.usage.completion_tokens == 2 * len(TEXTS)


def test_chat(tasks: tuple[openai.OpenAI, dict[str, Task]]) -> None:
    client, known = tasks
    for text in TEXTS:
        done = client.chat.completions.create(
            model="reviews", messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        )
        assert done.choices[0].message.content == word(known["reviews"], text)
        assert done.choices[0].message.role == "assistant"


def test_parts_of_a_message_are_joined(tasks: tuple[openai.OpenAI, dict[str, Task]]) -> None:
    client, known = tasks
    parts = [{"type": "text", "text": "The film "}, {"type": "text", "text": "was great"}]
    done = client.chat.completions.create(model="reviews", messages=[{"role": "user", "content": parts}])  # type: ignore[list-item,misc]
    assert done.choices[0].message.content == word(known["reviews"], "The film was great")


def test_streams(tasks: tuple[openai.OpenAI, dict[str, Task]]) -> None:
    client, known = tasks
    expected = word(known["reviews"], "bad")
    pieces = list(client.completions.create(model="reviews", prompt="bad", stream=True))
    assert "".join(one.choices[0].text for one in pieces) == expected
    assert pieces[-1].choices[0].finish_reason == "stop"
    chunks = list(
        client.chat.completions.create(
            model="reviews",
            messages=[{"role": "user", "content": "bad"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == expected
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 1 and not chunks[-1].choices
    assert len({one.id for one in chunks}) == 1


def test_a_task_with_several_fields_takes_them_as_json(tasks: tuple[openai.OpenAI, dict[str, Task]]) -> None:
    client, known = tasks
    row = '{"text": "good", "other": "bad"}'
    expected = WORDS[known["pairs"].predict([{"text": "good", "other": "bad"}])[0].label]
    assert client.completions.create(model="pairs", prompt=row).choices[0].text == expected
    with pytest.raises(openai.BadRequestError, match="JSON object"):
        client.completions.create(model="pairs", prompt="good")


@pytest.mark.parametrize(
    "extra",
    [{"logprobs": 3}, {"echo": True}, {"suffix": "x"}, {"best_of": 2}, {"n": 5}, {"max_tokens": 100_000}, {"stop": [""]}],
)
def test_what_is_not_supported_or_too_much_is_said(
    tasks: tuple[openai.OpenAI, dict[str, Task]], extra: dict[str, object]
) -> None:
    client, _ = tasks
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="reviews", prompt="good", **extra)  # type: ignore[call-overload]
    assert refused.value.param == next(iter(extra))


def test_an_unknown_task_an_empty_and_a_foreign_message(tasks: tuple[openai.OpenAI, dict[str, Task]]) -> None:
    client, _ = tasks
    with pytest.raises(openai.NotFoundError, match="no task"):
        client.completions.create(model="none", prompt="good")
    with pytest.raises(openai.NotFoundError, match="no task"):
        list(client.completions.create(model="none", prompt="good", stream=True))
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="reviews", messages=[])
    with pytest.raises(openai.BadRequestError, match="user"):
        client.chat.completions.create(model="reviews", messages=[{"role": "system", "content": "x"}])
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(openai.BadRequestError, match="type text"):
        client.chat.completions.create(model="reviews", messages=[{"role": "user", "content": picture}])  # type: ignore[list-item,misc]
