"""`ptune export` and `ptune import` as a user types them, on a task trained a moment before."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import Run

pytestmark = pytest.mark.filterwarnings("error")

FRONT = ("--set", "template={text} It was{mask}", "--set", 'method={"name": "prompt-tuning", "num_tokens": 3}')
DEEP = ("--set", "template={text} It was{mask}", "--set", 'method={"name": "prefix-tuning", "num_tokens": 3}')
BUNDLE = "runs/recipe/bundle"


def trained(ptune: Run, *words: str) -> str:
    ran = ptune("train", "recipe.yaml", "--quiet", *words)
    assert ran.code == 0, ran.err
    return BUNDLE


def answers(ptune: Run, bundle: str) -> list[dict[str, Any]]:
    ran = ptune("predict", bundle, "data/test.jsonl")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def assert_same_but_for_calibration(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """The odds of a text change by one factor for all texts."""
    odds = [[row["probabilities"]["positive"] / row["probabilities"]["negative"] for row in rows] for rows in (before, after)]
    factors = [first / second for first, second in zip(*odds, strict=True)]
    assert len(factors) == 4 and factors == pytest.approx([factors[0]] * 4, rel=1e-4)
    assert len(set(odds[0])) == 4


@pytest.mark.parametrize("words", [FRONT, DEEP], ids=["soft", "deep"])
def test_to_peft_and_back(words: tuple[str, ...], desk: Path, ptune: Run) -> None:
    before = answers(ptune, trained(ptune, *words))
    out = ptune("export", BUNDLE, "--to", "peft", "adapter")
    assert out.code == 0, out.err
    assert out.out.startswith(str(desk / "adapter")) and "CAUSAL_LM" in out.out
    assert "not in it: the template" in out.err and "not in it: the label words (positive: great" in out.err
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors", "prompt_card.json"]
    assert sorted(file.name for file in (desk / "adapter").iterdir()) == files
    back = ptune("import", "adapter", "--out", "back")
    assert back.code == 0, back.err
    assert answers(ptune, "back") == before


def test_an_adapter_without_its_card_needs_the_rest(desk: Path, ptune: Run) -> None:
    before = answers(ptune, trained(ptune, *DEEP))
    ptune("export", BUNDLE, "--to", "peft", "adapter")
    (desk / "adapter" / "prompt_card.json").unlink()
    ran = ptune("import", "adapter", "--out", "back")
    assert ran.code == 2 and "holds a prompt alone" in ran.err and "--template" in ran.err
    labels = ("--labels", "positive=great", "--labels", "negative=bad")
    ran = ptune("import", "adapter", "--template", "{text} It was{mask}", *labels, "--out", "back", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["labels"] == ["positive", "negative"]
    assert_same_but_for_calibration(before, answers(ptune, "back"))
    seen = ptune("inspect", "back")
    assert seen.code == 0 and "prefix-tuning" in seen.out


def test_a_prefix_encoder_of_other_code(desk: Path, ptune: Run) -> None:
    save_file({"prefix_encoder.embedding.weight": torch.randn(3, 2 * 2 * 32)}, desk / "model.safetensors")
    labels = ("--labels", "positive=great,good", "--labels", "negative=bad")
    words = ("--backbone", "model", "--template", "{text} It was{mask}", *labels)
    ran = ptune("import", "model.safetensors", *words, "--out", "back")
    assert ran.code == 0, ran.err
    assert "prefix encoder of p-tuning-v2, 3 virtual tokens" in ran.out
    assert len(answers(ptune, "back")) == 4


def test_to_prompt_embeds(desk: Path, ptune: Run) -> None:
    trained(ptune)
    ran = ptune("export", BUNDLE, "--to", "prompt-embeds", "prompt.safetensors", "--text", "a good day", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["path"] == str(desk / "prompt.safetensors") and "3 of them learned" in ran.json["what"]
    by_row = ptune("export", BUNDLE, "--to", "prompt-embeds", "row.safetensors", "--row", '{"text": "a good day"}')
    assert by_row.code == 0, by_row.err
    first, second = load_file("prompt.safetensors"), load_file("row.safetensors")
    assert torch.equal(first["prompt_embeds"], second["prompt_embeds"])


def test_to_vocabulary(desk: Path, ptune: Run) -> None:
    """The exported folder is a model like any other: the string as a hard template gives the same answers."""
    before = answers(ptune, trained(ptune))
    ran = ptune("export", BUNDLE, "--to", "vocabulary", "words")
    assert ran.code == 0, ran.err
    prompt = json.loads((desk / "words" / "ptune_prompt.json").read_text("utf-8"))
    assert prompt["prompt"] == "<|endoftext|>{text}<ptune_0><ptune_1><ptune_2> It was"
    assert prompt["label_words"] == {"positive": ["great"], "negative": ["bad"]}
    template = '{text}{special:"<ptune_0>"}{special:"<ptune_1>"}{special:"<ptune_2>"} It was{mask}'
    keys = ("--set", f"template={template}", "--set", "method=hard", "--set", "backbone=words")
    again = ptune("train", "recipe.yaml", "--quiet", *keys)
    assert again.code == 0, again.err
    assert_same_but_for_calibration(before, answers(ptune, "runs/recipe-2/bundle"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("export", BUNDLE, "--to", "onnx", "out"), "there is no format 'onnx' (use peft, prompt-embeds, vocabulary)"),
        (("export", BUNDLE, "--to", "prompt-embeds", "out.safetensors"), "prompt-embeds needs the text"),
        (("export", BUNDLE, "--to", "peft", "out", "--text", "good"), "peft holds no text"),
        (("export", BUNDLE, "--to", "prompt-embeds", "out.safetensors", "--row", "{"), "the row is no JSON"),
        (("export", BUNDLE, "--to", "prompt-embeds", "out.safetensors", "--row", "[1]"), "the row is no mapping"),
        (("export", BUNDLE, "--to", "peft", "out"), "use --force to write the learned tokens alone"),
        (("export", "data", "--to", "peft", "out"), "there is no bundle in data"),
        (("export", BUNDLE, "--to", "peft", "data"), "holds 'test.jsonl', 'train.jsonl' already"),
        (("import", "nothing", "--out", "back"), "there is nothing at nothing"),
        (("import", "data", "--out", "back"), "there is no adapter_config.json in data"),
        (("import", "data", "--labels", "a=b", "--labels", "c", "--out", "back"), "the label 'c' has no words"),
        (("import", "data", "--labels", "=b", "--out", "back"), "a label has no name"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words: tuple[str, ...], says: str, desk: Path, ptune: Run) -> None:
    trained(ptune)
    before = {path for path in desk.rglob("*") if "runs" not in path.parts}
    ran = ptune(*words)
    assert ran.code == 2 and ran.out == ""
    assert len(ran.error_lines) == 1 and says in ran.error_lines[0]
    assert {path for path in desk.rglob("*") if "runs" not in path.parts} == before
