"""Tagging from a recipe to a bundle and the command line: training, saving, loading, column files, plain texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ptune
from ptune.cli import main
from ptune.errors import DataError, RecipeError

SENTENCES = [
    (["The", "film", "with", "Good", "Music"], ["O", "O", "O", "B-PER", "I-PER"]),
    (["I", "like", "this", "place"], ["O", "O", "O", "O"]),
    (["Topic", ":", "sports", "news"], ["O", "O", "B-MISC", "I-MISC"]),
    (["the", "cast", "of", "Music", "was", "great"], ["O", "O", "O", "B-PER", "O", "O"]),
]
ROWS = [{"tokens": tokens, "tags": tags} for tokens, tags in SENTENCES]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with rows as JSON Lines and as a column file."""
    lines = [json.dumps(row) for row in ROWS * 2]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    blocks = ["\n".join(f"{word} {tag}" for word, tag in zip(*pair, strict=True)) for pair in SENTENCES]
    (tmp_path / "rows.conll").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(desk: Path, model: str, **changes: Any) -> Path:
    words = {"task": "tagging", "train": "rows.conll", "validation": "rows.jsonl", "test": "rows.jsonl", "backbone": model}
    words |= {"method": {"name": "p-tuning-v2", "num_tokens": 4}, "steps": 30, "batch_size": 4, **changes}
    path = desk / "recipe.yaml"
    path.write_text(json.dumps(words), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["p-tuning-v2", "prompt-tuning", "prefix-tuning"])
def test_a_bundle_says_the_same_as_the_task(kind: str, method: str, tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    words: dict[str, Any] = {"backbone": tiny_folder(kind), "method": {"name": method, "num_tokens": 4}, "batch_size": 4}
    task = ptune.fit(task="tagging", train=ROWS, test=ROWS, steps=40, scheme="BIOES", doc_stride=3, max_length=20, **words)
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"]
    assert task.facts["train_spans"] == task.facts["train_spans_at_token_borders"] == 3
    again = ptune.load(task.save(tmp_path / "bundle"))
    texts: list[Any] = ["Good Music was great, I like it.", {"tokens": ["Music", "news"] * 12}, "这部电影很好"]
    assert again.predict(texts) == task.predict(texts)
    assert again.evaluate(ROWS) == task.evaluate(ROWS)
    assert again.labels == ("MISC", "PER") and again.model.scheme == "BIOES"
    assert again.facts["tuned"]["score"] == again.evaluate(ROWS).score


def test_full_tuning_learns_its_rows_and_is_kept(tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    task = ptune.fit(
        task="tagging", train=ROWS, backbone=tiny_folder("bert"), method="hard", tune="lm", learning_rate=1e-3, steps=80
    )
    assert task.evaluate(ROWS).score == 1.0
    again = ptune.load(task.save(tmp_path / "bundle"))
    assert again.predict([ROWS[0]]) == task.predict([ROWS[0]])
    assert [(span.type, span.text) for span in again.predict([ROWS[0]])[0].spans] == [("PER", "Good Music")]


def test_interrupted_and_resumed_runs_learn_the_same(tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    words: dict[str, Any] = {"task": "tagging", "train": ROWS, "validation": ROWS, "backbone": tiny_folder("gpt2"), "steps": 12}
    words |= {"method": {"name": "p-tuning-v2", "num_tokens": 4}, "save_every": 4, "batch_size": 2}
    whole = ptune.fit(out=tmp_path / "whole", **words)

    def stop(event: Any) -> None:
        if event.kind == "step" and event.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ptune.fit(out=tmp_path / "cut", listeners=[stop], **words)
    resumed = ptune.fit(out=tmp_path / "cut", resume=True, **words)
    assert resumed.facts["training"]["last_loss"] == whole.facts["training"]["last_loss"]
    events = [(tmp_path / name / "events.jsonl").read_text(encoding="utf-8").splitlines() for name in ("whole", "cut")]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in events]
    assert losses[0] == losses[1]
    assert "f1" in json.loads(events[0][-1])


def test_the_command_line_trains_predicts_and_evaluates(
    desk: Path, tiny_folder: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(desk, tiny_folder("bert"), steps=60, learning_rate=0.1)
    assert main(["train", str(path), "--quiet", "--out", "run"]) == 0
    assert "judged on           test, 8 rows (f1)" in capsys.readouterr().out
    assert main(["evaluate", "run/bundle", "rows.conll"]) == 0
    assert "F1 " in capsys.readouterr().out
    assert main(["evaluate", "run/bundle", "rows.conll", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metric"] == "f1" and report["num_true"] == 3 and set(report["types"]) == {"PER", "MISC"}
    assert main(["predict", "run/bundle", "Good Music.", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["words"] == ["Good", "Music", "."] and len(line["tags"]) == 3 and line["text"] == "Good Music."
    assert main(["predict", "run/bundle", "rows.jsonl", "--out", "found.jsonl"]) == 0
    found = [json.loads(row) for row in (desk / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["words"] for row in found] == [row["tokens"] for row in ROWS * 2]
    assert [row["given_tags"] for row in found] == [row["tags"] for row in ROWS * 2]
    capsys.readouterr()
    assert main(["predict", "run/bundle", "rows.conll", "--out", "found.csv"]) == 0
    assert (desk / "found.csv").read_text(encoding="utf-8").splitlines()[0].endswith("spans,words,tags,text")
    capsys.readouterr()
    assert main(["inspect", "run/bundle"]) == 0
    assert "tagging" in capsys.readouterr().out


def test_columns_can_have_other_names(desk: Path, tiny_folder: Callable[[str], str]) -> None:
    rows = [{"words": tokens, "ner": tags} for tokens, tags in SENTENCES]
    words: dict[str, Any] = {"task": "tagging", "backbone": tiny_folder("bert"), "method": "p-tuning-v2", "steps": 2}
    task = ptune.fit(train=rows, columns={"words": "tokens"}, tags="ner", **words)
    assert task.evaluate(rows, columns={"words": "tokens"}).num_true == 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": ["PER", "PER"]}, RecipeError, "named twice"),
        ({"labels": ["LOC"]}, DataError, "a type 'PER' that is no label"),
        ({"scheme": "BIOS"}, RecipeError, "scheme"),
        ({"candidates": 4}, RecipeError, "one prompt at a time"),
        ({"n_best": 3}, RecipeError, "n_best is for task: .*qa"),
        ({"template": "{tokens}{mask}"}, Exception, "mask"),
        ({"train": [{"tokens": ["a"], "tags": ["O", "O"]}]}, DataError, "1 words and 2 tags"),
        ({"train": [{"tokens": "a b", "tags": ["O", "O"]}]}, DataError, "is no list"),
        ({"train": [{"text": "a b", "tags": ["O", "O"]}]}, DataError, "tokens"),
    ],
)
def test_recipes_that_cannot_be_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str, tiny_folder: Callable[[str], str]
) -> None:
    words = {"task": "tagging", "train": ROWS, "backbone": tiny_folder("bert"), "method": "p-tuning-v2", "steps": 1, **changes}
    with pytest.raises(error, match=message):
        ptune.fit(**words)


def test_one_type_is_enough(tiny_folder: Callable[[str], str]) -> None:
    rows = [row for row in ROWS if "B-MISC" not in row["tags"]]
    task = ptune.fit(task="tagging", train=rows, labels=["PER"], backbone=tiny_folder("bert"), method="p-tuning-v2", steps=2)
    assert task.labels == ("PER",)
