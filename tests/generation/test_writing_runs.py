"""Tasks that write, from recipe to bundle and command line: what is learned, resumed, saved, loaded, streamed and reported."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.cli import main
from ptune.errors import DataError, RecipeError
from ptune.model import DialogueModel, GenerationModel
from ptune.train import TrainEvent
from tiny import tiny_backbone

ROWS = [
    {"input": f"The {thing} was {how}", "target": f"It was {how}", "references": [f"It was {how}", how]}
    for thing in ("film", "food", "plot")
    for how in ("great", "good", "bad")
]
TALKS = [{"prompt": f"The {thing} ?", "response": "great .", "history": [["bad", "not good"]]} for thing in ("film", "food")]


def generation(**more: Any) -> dict[str, Any]:
    base = {
        "task": "generation",
        "train": ROWS,
        "template": "{input} All{mask}",
        "backbone": tiny_backbone("llama"),
        "method": {"name": "p-tuning-v2", "num_tokens": 4},
        "max_new_tokens": 8,
        "max_length": 40,
        "steps": 12,
        "batch_size": 9,
        "learning_rate": 0.3,
    }
    return {**base, **more}


def dialogue(**more: Any) -> dict[str, Any]:
    own = {"task": "dialogue", "train": TALKS, "chat_template": "plain", "template": "{messages}{soft:4}{mask}"}
    return {key: value for key, value in generation(**own, method="p-tuning", **more).items() if value is not None}


@pytest.mark.parametrize("kind", ["llama", "gemma3", "t5", "bart"])
@pytest.mark.parametrize("method", ["p-tuning-v2", "prefix-tuning", "prompt-tuning"])
def test_training_lowers_the_loss(kind: str, method: str) -> None:
    task = ptune.fit(**generation(backbone=tiny_backbone(kind), method={"name": method, "num_tokens": 4}, learning_rate=None))
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"]


def test_enough_training_writes_the_targets() -> None:
    task = ptune.fit(**generation(method={"name": "prefix-tuning", "num_tokens": 8}, steps=150, learning_rate=None, test=ROWS))
    assert [prediction.text for prediction in task.predict(ROWS)] == [row["target"] for row in ROWS]
    assert [prediction.reason for prediction in task.predict(ROWS)] == ["end"] * len(ROWS)
    assert task.facts["tuned"]["score"] == task.facts["tuned"]["exact"] == 1.0
    assert "".join(task.stream_text("The food was bad")) == "It was bad"
    assert task.predict(["The food was bad"], beams=3)[0].text == "It was bad"
    assert task.predict(["The food was bad"], stop=" bad")[0].text == "It was"
    assert task.evaluate(ROWS, max_new_tokens=2).exact < 1


def test_training_the_model_itself_or_its_output_layer_lowers_the_loss() -> None:
    for tune in ("lm", "lm-head"):
        task = ptune.fit(**generation(method="hard", tune=tune, learning_rate=0.01))
        assert task.facts["training"]["last_loss"] < task.facts["training"]["first_loss"]


@pytest.mark.parametrize("words", [generation, dialogue])
def test_a_bundle_writes_as_the_task_did(words: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    how = {"decode": {"beams": 2, "stop": ["!"]}}
    task = ptune.fit(**words(**how))
    rows = words()["train"]
    again = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone("llama"))
    assert isinstance(again.model, GenerationModel | DialogueModel)
    assert again.model.settings() == task.model.settings()
    assert again.model.decoding.beams == 2
    assert again.predict(rows) == task.predict(rows)
    assert again.predict(rows, beams=1, temperature=1.0) == task.predict(rows, beams=1, temperature=1.0)
    card = again.bundle().card["task"]
    assert (card["kind"], card["max_new_tokens"]) == (words()["task"], 8)


class _Stop(Exception):
    pass


def test_an_interrupted_run_goes_on_to_the_same_prompt(tmp_path: Path) -> None:
    def stop(event: TrainEvent) -> None:
        if event.kind == "step" and event.step == 7:
            raise _Stop

    words = generation(validation=ROWS[:4], template="{input} All{soft:3}{mask}", method="p-tuning", save_every=3)
    whole = ptune.fit(tmp_path / "whole", **words)
    with pytest.raises(_Stop):
        ptune.fit(tmp_path / "cut", listeners=[stop], **words)
    torch.manual_seed(5)
    resumed = ptune.fit(tmp_path / "cut", resume=True, **words)
    assert torch.equal(whole.bundle().tensors["rows"], resumed.bundle().tensors["rows"])
    assert whole.facts["training"]["last_loss"] == resumed.facts["training"]["last_loss"]


def test_validation_is_told_by_the_tokens_probability() -> None:
    heard: list[TrainEvent] = []
    ptune.fit(**generation(validation=ROWS[:3]), listeners=[heard.append])
    looks = [event for event in heard if event.kind == "validation"]
    assert looks
    assert all(
        event.metric == "token_probability" and event.score == pytest.approx(2.718281828**-event.loss) for event in looks
    )


def test_columns_have_the_names_that_the_recipe_gives_them() -> None:
    rows = [{"input": row["input"], "title": row["target"], "others": row["references"]} for row in ROWS]
    task = ptune.fit(**generation(train=rows, test=rows, target="title", references="others", steps=1))
    assert task.model.columns == {"target": "title"}
    assert task.facts["tuned"]["num_rows"] == 9
    with pytest.raises(DataError, match="title"):
        ptune.fit(**generation(target="title"))


def test_dialogues_are_asked_with_a_text_or_with_messages() -> None:
    task = ptune.fit(**dialogue())
    text, row, messages = task.predict(
        ["The film ?", {"prompt": "The film ?"}, {"messages": [{"role": "user", "content": "The film ?"}]}]
    )
    for other in (row, messages):  # rows of a batch: sums may be taken in another order
        assert other.log_probability == pytest.approx(text.log_probability, abs=1e-5)
        assert replace(other, log_probability=text.log_probability) == text
    assert "".join(task.stream_text("The film ?")) == text.text
    with pytest.raises(DataError, match="row 1"):
        task.predict([{"question": "The film ?"}])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"target": "label"}, "target is for task: generation, not for classification"),
        ({"max_new_tokens": 9}, "max_new_tokens is for task: generation or dialogue, not for classification"),
        ({"task": "generation", "labels": {"a": "b", "c": "d"}}, "labels is for task: classification"),
        ({"task": "generation", "candidates": 2}, "trains one prompt at a time"),
        ({"task": "generation", "max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_keys_of_other_kinds_are_refused(words: dict[str, Any], message: str) -> None:
    common = {"train": ROWS, "template": "{input}{mask}", "backbone": tiny_backbone("llama")}
    labels = {} if words.get("task") else {"labels": {"a": "great", "b": "bad"}}
    with pytest.raises(RecipeError, match=message):
        ptune.fit(**{**common, **labels, **words})


def test_only_tasks_that_write_take_settings_for_writing() -> None:
    rows = [{"text": "good day", "label": "a"}, {"text": "bad day", "label": "b"}]
    words = {"template": "{text} It was{soft:1}{mask}", "labels": {"a": "great", "b": "bad"}, "steps": 1}
    task = ptune.fit(train=rows, backbone=tiny_backbone("llama"), **words)
    for call in (lambda: task.predict(["good"], beams=2), lambda: task.judge(task.read_judged(rows), beams=2)):
        with pytest.raises(RecipeError, match="beams is for tasks that write texts, this one is classification"):
            call()
    with pytest.raises(RecipeError, match="stream_text is for tasks that write texts"):
        task.stream_text("good")


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path, tiny_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe for each kind of task."""
    for name, rows in (("rows", ROWS), ("talks", TALKS)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    common = f"backbone: {tiny_folder('llama')}\nmax_new_tokens: 8\nmax_length: 40\nsteps: 3\nbatch_size: 4\n"
    (tmp_path / "write.yaml").write_text(
        "task: generation\ntrain: rows.jsonl\ntest: rows.jsonl\ntemplate: '{input} All{soft:2}{mask}'\n" + common,
        encoding="utf-8",
    )
    (tmp_path / "talk.yaml").write_text(
        "task: dialogue\ntrain: talks.jsonl\ntest: talks.jsonl\nchat_template: plain\n"
        "method: {name: prompt-tuning, num_tokens: 4}\n" + common,
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(list(words)) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_command_line_trains_writes_and_judges(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "train", "write.yaml", "--out", "run", "--quiet")
    assert "rouge l" in out
    task = ptune.load(desk / "run" / "bundle")
    expected = task.predict(["The film was great"])[0].text
    out, _ = run(capsys, "predict", "run/bundle", "The film was great")
    assert out == expected + "\n"
    out, _ = run(capsys, "predict", "run/bundle", "The film was great", "The food was bad", "--temperature", "1", "--seed", "3")
    texts = [task.predict([text], temperature=1.0, seed=3)[0].text for text in ("The film was great", "The food was bad")]
    assert out == "".join(f"{text}\n" for text in texts)
    out, _ = run(capsys, "predict", "run/bundle", "The film was great", "--json", "--beams", "3", "--returns", "2")
    answer = json.loads(out)
    assert answer["text"] == task.predict(["The film was great"], beams=3)[0].text
    assert len(answer["alternatives"]) == 1
    run(capsys, "predict", "run/bundle", "rows.jsonl", "--out", "out.csv", "--max-new-tokens", "2")
    lines = (desk / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "input,target,references,text,log_probability,reason"
    assert len(lines) == 10
    out, _ = run(capsys, "evaluate", "run/bundle", "rows.jsonl")
    assert "ROUGE-L" in out
    assert "chrF" in out


def test_the_command_line_replies(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "train", "talk.yaml", "--out", "run", "--quiet")
    task = ptune.load(desk / "run" / "bundle")
    out, _ = run(capsys, "predict", "run/bundle", "The film ?")
    assert out.rstrip("\n") == task.predict(["The film ?"])[0].text.rstrip("\n")
    out, _ = run(capsys, "predict", "run/bundle", "talks.jsonl")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["text"] for answer in answers] == [prediction.text for prediction in task.predict(TALKS)]
    assert [answer["response"] for answer in answers] == ["great .", "great ."]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--beams", "2", "--temperature", "1"), "beams and temperature exclude each other"),
        (("--top-k", "5"), "set a temperature"),
        (("--max-new-tokens", "600"), "do not fit into the 64 positions"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(
    words: tuple[str, ...], message: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "train", "write.yaml", "--out", "run", "--quiet")
    _, err = run(capsys, "predict", "run/bundle", "The film was great", *words, code=2)
    assert message in err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
