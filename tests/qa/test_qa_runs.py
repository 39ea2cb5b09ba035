"""Extractive question answering from a recipe to a bundle and the command line, with and without unanswerable questions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ptune
from ptune.cli import main
from ptune.errors import DataError, RecipeError

TEXT = "The film was great , a disappointing story and a good cast ."
CHINESE = "这部电影很好，我很喜欢。质量一般。"


def row(context: str, question: str, *answers: str) -> dict[str, Any]:
    held = {"text": list(answers), "answer_start": [context.index(answer) for answer in answers]}
    return {"context": context, "question": question, "answers": held}


ROWS = [
    row(TEXT, "What was great ?", "The film"),
    row(TEXT, "What was good ?", "cast"),
    row(CHINESE, "什么 好", "电影"),
    row(TEXT, "bad service ?"),
]


def asked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: one[key] for key in ("context", "question")} for one in rows]


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("method", ["p-tuning-v2", "prompt-tuning"])
def test_a_bundle_says_the_same_as_the_task(kind: str, method: str, tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    words: dict[str, Any] = {"backbone": tiny_folder(kind), "method": {"name": method, "num_tokens": 4}, "batch_size": 4}
    task = ptune.fit(task="qa", train=ROWS, validation=ROWS, steps=40, doc_stride=8, max_length=40, n_best=3, **words)
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"]
    assert task.facts["no_answer_threshold"] == task.model.threshold
    again = ptune.load(task.save(tmp_path / "bundle"))
    long = {"context": f"{TEXT} " * 8, "question": "What was great ?"}
    assert again.predict([*asked(ROWS), long]) == task.predict([*asked(ROWS), long])
    assert again.evaluate(ROWS) == task.evaluate(ROWS)
    assert again.model.threshold == task.model.threshold and again.model.may_abstain
    assert len(again.predict(asked(ROWS))[0].n_best) == 3


def test_full_tuning_learns_answers_and_their_absence(tiny_folder: Callable[[str], str]) -> None:
    task = ptune.fit(
        task="qa",
        train=ROWS,
        validation=ROWS,
        backbone=tiny_folder("bert"),
        method="hard",
        tune="lm",
        learning_rate=1e-3,
        steps=120,
        batch_size=4,
    )
    report = task.evaluate(ROWS)
    assert report.exact == 1.0 and report.unanswerable_exact == 1.0
    found = task.predict(asked(ROWS))
    assert [one.text for one in found] == ["The film", "cast", "电影", ""]
    assert (found[1].start, found[1].end) == (TEXT.index("cast"), TEXT.index("cast") + 4)
    assert found[3].start is None and str(found[3]).startswith("(no answer)")


def test_the_command_line_trains_predicts_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in ROWS), encoding="utf-8")
    words = {"task": "qa", "train": "rows.jsonl", "validation": "rows.jsonl", "backbone": tiny_folder("bert"), "steps": 30}
    Path("recipe.yaml").write_text(json.dumps({**words, "method": "p-tuning-v2", "batch_size": 4}), encoding="utf-8")
    assert main(["train", "recipe.yaml", "--quiet", "--out", "run"]) == 0
    assert "judged on           validation, 4 rows (f1)" in capsys.readouterr().out
    assert main(["evaluate", "run/bundle", "rows.jsonl"]) == 0
    assert "by the rules of SQuAD" in capsys.readouterr().out
    question = json.dumps({"context": TEXT, "question": "What was great ?"})
    assert main(["predict", "run/bundle", question]) == 0
    assert "What was great ? | The film" in capsys.readouterr().out
    assert main(["predict", "run/bundle", question, "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["answer"] == ("" if line["start"] is None else TEXT[line["start"] : line["end"]])
    assert len(line["n_best"]) == 5
    assert main(["predict", "run/bundle", "rows.jsonl", "--out", "found.csv"]) == 0
    header = Path("found.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "context,question,answers,answer,start,end,probability,n_best"
    assert main(["predict", "run/bundle", "a bare text"]) == 2
    assert "question, context" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": ["a", "b"]}, RecipeError, "labels is for task"),
        ({"tags": "ner"}, RecipeError, "tags is for task: tagging"),
        ({"max_answer_tokens": 0}, RecipeError, "max_answer_tokens"),
        ({"train": [{"context": "a", "question": "b"}]}, DataError, "answers"),
        ({"train": [{**ROWS[0], "answers": {"text": ["film"], "answer_start": [1]}}]}, DataError, "it stands at 4"),
    ],
)
def test_recipes_that_cannot_be_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str, tiny_folder: Callable[[str], str]
) -> None:
    words = {"task": "qa", "train": ROWS, "backbone": tiny_folder("bert"), "method": "p-tuning-v2", "steps": 1, **changes}
    with pytest.raises(error, match=message):
        ptune.fit(**words)
