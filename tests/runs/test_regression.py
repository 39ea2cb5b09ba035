"""A number for each text: levels and expected values, numbers without levels, learning, files, the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ptune
from ptune.cli import main
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.model.regression_model import RegressionModel
from tiny import EXAMPLES, tiny_backbone

KINDS = ["bert", "gpt2", "t5"]
SCALE = {1: ["terrible"], 2: ["bad"], 3: ["good"], 4: ["great"]}
WAYS: dict[str, dict[str, Any]] = {
    "words": {"template": "{text}{soft:3} It was{mask}", "labels": SCALE},
    "words-squared": {"template": "{text}{soft:3} It was{mask}", "labels": SCALE, "loss": "squared"},
    "levels": {"template": "{text}{soft:3}", "labels": [1, 2, 3, 4], "head": "linear"},
    "number": {"template": "{text}{soft:3}", "head": "linear"},
}
TEXTS = ("It was terrible", "It was bad", "It was good", "It was great")


def rows(number: int = 12, spread: float = 1.0) -> list[dict[str, Any]]:
    return [{"text": f"{TEXTS[at % 4]} {at}", "label": 1 + spread * (at % 4)} for at in range(number)]


def words(way: str, kind: str, **more: Any) -> dict[str, Any]:
    spread = 30.0 if way == "number" else 1.0
    given = {"task": "regression", "train": rows(spread=spread), "test": rows(spread=spread), "backbone": tiny_backbone(kind)}
    return {**given, "steps": 3, **WAYS[way], **more}


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "gemma3", "t5", "bart"])
@pytest.mark.parametrize("way", ["words", "levels"])
def test_the_number_is_the_expected_value_of_classification(kind: str, way: str) -> None:
    pool = None if way == "words" else "last"
    settings: dict[str, Any] = {
        "backbone": tiny_backbone(kind),
        "template": WAYS[way]["template"],
        "labels": {str(level): texts for level, texts in SCALE.items()} if pool is None else ["1", "2", "3", "4"],
        "method": {"name": "p-tuning", "init": "random"},
        "pool": pool,
        "seed": 4,
    }
    ours, classes = RegressionModel.build(**settings), ptune.PromptModel.build(**settings)
    texts = [Example(example.fields) for example in EXAMPLES]
    for one, other in zip(ours.predict(texts), classes.predict(texts), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.value == pytest.approx(sum(int(name) * p for name, p in other.probabilities.items()), abs=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_learned(kind: str, way: str) -> None:
    task = ptune.fit(**words(way, kind, steps=40, learning_rate=0.1))
    training = task.facts["training"]
    assert training["last_loss"] < 0.9 * training["first_loss"]
    assert task.facts["tuned"]["metric"] == "spearman" and ("zero_shot" in task.facts) == way.startswith("words")
    assert (task.facts["tuned"]["within_one"] is None) == (way == "number")


def test_a_head_learns_numbers_of_any_size() -> None:
    task = ptune.fit(**words("number", "gpt2", steps=120, learning_rate=0.2))
    assert (task.model.centre, task.model.scale) == pytest.approx((46.0, 33.541), abs=1e-3)
    assert task.facts["tuned"]["mae"] < 12 and task.facts["tuned"]["score"] > 0.8
    first = task.facts["training"]["first_loss"]
    assert first == pytest.approx(1.0, abs=0.4), "in units of the numbers' deviation, an untrained head says the mean"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_predictions_are_equal(kind: str, way: str, tmp_path: Path) -> None:
    task = ptune.fit(**words(way, kind, hold_out=4))
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    assert task.predict(TEXTS) == loaded.predict(TEXTS)
    assert task.evaluate(rows()).to_dict() == loaded.evaluate(rows()).to_dict()


@pytest.mark.parametrize("keep", ["best", "ensemble"])
def test_candidates_side_by_side(keep: str, tmp_path: Path) -> None:
    more = {"candidates": 3, "keep_candidates": keep, **({"hold_out": 4} if keep == "best" else {})}
    task = ptune.fit(**words("words", "llama", **more))
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone("llama"))
    assert task.predict(TEXTS) == loaded.predict(TEXTS)


def test_numbers_between_levels() -> None:
    halves = [{"text": text, "label": 1.5 + number} for number, text in enumerate(TEXTS[:3])]
    task = ptune.fit(**words("words", "gpt2", train=halves, test=halves))
    assert task.facts["tuned"]["accuracy"] is None and task.facts["tuned"]["mae"] > 0
    model = task.model
    prepared = model.prepare(ptune.read_examples(halves, label=None))
    log = torch.log_softmax(model.scores(prepared), 1)
    by_hand = -sum((log[i, i] + log[i, i + 1]) / 2 for i in range(3)) / 3
    assert model.mean_loss(prepared) == pytest.approx(by_hand.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("way", "change", "message"),
    [
        ("words", {"train": [{"text": "a", "label": "much"}]}, "row 1.*'much' is no number"),
        ("words", {"train": [{"text": "a", "label": 5}]}, "row 1.*5 lies outside of the labels, 1 to 4"),
        ("words", {"train": [{"text": "a"}]}, "'label' is missing"),
        ("words", {"labels": {"good": ["good"], "bad": ["bad"]}}, "'good' is no number"),
        ("words", {"labels": None}, "label words are missing"),
        ("number", {"loss": "cross-entropy"}, "cross-entropy needs levels"),
        ("words", {"class_weights": "balanced"}, "class_weights is for task"),
    ],
)
def test_mistakes_are_named(way: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PtuneError, match=message):
        ptune.fit(**words(way, "gpt2", **change))


def test_rows_without_a_number_can_be_predicted_but_not_judged() -> None:
    task = ptune.fit(**words("words", "gpt2"))
    assert 1 <= task.predict(["a day"])[0].value <= 4
    with pytest.raises(PtuneError, match="no 'label'"):
        task.judge([Example({"text": "a"})])


def test_the_command_line_shows_numbers(
    tmp_path: Path, tiny_folder: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,stars\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows()))
    recipe = {"task": "regression", "train": "rows.csv", "test": "rows.csv", "label": "stars", "steps": 2}
    recipe |= {"backbone": tiny_folder("gpt2"), "hold_out": 4}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **WAYS["words"]}), encoding="utf-8")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    shown = run("train", "recipe.yaml", "--out", "run", "--quiet")
    assert "judged on           test, 12 rows (spearman)" in shown and "prior corrected" in shown
    assert "Spearman" in run("evaluate", "run/bundle", "rows.csv")
    value, text = run("predict", "run/bundle", "It was good").strip().split("  ")
    assert 1 <= float(value) <= 4 and text == "It was good"
    results = [json.loads(line) for line in run("predict", "run/bundle", "rows.csv").splitlines()]
    assert all(1 <= result["value"] <= 4 and len(result["probabilities"]) == 4 for result in results)
    assert "run/bundle" in run("inspect", "run/bundle", "--data", "rows.csv")
