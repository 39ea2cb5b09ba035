"""A recipe as data: labels of any type, what is written down of it, and paths seen from its own folder."""

from pathlib import Path

import pytest
import yaml

import ptune
from ptune.errors import RecipeError
from ptune.recipe import Recipe, read_recipe
from tiny import tiny_backbone

WORDS: dict[str, object] = {"train": "x.csv", "template": "{text}{soft:3} It was{mask}", "backbone": "smollm2-135m-q4"}


def again(recipe: Recipe) -> Recipe:
    """The recipe as it is read from what it writes."""
    return Recipe.of(yaml.safe_load(recipe.to_yaml()))


def read(tmp_path: Path, text: str, **overrides: object) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "train: x.csv\ntemplate: '{text}{soft:3} It was{mask}'\nbackbone: smollm2-135m-q4\n" + text, encoding="utf-8"
    )
    return read_recipe(path, {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.mark.parametrize(
    "rules", [{}, {"aggregate": "logsumexp"}, {"length": "sum", "terminator": "."}, {"aggregate": "max", "length": "mean"}]
)
@pytest.mark.parametrize("positive", ["great", ["great", "good"], {"great": 3, "good": 1}])
def test_a_verbalizer_is_written_down_whole(rules: dict[str, str], positive: object) -> None:
    verbalizer = ptune.Verbalizer.parse({"positive": positive, "negative": ["bad"]}, **rules)  # type: ignore[arg-type]
    recipe = Recipe.of({**WORDS, "labels": verbalizer})
    assert again(recipe).verbalizer() == verbalizer
    plain = Recipe.of({**WORDS, "labels": {"positive": positive, "negative": ["bad"]}, **rules})
    assert again(plain).verbalizer() == verbalizer


def test_a_rule_beside_a_verbalizer_is_refused() -> None:
    verbalizer = ptune.Verbalizer.parse({"positive": "great", "negative": "bad"})
    with pytest.raises(RecipeError, match="aggregate stands beside a Verbalizer"):
        Recipe.of({**WORDS, "labels": verbalizer, "aggregate": "max"})


@pytest.mark.parametrize("setting", [{"dtype": "bf16"}, {"device": "cpu"}, {"text_start": "<s>"}])
def test_a_setting_beside_a_loaded_backbone_is_refused(setting: dict[str, str]) -> None:
    words = {**WORDS, "labels": {"a": "good", "b": "bad"}, "backbone": tiny_backbone("gpt2"), **setting}
    with pytest.raises(RecipeError, match=f"{next(iter(setting))} stands beside a loaded backbone"):
        Recipe.of(words)


def test_labels_that_are_numbers_or_truth_values_are_those_of_the_data() -> None:
    head = Recipe.of({**WORDS, "template": "{text}{soft}", "head": "linear", "labels": [1, 0], "class_weights": {1: 2, 0: 1}})
    assert head.label_names() == again(head).label_names() == ("1", "0")
    assert head.class_weights == again(head).class_weights == {"1": 2.0, "0": 1.0}
    recipe = Recipe.of({**WORDS, "labels": {True: "good", False: "bad", 2.0: "fine"}})
    assert recipe.label_names() == again(recipe).label_names() == ("true", "false", "2")
    with pytest.raises(RecipeError, match="label '1' is named twice"):
        Recipe.of({**WORDS, "labels": {1: "good", "1": "bad"}})
    rows = [{"text": "x", "label": label} for label in (True, False, 2.0)]
    assert [row.label for row in ptune.read_examples(rows)] == list(recipe.label_names())


def test_yes_and_no_are_labels_and_words_without_quotes(tmp_path: Path) -> None:
    recipe = read(tmp_path, "labels: {yes: [yes], no: [no, off]}\ncheckpointing: true\n")
    assert dict(recipe.verbalizer().words) == {"yes": ("yes",), "no": ("no", "off")}
    assert recipe.checkpointing is True and again(recipe).label_names() == ("yes", "no")


def test_null_leaves_a_key_at_its_default(tmp_path: Path) -> None:
    recipe = read(tmp_path, "labels: {a: good, b: bad}\nmethod: null\nbatch_size: null\nclip_norm: null\n", seed=None)
    assert (recipe.method, recipe.batch_size, recipe.clip_norm, recipe.seed) == ("p-tuning", 8, None, 0)
    assert again(recipe).clip_norm is None


def test_an_override_reaches_into_a_mapping(tmp_path: Path) -> None:
    text = "labels: {0: bad, 1: good}\n"
    assert read(tmp_path, text, method__encoder="lstm").method == {"name": "p-tuning", "encoder": "lstm"}
    assert dict(read(tmp_path, text, labels__1="great").verbalizer().words) == {"0": ("bad",), "1": ("great",)}
    assert read(tmp_path, text, class_weights__1=2).class_weights == {"1": 2.0}
    assert read(tmp_path, text, columns__review="text").columns == {"review": "text"}


def test_paths_are_seen_from_the_recipe_and_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, desk = tmp_path / "home", tmp_path / "desk"
    home.mkdir()
    desk.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "test.csv").touch()
    (desk / "x.csv").touch()
    (desk / "old").mkdir()
    method = "method: {name: p-tuning, init_bundle: old}\n"
    read(desk, "labels: {a: good, b: bad}\ntest: ~/test.csv\n" + method)
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("desk/recipe.yaml")
    assert recipe.test == str(home / "test.csv")
    assert recipe.train == "desk/x.csv" and recipe.method["init_bundle"] == "desk/old"
    written = yaml.safe_load(recipe.to_yaml())
    assert (written["train"], written["method"]["init_bundle"]) == (str(desk / "x.csv"), str(desk / "old"))


def test_environment_variables_stand_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "a", "label": "yes"}\n', encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    words = 'template: "{text}{mask}"\nlabels: {yes: [good], no: [bad]}\nmethod: hard\nbackbone: $MODELS/tiny\n'
    recipe.write_text("train: ${REVIEWS}/train.jsonl\n" + words, encoding="utf-8")
    monkeypatch.delenv("REVIEWS", raising=False)
    monkeypatch.setenv("MODELS", "/models")
    with pytest.raises(RecipeError, match=r"train: the environment variable REVIEWS is not set \(set it, as in REVIEWS="):
        read_recipe(recipe)
    monkeypatch.setenv("REVIEWS", str(tmp_path / "data"))
    read = read_recipe(recipe)
    assert read.train == str(tmp_path / "data" / "train.jsonl") and read.backbone == "/models/tiny"
    monkeypatch.setenv("REVIEWS", "data")
    assert read_recipe(recipe).train == str(tmp_path / "data" / "train.jsonl")
