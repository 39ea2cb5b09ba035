"""The example recipes of tasks that write are recipes, and their benchmark trains within what it promises."""

from pathlib import Path

import pytest
import yaml

from ptune.recipe import Recipe

ROOT = Path(__file__).parents[2]
NAMES = ["e2e_nlg", "csl_title", "dialogsum"]


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_and_every_method_of_the_benchmark_fit_together(name: str) -> None:
    spec = yaml.safe_load((ROOT / "bench" / "specs" / "deep.yaml").read_text(encoding="utf-8"))
    text = (ROOT / "examples" / "deep" / f"{name}.yaml").read_text(encoding="utf-8")
    words = yaml.safe_load(text.replace("$DATA", "data"))
    assert Recipe.of(words).task == "generation"
    case = spec["data"][name]
    for method in ("p-tuning-v2", "prefix-tuning", "prompt-tuning", "fine-tuning"):
        changed = {**words, **spec["methods"][method], **case["methods"].get(method, {})}
        recipe = Recipe.of(changed)
        assert recipe.max_new_tokens < (recipe.max_length or 256)
    assert max(spec["train_rows"], case.get("train_rows", 0)) <= 300
    assert max(spec["test_rows"], case.get("test_rows", 0)) <= 200
