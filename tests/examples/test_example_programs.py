"""The programs in examples/ run, do what they say, and their recipes are valid."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptune.recipe import read_recipe, read_splits, run

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(EXAMPLES.glob("*.yaml"))
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


def program(name: str) -> Any:
    """An example as a module; its file name begins with a digit, so `import` cannot reach it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("form", ["ptune", "torch"])
@pytest.mark.parametrize("kind", ["gemma3", "bert"])
def test_zh_sentiment_labels_three_sentences(form: str, kind: str, tiny_folder: Callable[[str], str]) -> None:
    labels = program("01_zh_sentiment").main(backbone=tiny_folder(kind), steps=3, form=form, shots=2)
    assert len(labels) == 3
    assert set(labels) <= {"positive", "negative"}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_virtual_embeddings_are_prompt_tuning(kind: str, tiny_folder: Callable[[str], str]) -> None:
    assert program("02_virtual_embeddings").main(backbone=tiny_folder(kind), steps=3) < 1e-3


@pytest.mark.parametrize("form", ["ptune", "torch"])
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_prompt_and_linear_head(form: str, kind: str, tiny_folder: Callable[[str], str]) -> None:
    accuracy = program("03_prompt_and_linear_head").main(backbone=tiny_folder(kind), steps=2, form=form, shots=2, num_test=6)
    assert 0 <= accuracy <= 1


def test_position_zero_of_a_causal_model_sees_no_text(tiny_folder: Callable[[str], str]) -> None:
    example = program("03_prompt_and_linear_head")
    backbone = example.ptune.load_backbone(tiny_folder("llama"))
    rows = [example.ptune.Example({"text": text}, "positive") for text in ("The film was great", "bad", "What a good day")]
    wrong, right = example.compare_positions(backbone, rows)
    assert wrong < 1e-5 < right


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pet_patterns(kind: str, tiny_folder: Callable[[str], str]) -> None:
    example = program("04_pet_patterns")
    accuracies = example.main(backbone=tiny_folder(kind), num_test=6)
    assert set(accuracies) == {*example.PATTERNS, "all"}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pet_scores_are_the_models_own(kind: str, tiny_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    example = program("04_pet_patterns")
    monkeypatch.setattr(example, "LABELS", {"positive": ["great"], "negative": ["good"]})  # one token each
    backbone = example.ptune.load_backbone(tiny_folder(kind))
    ours, own = example.margins(backbone, "I like this place")
    assert ours == pytest.approx(own, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_programs_have_the_same_options_and_a_chinese_first_line(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and any("一" <= char <= "鿿" for char in first)
    shown = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=True).stdout
    assert "--steps" in shown
    assert "backbone" in shown


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid_and_fit_their_data(path: Path) -> None:
    recipe = read_recipe(path)
    splits = read_splits(recipe)
    assert splits.train and splits.test
    if recipe.kind.reads_label:
        assert len(splits.train) == (recipe.shots or 0) * len(recipe.label_names())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_run(path: Path, tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    first = read_splits(read_recipe(path)).test[0]
    row = {**first.fields, **({} if first.label is None else {"label": first.label})}
    changes = {"backbone": tiny_folder("gemma3"), "steps": 2, "shots": 2, "test": [row]}
    task = run(read_recipe(path, changes), out=tmp_path / "run")
    assert (tmp_path / "run" / "bundle" / "bundle.json").is_file()
    assert task.facts["tuned"]["num_rows"] == 1


def test_every_example_is_listed_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in (*PROGRAMS, *RECIPES):
        assert f"({path.name})" in text
