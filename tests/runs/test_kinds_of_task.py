"""Every kind of task that scores texts with every method of learning in each layer: trained, saved, loaded, equal."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.model import KINDS, TaskPrediction, task_class
from ptune.objective import TaskReport
from ptune.recipe import Recipe, check_recipe
from tiny import tiny_backbone

NAMES = ["film", "food"]
ROWS = [
    {
        "text": f"The {NAMES[at % 2]} {at} was # .",
        "choices": ["great", "terrible", "a bad day"][: 2 + at % 2],
        "answer": at % 2,
        "label": "great" if at % 2 else "bad",
        "stars": 1 + at % 3,
        "topics": [NAMES[at % 2]],
    }
    for at in range(8)
]
WAYS: dict[str, dict[str, Any]] = {
    "classification": {"task": "classification", "template": "{text} It was{mask}", "labels": {"great": "great", "bad": "bad"}},
    "choice": {"task": "choice", "template": "{text} It was{mask}"},
    "choice-gap": {"task": "choice", "template": "{text}", "gap": "#"},
    "choice-head": {"task": "choice", "template": "{text} {choice}", "head": "linear"},
    "choice-model-head": {"task": "choice", "template": "{text} {choice}", "head": "model"},
    "choice-words": {"task": "choice", "template": "{text} {choice}{mask}", "yes_no": ["good", "bad"]},
    "entailment": {
        "task": "entailment",
        "template": "{text} {choice}{mask}",
        "yes_no": ["good", "bad"],
        "labels": {"great": "a good film", "bad": "bad food"},
        "negatives": 1,
    },
    "multi-label": {"task": "multi-label", "template": "{text}", "head": "linear", "labels": NAMES, "label": "topics"},
    "multi-label-words": {
        "task": "multi-label",
        "template": "{text} {choice}{mask}",
        "yes_no": ["good", "bad"],
        "labels": NAMES,
        "label": "topics",
    },
    "regression": {
        "task": "regression",
        "template": "{text} It was{mask}",
        "labels": {1: "bad", 2: "good", 3: "great"},
        "label": "stars",
    },
    "regression-head": {"task": "regression", "template": "{text}", "head": "linear", "label": "stars"},
    "cloze": {"task": "cloze", "template": "{text}", "gap": "#"},
}
METHODS: dict[str, Any] = {
    "prompt-tuning": {"name": "prompt-tuning", "num_tokens": 3},
    "prefix-tuning": {"name": "prefix-tuning", "num_tokens": 3},
    "p-tuning-v2": {"name": "p-tuning-v2", "num_tokens": 3},
    "behind": {"name": "p-tuning-v2", "num_tokens": 3, "placement": "behind"},
}


NO_MODEL_HEAD = ("t5",)
"""Kinds of backbone whose own head is of a form that ptune does not know."""
PAIRS = [(kind, method) for kind in ("bert", "llama", "t5") for method in METHODS if kind == "llama" or method != "behind"]
"""Only a causal model has anything behind the text."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "method"), PAIRS)
def test_trained_saved_and_loaded(kind: str, way: str, method: str, tmp_path: Path) -> None:
    words = {**WAYS[way], "method": METHODS[method], "backbone": tiny_backbone(kind), "steps": 3, "hold_out": 2}
    if words.get("head") == "model" and kind in NO_MODEL_HEAD:
        with pytest.raises(ptune.PtuneError, match="head"):
            ptune.fit(train=ROWS, **words)
        return
    task = ptune.fit(train=ROWS, test=ROWS, **words)
    prompt = [
        parameter for group in task.model.parameter_groups() if group["name"] == "prompt" for parameter in group["params"]
    ]
    assert prompt and task.model.base_fingerprint == tiny_backbone(kind).fingerprint
    assert isinstance(task.model.judge(ptune.read_examples(ROWS)), TaskReport)
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    one, other = task.predict(ROWS), loaded.predict(ROWS)
    assert all(isinstance(prediction, TaskPrediction) for prediction in one) and len(one) == len(ROWS)
    assert [prediction.to_dict() for prediction in one] == [prediction.to_dict() for prediction in other]


@pytest.mark.parametrize("way", WAYS)
def test_the_prompt_learns_in_every_kind(way: str) -> None:
    """One step moves the prompt itself, not only a head."""
    backbone = tiny_backbone("bert")
    task = ptune.fit(train=ROWS, **WAYS[way], method=METHODS["p-tuning-v2"], backbone=backbone, steps=1, seed=3)
    again = ptune.fit(train=ROWS, **WAYS[way], method=METHODS["p-tuning-v2"], backbone=backbone, steps=2, seed=3)
    ours, theirs = task.model.prompt().prefixes, again.model.prompt().prefixes
    assert ours.keys() == theirs.keys() and ours
    assert all(not torch.equal(ours[place].stacked(), theirs[place].stacked()) for place in ours)


@pytest.mark.parametrize("way", WAYS)
def test_the_template_check_shows_rows_of_every_kind(way: str) -> None:
    words = {"train": ROWS, "backbone": tiny_backbone("llama"), "method": "hard", **WAYS[way]}
    checked = check_recipe(Recipe.of(words), num_rows=2)
    assert checked.num_errors == 0 and len(checked.rows) == 2 and all(row.label for row in checked.rows)
    answers = [piece for row in checked.rows for piece in row.pieces if piece.source == "answer"]
    assert len(answers) == (0 if "head" in WAYS[way] else 2)
    assert bool(checked.words) == (way in ("classification", "regression"))


def test_kinds_are_named_once() -> None:
    assert {name: kind.kind for name, kind in KINDS.items()} == {name: name for name in KINDS}
    assert {WAYS[way]["task"] for way in WAYS} <= set(KINDS)
    with pytest.raises(ptune.PtuneError, match=r"no kind of task 'clasification'.*did you mean 'classification'"):
        task_class("clasification")
