"""The load script's parts on a tiny model: bad requests get 4xx and nothing else, its client reads what the server says."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))

from serve_bad import bad_request
from serve_client import Connection
from serve_load import latencies, statuses
from serve_tasks import MIX, build_tasks, row_of, texts
from table_serve import serve_lines

import ptune
from serving import live, save_task
from tiny import tiny_backbone

BAD = 420


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("bundles")
    save_task(root, "reviews")
    with live(root) as url:
        yield url


def test_bad_requests_are_refused_and_break_nothing(url: str) -> None:
    async def work() -> tuple[Counter[int], list[int]]:
        counts: Counter[int] = Counter()
        wrong = []
        connection = Connection(url)
        for number in range(BAD):
            answer = await connection.send(*bad_request(number, "reviews"))
            counts[answer.status] += 1
            if not 400 <= answer.status < 500:
                wrong.append(number)
        right = await connection.post("/v1/tasks/reviews/predict", {"input": "good"})
        connection.close()
        assert right.status == 200 and right.json["predictions"]
        return counts, wrong

    counts, wrong = asyncio.run(work())
    assert not wrong, [bad_request(number, "reviews")[:3] for number in wrong[:3]]
    assert {400, 404, 405, 413, 422} <= set(counts)


def test_the_client_reads_streams_and_broken_connections(url: str) -> None:
    async def work() -> None:
        connection = Connection(url)
        streamed = await connection.post("/v1/completions", {"model": "reviews", "prompt": "bad", "stream": True})
        assert streamed.status == 200 and streamed.body.endswith(b"data: [DONE]\n\n")
        again = await connection.send("GET", "/health")
        assert again.status == 200
        connection.close()
        nowhere = Connection("http://127.0.0.1:9")
        assert (await nowhere.post("/", {})).status == 0

    asyncio.run(work())


def test_bundles_of_a_mix_answer(tmp_path: Path) -> None:
    backbone = tiny_backbone("llama")
    names = build_tasks(tmp_path, backbone, {"classification": 2, "deep": 2})
    assert {kind: len(mine) for kind, mine in names.items()} == {"classification": 2, "deep": 2}
    for kind, mine in names.items():
        for name in mine:
            task = ptune.load(tmp_path / name, backbone=backbone)
            assert sum(task.predict([row_of(kind, "It broke.")])[0].probabilities.values()) == pytest.approx(1)
    assert sum(MIX.values()) == 100
    assert texts(5, 1) == texts(5, 1) != texts(5, 2)


def test_tables_come_from_a_result(tmp_path: Path) -> None:
    import json

    side = {"p50": 0.1, "p95": 0.2, "p99": 0.3, "requests": 3, "statuses": {"200": 2, "500": 1}}
    result = {
        "command": "python bench/serve_load.py",
        "options": {"backbone": "m", "connections": 2, "seconds": 3.0, "threads": 1},
        "tasks": {"classification": 4},
        "machine": {"cores": 2, "cpu": "c"},
        "commit": "abc",
        "figures": {
            "spread": {
                "classification": {
                    "tasks": 4,
                    "per_second": {"one": 10.0, "spread": 9.0},
                    "rate_of_one": 0.9,
                    "one": side,
                    "spread": side,
                }
            },
            "overload": {"arrivals_per_second": 20.0, **side},
            "differences": {"compared": 3, "largest_of_a_probability": 1e-7, "other_answers_not_equal": 0},
            "memory_growth": 0.01,
            "bad": {"requests": 10, "statuses": {"400": 10}, "rss_mb": [1, 2]},
        },
    }
    assert serve_lines(tmp_path) == []
    (tmp_path / "load.json").write_text(json.dumps(result))
    page = "\n".join(serve_lines(tmp_path))
    assert "| classification | 4 | 10.0 | 9.0 | 0.9 | 0.1 | 0.3 | 2 |" in page
    assert "| overload | 20.0 | 2 | 0 | 1 | 0.1 | 0.2 | 0.3 |" in page and "10 x 400" in page


def test_latencies_and_statuses() -> None:
    from serve_client import Answer

    answers = [Answer(200, b"", number / 100, {}) for number in range(1, 102)]
    assert latencies(answers) == {"p50": 0.51, "p95": 0.96, "p99": 1.0}
    assert latencies(answers[:1]) == {}
    assert statuses([(None, one) for one in answers]) == {"requests": 101, "statuses": {"200": 101}}  # type: ignore[list-item]
