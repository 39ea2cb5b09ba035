"""Bad requests of every sort, by number: broken JSON, wrong types, absurd sizes, foreign paths, odd bytes.

In: a number. Out: method, path, body, headers. Each is one that a right server answers with 4xx. The same number gives the same
request. Used by the load script (10,000) and by the tests (a few hundred).
"""

import json
import random
from typing import Any

__all__ = ["bad_request"]

Request = tuple[str, str, bytes, dict[str, str]]

_JSON = {"content-type": "application/json"}
_PREDICT, _COMPLETE, _CHAT = "/v1/tasks/{}/predict", "/v1/completions", "/v1/chat/completions"
_NAMES = [
    "..",
    "../..",
    "%2e%2e%2f",
    "a/b",
    "none",
    "x" * 300,
    "%00",
    "a%0d%0ab: c",
    "~root",
    "C:%5C",
    "%E4%B8",
    "-",
    "a b".replace(" ", "%20"),
]
_PATHS = [
    "/",
    "/v1",
    "/v2/models",
    "/admin/tasks",
    "/.git/config",
    "/v1/tasks//predict",
    "/%2e%2e/etc/passwd",
    "/v1/models/none",
]
_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    "",
    [],
    {},
    [[]],
    {"a": {}},
    "x",
    2**63,
    2**200,
    -0.0,
    [None],
    "\u0000",
    ["a", 1],
]


def bad_request(number: int, task: str) -> Request:
    """The request of that number.

    Args:
        number: draws it.
        task: one that is served and reads one text, so that what is wrong is not its name.
    """
    chance = random.Random(number)
    return chance.choice(_SORTS)(chance, task)


def _broken_json(chance: random.Random, task: str) -> Request:
    whole = json.dumps({"input": "good", "timeout": 5}).encode()
    cut = whole[: chance.randint(0, len(whole) - 1)]
    noise = bytes(chance.randrange(256) for _ in range(chance.randint(1, 40)))
    body = chance.choice(
        [cut, noise, b"[" * chance.choice([10, 10_000]), b'{"a":' * 5000, b"NaN", b"\xff\xfe" + whole, whole + b"}"]
    )
    return "POST", _PREDICT.format(task), body, _JSON


def _wrong_type(chance: random.Random, task: str) -> Request:
    body: dict[str, Any] = {"input": chance.choice([3, True, [], [1], {}, {"wrong": "x"}, {"text": None}])}
    return "POST", _PREDICT.format(task), _bytes(body), _JSON


def _wrong_key(chance: random.Random, task: str) -> Request:
    key = chance.choice(["inputt", "texts", "", "input ", "__class__", "\u202e", "a" * 1000])
    return "POST", _PREDICT.format(task), _bytes({"input": "good", key: chance.choice(_VALUES)}), _JSON


def _wrong_bound(chance: random.Random, task: str) -> Request:
    extra = chance.choice(
        [
            {"timeout": chance.choice([0, -1, 1e300, "x", [], True, 1e-9])},
            {"min_probability": chance.choice([-0.1, 1.1, "a", {}, 1e300])},
            {"inputs": ["a"]},
        ]
    )
    return "POST", _PREDICT.format(task), _bytes({"input": "good", **extra}), _JSON


def _not_finite(chance: random.Random, task: str) -> Request:
    value = chance.choice(["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
    return "POST", _PREDICT.format(task), f'{{"input": "good", "min_probability": {value}}}'.encode(), _JSON


def _too_much(chance: random.Random, task: str) -> Request:
    body = chance.choice(
        [
            {"input": "a" * chance.choice([20_001, 100_000])},
            {"inputs": ["a"] * chance.choice([65, 5000])},
            {"input": "a" * 1_100_000},
            {"input": {"text": "a" * 15_000, "more": "b" * 15_000}},
            {"inputs": []},
        ]
    )
    return "POST", _PREDICT.format(task), _bytes(body), _JSON


def _half_characters(chance: random.Random, task: str) -> Request:
    text = chance.choice(["\\ud800", "\\udfff", "a\\ud83d", "\\ude00\\ud83d"])
    body = chance.choice([f'{{"input": "{text}"}}', f'{{"inputs": ["good", "{text}"]}}', f'{{"input": {{"text": "{text}"}}}}'])
    return "POST", _PREDICT.format(task), body.encode(), _JSON


def _wrong_name(chance: random.Random, task: str) -> Request:
    return "POST", _PREDICT.format(chance.choice(_NAMES)), _bytes({"input": "good"}), _JSON


def _wrong_path(chance: random.Random, task: str) -> Request:
    return chance.choice(["GET", "POST", "DELETE", "PUT", "BREW"]), chance.choice(_PATHS), b"", {}


def _wrong_method(chance: random.Random, task: str) -> Request:
    return chance.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]), _PREDICT.format(task), b"", {}


def _wrong_content(chance: random.Random, task: str) -> Request:
    kind = chance.choice(
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", ""]
    )
    return "POST", _PREDICT.format(task), _bytes({"input": "good"}), {"content-type": kind} if kind else {}


def _wrong_openai(chance: random.Random, task: str) -> Request:
    right: dict[str, Any] = {"model": task, "prompt": "good"}
    if chance.random() < 0.5:
        right = {"model": task, "messages": [{"role": "user", "content": "good"}]}
    wrong: dict[str, list[Any]] = {
        "n": [0, -1, 10**9, "x", 5],
        "max_tokens": [0, -1, 10**9, "x"],
        "temperature": [-1, 3, "x", []],
        "top_p": [0, 2, -1],
        "stop": [["a"] * 9, "", "x" * 1000, [1]],
        "model": ["none", "", 3, None, "../x", "x" * 10_000],
        "logprobs": [7, True],
        "seed": [2**70, "x", 1.5],
    }
    name = chance.choice(sorted(wrong))
    right[name] = chance.choice(wrong[name])
    if name == "logprobs" and "messages" in right:
        right[name] = True
    return "POST", _CHAT if "messages" in right else _COMPLETE, _bytes(right), _JSON


def _wrong_messages(chance: random.Random, task: str) -> Request:
    messages = chance.choice(
        [
            [],
            [{}],
            [{"role": "user"}],
            [{"role": "wizard", "content": "x"}],
            [{"role": "user", "content": 3}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
            [{"role": "user", "content": [{"type": "text"}]}],
            [{"role": "assistant", "content": "x"}],
            "good",
            [{"role": "user", "content": "a" * 30_000}],
        ]
    )
    return "POST", _CHAT, _bytes({"model": task, "messages": messages}), _JSON


def _wrong_prompt(chance: random.Random, task: str) -> Request:
    prompt = chance.choice([[], [1, 2, 3], [[1]], 3, None, {}, ["a", 1], ["a"] * 65, "a" * 30_000])
    return "POST", _COMPLETE, _bytes({"model": task, "prompt": prompt}), _JSON


_SORTS = [
    _broken_json,
    _wrong_type,
    _wrong_key,
    _wrong_bound,
    _not_finite,
    _too_much,
    _half_characters,
    _wrong_name,
    _wrong_path,
    _wrong_method,
    _wrong_content,
    _wrong_openai,
    _wrong_messages,
    _wrong_prompt,
]


def _bytes(body: Any) -> bytes:
    return json.dumps(body).encode("utf-8", "surrogatepass")
