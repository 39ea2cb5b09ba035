"""A mixture is training each task by itself, batch by batch, on one prompt; and that prompt serves tasks it never saw."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.model import Mixture, mix_rows
from ptune.recipe import Recipe, Splits, build_model, read_splits
from ptune.strategy import MixtureSettings, run_mixture
from tiny import tiny_backbone

FILMS = [
    {"text": f"The {what} was {word} .", "label": label}
    for what in ("film", "plot", "cast")
    for word, label in (("great", "yes"), ("bad", "no"))
]
PLACES = [
    {"text": f"{word} {what}", "label": label}
    for what in ("food", "service")
    for word, label in (("good", "up"), ("bad", "down"))
]
WORDS: dict[str, Any] = {
    "film": {
        "train": FILMS,
        "test": FILMS,
        "template": "{text}{soft:3} It was{mask}",
        "labels": {"yes": ["good"], "no": ["bad"]},
    },
    "place": {
        "train": PLACES,
        "test": PLACES,
        "template": "{text}{soft:3} The day was{mask}",
        "labels": {"up": ["great"], "down": ["bad"]},
    },
    "answer": {
        "task": "generation",
        "train": [{"text": "a film", "answer": "great"}, {"text": "the plot", "answer": "bad"}],
        "target": "answer",
        "max_new_tokens": 6,
        "template": "{text}{soft:3}{mask}",
    },
}


def recipe(name: str, kind: str = "gpt2", **changes: Any) -> Recipe:
    words = {**WORDS[name], "backbone": tiny_backbone(kind), "steps": 6, "learning_rate": 0.01, "seed": 3, **changes}
    return Recipe.of({key: value for key, value in words.items() if value is not None}, where="test")


def models(*recipes: Recipe) -> tuple[Mixture, list[Any]]:
    splits = [read_splits(one) for one in recipes]
    built = [build_model(one, one.backbone, Splits(two.train)) for one, two in zip(recipes, splits, strict=True)]
    return Mixture(built), [model.prepare(two.train) for model, two in zip(built, splits, strict=True)]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_the_loss_is_the_tasks_own_by_their_share_of_rows(kind: str) -> None:
    mixture, prepared = models(recipe("film", kind), recipe("place", kind), recipe("answer", kind))
    rows = mix_rows(prepared, limit=None, seed=1)
    assert len(rows) == 12
    index = [0, 7, 3, 11, 8, 10]  # two films, two places, two answers
    loss = mixture(mixture.batch(rows, index)).loss
    first, second, third = mixture.models
    losses = [
        first(first.batch(prepared[0], [0, 3])).loss,
        second(second.batch(prepared[1], [1, 2])).loss,
        third(third.batch(prepared[2], [1, 0])).loss,
    ]
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert all(model.prompt is first.prompt for model in mixture.models)
    rows_first = list(first.prompt.parameters())
    assert [group["params"] for group in mixture.parameter_groups()] == [rows_first]


def test_a_large_task_counts_as_so_many_rows() -> None:
    _, prepared = models(recipe("film"), recipe("place"))
    rows = mix_rows(prepared, limit=2, seed=1)
    assert [task for task, _ in rows.places] == [0, 0, 1, 1]
    assert rows.places != mix_rows(prepared, limit=2, seed=2).places


def test_the_prompt_learns_all_and_stands_in_every_bundle(tmp_path: Path) -> None:
    found = run_mixture(
        {"film": recipe("film", steps=40), "answer": recipe("answer")}, new={"place": recipe("place")}, out=tmp_path / "run"
    )
    assert found.facts["steps"] == 40
    assert set(found.facts["tasks"]) == {"film", "answer"} and set(found.facts["new"]) == {"place"}
    one = found.tasks["film"].model
    for name in ("film", "answer", "place"):
        task = ptune.load(tmp_path / "run" / "bundles" / name, backbone=tiny_backbone("gpt2"))
        torch.testing.assert_close(task.model.prompt().rows, one.prompt().rows)
    assert found.facts["tasks"]["film"]["mixed"] == found.tasks["film"].evaluate(FILMS).score
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == found.facts
    start = recipe(
        "place",
        method={"name": "p-tuning", "init_bundle": str(tmp_path / "run" / "bundles" / "film")},
        steps=1,
        learning_rate=1e-9,
    )
    further = ptune.fit(**{key: getattr(start, key) for key in start.model_fields_set})
    torch.testing.assert_close(further.model.prompt().rows, one.prompt().rows)


def test_a_new_task_is_calibrated_under_the_prompt_that_it_is_given() -> None:
    found = run_mixture({"film": recipe("film", steps=30), "answer": recipe("answer")}, new={"place": recipe("place")})
    model: Any = found.new["place"].model
    probabilities = torch.softmax(model.scores(model.prepare(read_splits(recipe("place")).train)), 1).mean(0)
    assert probabilities.max() < 0.51


def test_mixing_a_task_with_itself_is_training_it(tmp_path: Path) -> None:
    """With the rows twice in the list, all in one batch, each step sees the same gradient as the task alone."""
    keys: dict[str, Any] = {"batch_size": 32, "method": {"name": "p-tuning", "init": "vocabulary"}}
    alone = ptune.fit(
        **{**WORDS["film"], "backbone": tiny_backbone("gpt2"), "steps": 6, "learning_rate": 0.01, "seed": 3, **keys}
    )
    both = run_mixture({"one": recipe("film", **keys), "two": recipe("film", **keys)})
    torch.testing.assert_close(alone.model.prompt().rows, both.tasks["one"].model.prompt().rows, rtol=1e-4, atol=1e-6)


def test_the_model_learns_a_mixture_too() -> None:
    keys: dict[str, Any] = {
        "tune": "lm",
        "method": "hard",
        "template": "{text} It was{mask}",
        "steps": 3,
        "learning_rate": 1e-3,
    }
    backbone = tiny_backbone("gpt2")
    before = next(backbone.model.parameters()).clone()
    found = run_mixture({"one": recipe("film", **keys), "two": recipe("film", **keys)})
    assert torch.equal(before, next(backbone.model.parameters()))
    assert found.tasks["one"].model.backbone is found.tasks["two"].model.backbone
    assert not torch.equal(before, next(found.tasks["one"].model.backbone.model.parameters()))


@pytest.mark.parametrize(
    ("second", "changes", "says"),
    [
        ("place", {"template": "{text}{soft:2} It was{mask}"}, "groups of"),
        ("place", {"method": {"name": "p-tuning", "encoder": "mlp"}}, "one method"),
        ("place", {"tune": "lm"}, "another tune"),
        ("place", {"backbone": "smollm2-135m-q4"}, "another backbone"),
        ("place", {"candidates": 2, "keep_candidates": "ensemble"}, "candidates"),
    ],
)
def test_what_cannot_be_mixed_is_an_error(second: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PtuneError, match=says):
        run_mixture({"film": recipe("film"), "other": recipe(second, **changes)})


def test_all_read_the_same_numbers() -> None:
    one, two = (recipe(name, backbone="smollm2-135m-q4", dtype=dtype) for name, dtype in (("film", "fp32"), ("place", "bf16")))
    with pytest.raises(PtuneError, match="another dtype"):
        run_mixture({"film": one, "place": two})


def test_one_task_is_no_mixture(tmp_path: Path) -> None:
    with pytest.raises(PtuneError, match="two tasks"):
        run_mixture({"film": recipe("film")})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "kept.txt").write_text("mine")
    with pytest.raises(PtuneError, match="not empty"):
        run_mixture({"film": recipe("film"), "place": recipe("place")}, out=tmp_path / "run")
    with pytest.raises(PtuneError, match="both learned and new"):
        run_mixture({"film": recipe("film"), "place": recipe("place")}, new={"film": recipe("film")})
    assert MixtureSettings().limit is None


def test_a_fault_in_rows_names_its_recipe() -> None:
    with pytest.raises(PtuneError, match=r"^place: no row has the label 'down'"):
        run_mixture({"film": recipe("film"), "place": recipe("place", train=[row for row in PLACES if row["label"] == "up"])})
