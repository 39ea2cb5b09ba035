"""Multiple choice from a recipe to the command line: it learns, resumes, is saved and loaded, and says what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ptune
from ptune.cli import main
from ptune.errors import DataError, RecipeError
from ptune.recipe import Recipe
from tiny import tiny_backbone

KINDS = ["bert", "gpt2", "t5"]
WAYS: dict[str, dict[str, Any]] = {
    "slot": {"template": "{text}{soft:3} It was{mask}"},
    "gap": {"template": "{soft:2} {text}", "gap": "#"},
    "head": {"template": "{text}{soft:2} {choice}", "head": "linear"},
    "words": {"template": "{text}{soft:2} : {choice}{mask}", "yes_no": ["good", ["bad"]]},
}


def rows(way: str, number: int = 12) -> list[dict[str, Any]]:
    """The right choice is `great` where the text is about a film, else `terrible`; two or three choices."""
    made = []
    for at in range(number):
        is_film = at % 2 == 0
        text = f"The {'film' if is_film else 'food'} {'#' if way == 'gap' else ''} {at}"
        choices = ["great", "terrible", "a bad day"][: 2 + at % 3 // 2]
        made.append({"text": text, "choices": choices, "answer": 0 if is_film else 1})
    return made


def words(way: str, kind: str, **more: Any) -> dict[str, Any]:
    train = rows(way)
    return {"task": "choice", "train": train, "test": train, "backbone": tiny_backbone(kind), "steps": 3, **WAYS[way], **more}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_choices_are_learned(kind: str, way: str) -> None:
    task = ptune.fit(**words(way, kind, steps=30, learning_rate=0.2, patience=None))
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"] - 0.05
    assert task.facts["tuned"]["metric"] == "accuracy" and task.facts["tuned"]["score"] >= 0.5
    assert task.facts["tuned"]["chance"] == pytest.approx((8 / 2 + 4 / 3) / 12)
    assert ("zero_shot" in task.facts) == (way != "head")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_predictions_are_equal(kind: str, way: str, tmp_path: Path) -> None:
    task = ptune.fit(**words(way, kind))
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    asked = [{key: row[key] for key in ("text", "choices")} for row in rows(way)]
    ours, theirs = task.predict(asked), loaded.predict(asked)
    assert ours == theirs
    for row, one in zip(asked, ours, strict=True):
        assert one.choice == row["choices"][one.answer] and sum(one.probabilities) == pytest.approx(1, abs=1e-5)
        assert len(one.probabilities) == len(row["choices"]) and one.probabilities[one.answer] == max(one.probabilities)
    assert task.evaluate(rows(way)).to_dict() == loaded.evaluate(rows(way)).to_dict()
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["task"]["kind"] == "choice"


@pytest.mark.parametrize("keep", ["best", "ensemble"])
def test_candidates_side_by_side(keep: str, tmp_path: Path) -> None:
    more = {"candidates": 3, "keep_candidates": keep, **({"hold_out": 4} if keep == "best" else {})}
    task = ptune.fit(**words("slot", "llama", **more))
    assert task.model.num_candidates == (1 if keep == "best" else 3)
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone("llama"))
    assert task.predict(rows("slot")) == loaded.predict(rows("slot"))


def test_kept_contexts_give_the_same_prompt() -> None:
    kept = ptune.fit(**words("slot", "llama", keep_context=True))
    whole = ptune.fit(**words("slot", "llama", keep_context=False))
    torch.testing.assert_close(kept.model.prompt().rows, whole.model.prompt().rows, rtol=1e-4, atol=1e-5)


def test_other_columns_and_lists_as_text() -> None:
    renamed = [
        {"text": row["text"], "options": " | ".join(row["choices"]), "key": row["choices"][row["answer"]]}
        for row in rows("slot")
    ]
    plain = ptune.fit(**words("slot", "gpt2"))
    other = ptune.fit(**{**words("slot", "gpt2"), "train": renamed, "test": renamed, "choices": "options", "answer": "key"})
    assert torch.equal(plain.model.prompt().rows, other.model.prompt().rows)
    assert other.predict([{"text": "The film", "options": ["great", "bad"]}])[0].choice in ("great", "bad")
    with pytest.raises(DataError, match="options"):
        other.predict([{"text": "The film", "choices": ["great", "bad"]}])


def test_a_run_is_resumed(tmp_path: Path) -> None:
    given = {**words("slot", "gpt2"), "steps": 6, "save_every": 2, "hold_out": 4}
    whole = ptune.fit(**given, out=tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(event: Any) -> None:
        if event.step == 5:
            raise Stop

    with pytest.raises(Stop):
        ptune.fit(**given, out=tmp_path / "cut", listeners=[stop])
    resumed = ptune.fit(**given, out=tmp_path / "cut", resume=True)
    assert torch.equal(whole.model.prompt().rows, resumed.model.prompt().rows)
    events = [json.loads(line) for line in (tmp_path / "cut" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, 7))
    assert all("accuracy" in event for event in events if event["event"] == "validation")


@pytest.mark.parametrize(
    ("change", "words_"),
    [
        ({"answer": 2}, "row 3.*none of the 2 choices"),
        ({"choices": ["one"]}, "row 3.*one choice"),
        ({"choices": None}, "row 3.*'choices' is missing"),
        ({"answer": None}, "row 3.*'answer' is missing"),
    ],
)
def test_bad_rows_are_named_before_any_work(change: dict[str, Any], words_: str) -> None:
    given = words("slot", "gpt2")
    given["train"] = [*rows("slot")[:2], {**rows("slot")[0], **change}]
    with pytest.raises(DataError, match=words_):
        ptune.fit(**given)


def test_keys_of_other_kinds_are_refused() -> None:
    base = {"train": "x.csv", "backbone": "smollm2-135m-q4"}
    with pytest.raises(RecipeError, match="gap is for task: choice or cloze, not for classification"):
        Recipe.of({**base, "template": "{text}", "labels": {"a": "good", "b": "bad"}, "gap": "#"})
    with pytest.raises(RecipeError, match="class_weights is for task"):
        Recipe.of({**base, "task": "choice", "template": "{text}{mask}", "class_weights": "balanced"})
    with pytest.raises(RecipeError, match=r"no kind of task 'chioce' .did you mean 'choice'"):
        Recipe.of({**base, "task": "chioce", "template": "{text}{mask}"})
    with pytest.raises(RecipeError, match="the key 'template' is missing"):
        Recipe.of({**base, "task": "choice"})


def test_a_gap_that_a_test_row_lacks_is_found_before_training() -> None:
    given = words("gap", "gpt2")
    given["test"] = [*rows("gap")[:2], {"text": "no place", "choices": ["a", "b"], "answer": 0}]
    steps: list[int] = []
    with pytest.raises(ptune.PtuneError, match=r"row 3.*no gap"):
        ptune.fit(**given, listeners=[lambda event: steps.append(event.step)])
    assert steps == []


def test_the_command_line_shows_choices(
    tmp_path: Path, tiny_folder: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps(row) + "\n" for row in rows("slot"))
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    recipe = {"task": "choice", "train": "rows.jsonl", "test": "rows.jsonl", "backbone": tiny_folder("gpt2"), "steps": 2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **WAYS["slot"]}), encoding="utf-8")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    shown = run("train", "recipe.yaml", "--out", "run", "--quiet")
    assert "judged on           test, 12 rows (95 % interval in brackets)" in shown and "zero-shot" in shown
    assert "guessing 0.444, 12 rows" in run("evaluate", "run/bundle", "rows.jsonl")
    row = json.dumps({"text": "The film", "choices": ["great", "terrible"]})
    assert run("predict", "run/bundle", row).rstrip().endswith("The film | great terrible")
    results = [json.loads(line) for line in run("predict", "run/bundle", "rows.jsonl").splitlines()]
    assert [result["given_answer"] for result in results] == [str(row["answer"]) for row in rows("slot")]
    assert all(result["choice"] == result["choices"][result["answer"]] for result in results)
    run("predict", "run/bundle", "rows.jsonl", "--out", "answers.csv")
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 13
    assert "task                choice" in run("inspect", "run/bundle")
    assert json.loads(run("runs", "list", ".", "--json"))[0]["metric"] == "accuracy"
    checked = run("template", "check", "recipe.yaml", "--rows", "2")
    assert checked.count("⟨answer⟩") == 2 and "rows.jsonl:1 (0, " in checked and "rows.jsonl:2 (1, " in checked
    assert main(["plan", "recipe.yaml"]) == 2 and "task: classification" in capsys.readouterr().err
