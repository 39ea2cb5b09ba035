"""SPoT's similarity by its formula, and the nearest of several trained tasks."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.strategy import nearest_tasks, task_similarity
from tiny import tiny_backbone

ROWS = [{"text": text, "label": "good" if "good" in text else "bad"} for text in ("a good film", "good", "bad", "a bad film")]


def test_similarity_by_hand() -> None:
    first, second = [[1.0, 2.0], [3.0, -2.0]], [[0.5, 1.0], [2.5, 1.0], [0.0, 4.0]]

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    means = [[sum(column) / len(rows) for column in zip(*rows, strict=True)] for rows in (first, second)]
    one, two = torch.tensor(first), torch.tensor(second)
    assert task_similarity(one, two) == pytest.approx(cosine(*means))
    every = [cosine(a, b) for a in first for b in second]
    assert task_similarity(one, two, per_token=True) == pytest.approx(sum(every) / len(every))


def task(kind: str = "gpt2", **keys: Any) -> ptune.Task:
    words = {"train": ROWS, "template": "{text}{soft:3} It was{mask}", "labels": {"good": ["good"], "bad": ["bad"]}}
    return ptune.fit(**{**words, "backbone": tiny_backbone(kind), "steps": 2, "learning_rate": 1e-3, **keys})


def test_the_same_task_lies_nearest_and_others_backbones_are_left_out(tmp_path: Path) -> None:
    new = task(seed=1)
    folders = [
        task(seed=2).save(tmp_path / "other"),
        task(seed=1, steps=3).save(tmp_path / "same"),
        task("llama").save(tmp_path / "foreign"),
        task(method="hard", template="{text} It was{mask}", steps=None).save(tmp_path / "hard"),
    ]
    found = nearest_tasks(new, folders)
    assert [Path(one.path).name for one in found] == ["same", "other"]
    assert found[0].similarity > 0.99 > found[1].similarity and found[0].num_rows == 3
    started = task(seed=5, method={"name": "p-tuning", "init_bundle": found[0].path}, steps=1, learning_rate=1e-9)
    torch.testing.assert_close(
        started.model.prompt().rows, ptune.load(found[0].path, backbone=tiny_backbone("gpt2")).model.prompt().rows
    )


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    hard = task(method="hard", template="{text} It was{mask}", steps=None)
    with pytest.raises(PtuneError, match="no one prompt"):
        nearest_tasks(hard, [])
    with pytest.raises(PtuneError, match="no bundle"):
        nearest_tasks(task(), [hard.save(tmp_path / "hard")])
