"""A run that is killed in the middle goes on as if nothing had happened: the same losses, the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import ptune
from ptune.errors import TrainError
from ptune.train import RunFolder

SLOW_RUN = """
import sys, time, torch
torch.set_num_threads(1)
from ptune.recipe import read_recipe, run
wait = lambda event: time.sleep(float(sys.argv[3]))
run(read_recipe(sys.argv[1]), out=sys.argv[2], resume="--resume" in sys.argv, listeners=[wait])
"""


def _trace(folder: Path) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in RunFolder(folder).events() if event["event"] == "step"]


@pytest.fixture
def recipe(tmp_path: Path, words: dict, rows: list) -> Path:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**words, "train": "train.jsonl", "steps": 40, "save_every": 5, "hold_out": 2, "ema": 0.5}))
    return path


@pytest.mark.parametrize("method", ["p-tuning", {"name": "p-tuning", "encoder": "lstm"}, "adafactor"])
def test_killed_and_resumed_equals_uninterrupted(recipe: Path, tmp_path: Path, method: object) -> None:
    values = yaml.safe_load(recipe.read_text())
    values |= {"optimizer": "adafactor"} if method == "adafactor" else {"method": method}
    recipe.write_text(yaml.safe_dump(values))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, "-c", SLOW_RUN, str(recipe)]
    subprocess.run([*command, str(whole), "0"], check=True, timeout=120)

    victim = subprocess.Popen([*command, str(broken), "0.1"])
    deadline = time.monotonic() + 100
    while len(_trace(broken)) < 13:
        assert victim.poll() is None and time.monotonic() < deadline, "the run ended or hung before it could be killed"
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (broken / "bundle").exists() and 13 <= len(_trace(broken)) < 40

    subprocess.run([*command, str(broken), "0", "--resume"], check=True, timeout=120)
    assert _trace(broken) == _trace(whole) and len(_trace(whole)) == 40
    ours, theirs = (load_file(folder / "bundle" / "prompt.safetensors") for folder in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    file = "bundle/prompt.safetensors"
    assert (broken / file).read_bytes() == (whole / file).read_bytes()


def test_resuming_a_finished_run_changes_nothing(words: dict, tmp_path: Path) -> None:
    first = ptune.fit(**words, out=tmp_path / "run")
    trace = _trace(tmp_path / "run")
    again = ptune.fit(**words, out=tmp_path / "run", resume=True)
    assert _trace(tmp_path / "run") == trace and len(trace) == 12
    assert torch.equal(first.model.prompt().rows, again.model.prompt().rows)


def test_another_recipe_is_not_resumed(words: dict, tmp_path: Path) -> None:
    ptune.fit(**words, out=tmp_path / "run")
    with pytest.raises(TrainError, match="not the one that the run began with"):
        ptune.fit(**{**words, "seed": 4}, out=tmp_path / "run", resume=True)
    with pytest.raises(TrainError, match="not empty"):
        ptune.fit(**words, out=tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(TrainError, match="holds no run"):
        ptune.fit(**words, out=tmp_path / "mine", resume=True)
    with pytest.raises(TrainError, match="a file of that name"):
        ptune.fit(**words, out=tmp_path / "mine" / "thesis.txt")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_rows_are_not_gone_on_with(words: dict, rows: list, tmp_path: Path, split: str) -> None:
    words |= {"validation": rows, "steps": 2}
    ptune.fit(**words, out=tmp_path / "run")
    changed = [{**row, "text": f"{row['text']}!"} for row in rows]
    with pytest.raises(TrainError, match=f"the {split} rows are not those"):
        ptune.fit(**{**words, split: changed}, out=tmp_path / "run", resume=True)
    ptune.fit(**words, out=tmp_path / "run", resume=True)


def test_patience_stops_and_the_best_step_is_kept(words: dict, rows: list) -> None:
    settings = {**words, "steps": 60, "evaluate_every": 2, "patience": 2, "learning_rate": 1e-7}
    task = ptune.fit(**settings, validation=rows)
    training = task.facts["training"]
    assert training["stopped_early"] and training["steps"] < 60
    assert training["steps"] == training["best_step"] + 4, "two looks, two steps apart, without improvement"


def test_training_learns_and_leaves_the_backbone_alone(words: dict) -> None:
    backbone = ptune.load_backbone(words["backbone"])
    before = backbone.fingerprint
    task = ptune.fit(**{**words, "steps": 60, "backbone": backbone})
    training = task.facts["training"]
    assert training["last_loss"] < 0.8 * training["first_loss"]
    assert type(backbone)(backbone.model, backbone.tokens.tokenizer, name="again").fingerprint == before


def test_accumulated_steps_equal_one_large_batch(words: dict) -> None:
    large = ptune.fit(**{**words, "batch_size": 12, "steps": 3, "clip_norm": None})
    small = ptune.fit(**{**words, "batch_size": 4, "accumulate": 3, "steps": 3, "clip_norm": None})
    assert torch.allclose(large.model.prompt().rows, small.model.prompt().rows, atol=1e-5)


def test_checkpointing_gives_the_same_prompt(words: dict) -> None:
    plain = ptune.fit(**words)
    recomputed = ptune.fit(**words, checkpointing=True)
    assert torch.allclose(plain.model.prompt().rows, recomputed.model.prompt().rows, atol=1e-6)


@pytest.mark.parametrize(("tune", "as_pair"), [("lm", False), ("lm", True), ("lm-head", False)])
def test_tuning_the_language_model_leaves_a_shared_backbone_alone(
    words: dict, tune: str, as_pair: bool, tmp_path: Path
) -> None:
    backbone = ptune.load_backbone(words["backbone"])
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    given = (backbone.model, backbone.tokens.tokenizer) if as_pair else backbone
    task = ptune.fit(**{**words, "backbone": given, "tune": tune, "method": "hard", "template": "{text} It was{mask}"})
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    task.save(tmp_path / "bundle")
    loaded = ptune.load(tmp_path / "bundle", backbone=backbone)
    texts = ["a good day", "a bad day"]
    ours, theirs = task.predict(texts), loaded.predict(texts)
    for one, other in zip(ours, theirs, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())


def test_a_loss_that_is_no_number_ends_the_run(words: dict) -> None:
    with pytest.raises(TrainError, match="loss of step"):
        ptune.fit(**{**words, "learning_rate": 1e30, "clip_norm": None, "warmup": 0.0})
