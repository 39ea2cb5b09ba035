"""The losses before and after training are those of at most 128 rows, spread over all: more would take as long as training."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ptune
from ptune.inputs import Encoded
from ptune.model import Prepared, TaskModel
from ptune.recipe import run
from tiny import tiny_backbone

TEXT = "The film was great , a good story and a good cast ."
ANSWERS = {"text": ["The film"], "answer_start": [0]}
WAYS: dict[str, dict[str, Any]] = {
    "words": {
        "rows": [{"text": TEXT, "label": "good"}, {"text": "It was bad", "label": "bad"}],
        "labels": {"good": ["good"], "bad": ["bad"]},
        "template": "{text}{soft:2} It was{mask}",
    },
    "generation": {
        "rows": [{"input": "The film was", "target": "great"}, {"input": "The food", "target": "It was bad ."}],
        "task": "generation",
        "max_new_tokens": 8,
        "template": "{input}{soft:2}{mask}",
    },
    "tagging": {
        "rows": [{"tokens": ["The", "film"], "tags": ["O", "B-X"]}, {"tokens": ["It", "was", "bad"], "tags": ["O", "O", "O"]}],
        "task": "tagging",
        "method": {"name": "p-tuning-v2", "num_tokens": 2},
    },
    "qa": {
        "rows": [{"context": TEXT, "question": question, "answers": ANSWERS} for question in ("What was great ?", "What")],
        "task": "qa",
        "method": {"name": "p-tuning-v2", "num_tokens": 2},
    },
    "choice": {
        "rows": [{"text": text, "choices": ["great", "bad"], "answer": at} for at, text in enumerate((TEXT, "The food"))],
        "task": "choice",
        "template": "{text}{soft:2} It was{mask}",
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_many_copies_of_rows_have_their_loss(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    for kind in all_kinds(TaskModel):
        if "mean_loss" in vars(kind):
            monkeypatch.setattr(kind, "mean_loss", counted(vars(kind)["mean_loss"], seen))
    few, many = (fitted(way, copies) for copies in (2, 80))
    assert few == pytest.approx(many, rel=1e-4)
    assert seen[0] == seen[1] == 4 and seen[2] == seen[3] == 128


def fitted(way: str, copies: int) -> float:
    keys = dict(WAYS[way])
    train = [row for row in keys.pop("rows") for _ in range(copies)]
    task = ptune.fit(**keys, train=train, backbone=tiny_backbone("gpt2"), steps=1, batch_size=2, prior="keep")
    return float(task.facts["training"]["first_loss"])


def all_kinds(kind: type[Any]) -> set[type[Any]]:
    below: list[type[Any]] = kind.__subclasses__()
    return {kind, *(deeper for one in below for deeper in all_kinds(one))}


def counted(plain: Any, seen: list[int]) -> Any:
    def mean_loss(self: TaskModel, rows: Prepared) -> float:
        seen.append(len(rows))
        return float(plain(self, rows))

    return mean_loss


@pytest.mark.parametrize("way", WAYS)
def test_without_figures_the_same_is_learned(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = dict(WAYS[way])
    rows = keys.pop("rows")
    keys |= {"train": rows, "validation": rows, "backbone": tiny_backbone("gpt2"), "steps": 3, "batch_size": 2}
    full = ptune.fit(**keys)
    for kind in all_kinds(TaskModel):
        if "zero_shot" in vars(kind):
            monkeypatch.setattr(kind, "zero_shot", lambda *_, **__: pytest.fail("a figure was taken"))
    bare = run(ptune.Recipe.of(keys), measures=False)
    monkeypatch.undo()
    assert "tuned" not in bare.facts and bare.facts["judged_on"] is None and "first_loss" not in bare.facts["training"]
    assert bare.facts["training"]["best_step"] == full.facts["training"]["best_step"]
    pairs = zip(full.model.parameters(), bare.model.parameters(), strict=True)
    assert all(bool((one == other).all()) for one, other in pairs)


@given(st.integers(0, 400), st.integers(1, 120))
def test_rows_are_spread_evenly(number: int, most: int) -> None:
    numbers = tuple(range(number))
    chosen = Prepared((Encoded((), (), (), None),) * number, labels=numbers).at_most(most)
    assert len(chosen) == len(chosen.labels) == min(number, most)
    gaps = {after - before for before, after in pairwise(chosen.labels)}
    assert max(gaps, default=1) - min(gaps, default=1) <= 1
    assert chosen.labels[:1] == numbers[:1]
