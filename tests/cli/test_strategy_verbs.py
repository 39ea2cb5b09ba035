"""`ptune adapt` and `ptune mix`, as a user runs them."""

import json
from pathlib import Path

import pytest

from command_line import RECIPE, Run


def test_adapt_writes_a_backbone_that_a_recipe_takes(desk: Path, ptune: Run) -> None:
    ran = ptune("adapt", "data/train.jsonl", "--backbone", "model", "--out", "runs/read", "--steps", 4, "--max-length", 24)
    assert ran.code == 0, ran.err
    assert "perplexity" in ran.out and "runs/read/model" in ran.out
    tuned = ptune("train", "recipe.yaml", "--set", "backbone=runs/read/model", "--set", "steps=2", "--out", "runs/tuned")
    assert tuned.code == 0, tuned.err
    again = ptune("adapt", "data/train.jsonl", "--backbone", "model", "--out", "runs/read")
    assert again.code == 2 and "not empty" in again.err


def test_adapt_json(desk: Path, ptune: Run) -> None:
    ran = ptune("adapt", "data/train.jsonl", "--backbone", "model", "--out", "read", "--steps", 2, "--quiet", "--json")
    facts = json.loads(ran.out)
    assert facts["steps"] == 2 and facts["model"] == "read/model" and not ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("adapt", "nowhere.jsonl", "--backbone", "model", "--out", "x"), "nowhere.jsonl"),
        (("adapt", "data/train.jsonl", "--backbone", "model", "--out", "x", "--column", "body"), "body"),
        (("adapt", "data/train.jsonl", "--backbone", "model", "--out", "x", "--hold-out", "0.9"), "adapt.hold_out"),
        (("mix", "recipe.yaml", "--out", "x"), "two tasks"),
        (("mix", "recipe.yaml", "recipe.yaml", "--out", "x"), "the same name"),
        (("mix", "recipe.yaml", "other.yaml", "--out", "x", "--new", "none.yaml"), "none.yaml"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words: tuple[str, ...], says: str, desk: Path, ptune: Run) -> None:
    (desk / "other.yaml").write_text(RECIPE, encoding="utf-8")
    ran = ptune(*words)
    assert ran.code == 2 and says in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (desk / "x").exists()


def test_mix_learns_two_and_tries_a_third(desk: Path, ptune: Run) -> None:
    for name in ("other", "third"):
        (desk / f"{name}.yaml").write_text(RECIPE, encoding="utf-8")
    words = ("mix", "recipe.yaml", "other.yaml", "--new", "third.yaml", "--set", "steps=3", "--out", "runs/mixed")
    ran = ptune(*words)
    assert ran.code == 0, ran.err
    lines = ran.out.strip().splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in ("recipe", "other", "third")] == [
        "recipe",
        "other",
        "third",
    ]
    predicted = ptune("predict", "runs/mixed/bundles/third", "a good film")
    assert predicted.code == 0, predicted.err
    told = ptune(*words[:-1], "runs/again", "--json", "--quiet")
    assert set(json.loads(told.out)["new"]) == {"third"}
