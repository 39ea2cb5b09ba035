"""PET: weights and soft labels by the paper's formulas, iPET's sets, its end with a class without predictions, whole runs."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ptune
from ptune.errors import PtuneError, RecipeError
from ptune.recipe import Recipe
from ptune.strategy import (
    ChainOfThoughtSettings,
    InContextSettings,
    PetSettings,
    SearchSettings,
    read_section,
    run_pet,
    section_of,
)
from ptune.strategy.generations import EmptyClass, next_set, teachers_of
from ptune.strategy.section import SECTIONS
from ptune.strategy.teaching import pattern_weights, soft_labels
from tiny import tiny_backbone

GOOD = ("The film was great", "a good story", "It was good", "a great cast", "good food")
BAD = ("the plot was bad", "It was bad", "a bad film", "the end was bad", "bad service")
ROWS = [{"text": text, "label": label} for label, texts in (("good", GOOD), ("bad", BAD)) for text in texts]
MORE = [f"{start} {text}" for start in ("What", "All in all") for text in (*GOOD, *BAD)]
PATTERNS = [
    {"template": "{text}{soft:2} It was{mask}"},
    {"template": "{text}{soft:2} The film is{mask}", "labels": {"good": ["excellent"], "bad": ["terrible"]}},
]


def recipe(kind: str = "gpt2", **keys: Any) -> Recipe:
    words = {"train": ROWS, "test": ROWS[:4], "labels": {"good": ["good"], "bad": ["bad"]}, "steps": 6, "seed": 2}
    template = "{text}{soft:3} It was{mask}"
    return Recipe.of({**words, "template": template, "backbone": tiny_backbone(kind), **keys})


def test_soft_labels_are_the_papers_formula() -> None:
    """s(l | x) = 1/Z sum_p w_p s_p(l | x), Z the sum of weights; q = softmax(s / T), T = 2."""
    scores, accuracies = [[[2.0, -1.0, 0.5]], [[0.0, 3.0, 1.0]]], [0.6, 0.9]
    z = [sum(w * s[0][c] for w, s in zip(accuracies, scores, strict=True)) / sum(accuracies) for c in range(3)]
    powers = [math.exp(value / 2) for value in z]
    expected = [[power / sum(powers) for power in powers]]
    got = soft_labels(torch.tensor(scores), pattern_weights(accuracies), temperature=2.0)
    torch.testing.assert_close(got, torch.tensor(expected))


def test_weights_are_shares_of_accuracy_and_equal_where_all_are_zero() -> None:
    assert pattern_weights([0.5, 1.0, 0.5]) == pytest.approx([0.25, 0.5, 0.25])
    assert pattern_weights([0.0, 0.0]) == [0.5, 0.5]


def test_other_models_are_asked_a_share_of_them_and_never_itself() -> None:
    for number in range(9):
        asked = teachers_of(number, 9, 0.25, random.Random(number))
        assert len(asked) == 2 and number not in asked
    assert teachers_of(0, 2, 0.25, random.Random(0)) == [1]


def test_a_set_has_each_class_in_its_number_and_prefers_what_is_sure() -> None:
    scores = torch.stack([torch.linspace(-4, 4, 40), -torch.linspace(-4, 4, 40)], 1)[None]
    counts = [0] * 40
    for seed in range(400):
        chosen = next_set(scores, [1.0], [3, 5], random.Random(seed))
        assert [label for _, label in chosen] == [0] * 3 + [1] * 5
        assert all(label == int(scores[0, at].argmax()) for at, label in chosen) and len({at for at, _ in chosen}) == 8
        for at, _ in chosen:
            counts[at] += 1
    assert sum(counts[30:]) > 1.05 * sum(counts[20:30])  # further from the middle is surer
    assert len(next_set(scores, [1.0], [99, 0], random.Random(0))) == 20  # a class gives all that it has


def test_draws_are_in_proportion_to_confidence() -> None:
    """One text of two is drawn: P(first) = c1 / (c1 + c2)."""
    scores = torch.tensor([[[3.0, 0.0], [0.1, 0.0]]])
    confidence = torch.softmax(scores[0], 1)[:, 0]
    first = sum(next_set(scores, [1.0], [1, 0], random.Random(seed))[0][0] == 0 for seed in range(4000)) / 4000
    assert first == pytest.approx(float(confidence[0] / confidence.sum()), abs=0.03)


def test_a_class_without_predictions_is_named() -> None:
    with pytest.raises(EmptyClass) as caught:
        next_set(torch.tensor([[[2.0, 0.0], [1.0, 0.0]]]), [1.0], [1, 1], random.Random(0))
    assert caught.value.label == 1


@pytest.mark.parametrize("tune", ["frozen", "lm"])
def test_patterns_teach_a_student(tune: str, tmp_path: Path) -> None:
    backbone = tiny_backbone("gpt2")
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    settings = PetSettings(patterns=PATTERNS, unlabelled=MORE, seeds=2)
    task = run_pet(recipe(tune=tune), settings, out=tmp_path / "run")
    figures = task.facts["pet"]
    assert [(one["pattern"], one["seed"]) for one in figures["members"]] == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert sum(one["weight"] for one in figures["members"]) == pytest.approx(1)
    assert figures["language_model"] == ("tuned" if tune == "lm" else "frozen") and figures["unlabelled_rows"] == len(MORE)
    assert all(torch.equal(before[name], value) for name, value in backbone.model.state_dict().items())
    saved = ptune.load(tmp_path / "run" / "bundle", backbone=backbone)
    texts = ["a great film", "bad"]
    for one, two in zip(saved.predict(texts), task.predict(texts), strict=True):
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-5)


def test_the_student_comes_near_its_teachers() -> None:
    """A head on the encoder learns what two patterns say of texts, and no label of these."""
    settings = PetSettings(patterns=PATTERNS[:1], unlabelled=MORE, student={"steps": 150, "learning_rate": 0.05})
    task = run_pet(recipe(steps=40), settings)
    started = run_pet(recipe(steps=40), settings.model_copy(update={"student": {"steps": 1, "learning_rate": 1e-9}}))
    assert task.facts["tuned"]["accuracy"] >= started.facts["tuned"]["accuracy"]
    assert task.model.temperature == 1.0


def test_generations_grow_and_end_where_a_class_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    few = recipe(train=ROWS[:2] + ROWS[5:7])
    grown = run_pet(few, PetSettings(patterns=PATTERNS, unlabelled=MORE, generations=2, growth=2), say=said.append)
    assert grown.facts["pet"]["ended_early"] == "" or "no unlabelled text" in grown.facts["pet"]["ended_early"]
    monkeypatch.setattr("ptune.strategy.pet.next_set", _nobody)
    ended = run_pet(few, PetSettings(patterns=PATTERNS, unlabelled=MORE, generations=3), say=said.append)
    assert "'bad'" in ended.facts["pet"]["ended_early"] and ended.facts["tuned"]["num_rows"] == 4


def _nobody(*_: Any) -> None:
    raise EmptyClass(1)


def test_renamed_columns_are_renamed_once() -> None:
    rows = [{"review": row["text"], "label": row["label"]} for row in ROWS]
    more = [{"review": text} for text in MORE]
    renamed = recipe(train=rows, test=rows[:4], columns={"review": "text"})
    one = run_pet(renamed, PetSettings(patterns=PATTERNS[:1], unlabelled=more))
    other = run_pet(recipe(), PetSettings(patterns=PATTERNS[:1], unlabelled=MORE))
    assert one.facts["pet"] == other.facts["pet"]


def test_a_head_may_be_the_student() -> None:
    settings = PetSettings(patterns=PATTERNS, unlabelled=MORE, student={"head": "linear", "labels": ["good", "bad"]})
    task = run_pet(recipe(), settings)
    assert task.model.head is not None and task.labels == ("good", "bad")


def test_patterns_learn_each_label_by_itself_and_the_student_distributions() -> None:
    task = run_pet(recipe(label_loss="decoupled"), PetSettings(patterns=PATTERNS, unlabelled=MORE))
    assert task.model.label_loss == "cross-entropy" and task.facts["tuned"]["num_rows"] == 4


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"patterns": PATTERNS, "student": {"label_loss": "decoupled"}}, "learns distributions"),
        ({"patterns": [{"labels": {}}], "unlabelled": MORE}, "no template"),
        ({"patterns": [{"template": "{text}{soft:1} It was{mask}", "labels": {"a": ["x"], "b": ["y"]}}]}, "same labels"),
        ({"patterns": [{"template": "{txt}{soft:1} It was{mask}"}]}, "txt"),
    ],
)
def test_faults_are_found_before_training(section: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        run_pet(recipe(), PetSettings(**{"unlabelled": MORE, **section}))


def test_a_recipe_that_says_how_its_model_is_loaded_has_patterns_too(tiny_folder: Callable[[str], str]) -> None:
    named = {"train": ROWS, "labels": {"good": ["good"], "bad": ["bad"]}, "template": "{text}{soft:3} It was{mask}", "steps": 1}
    loaded = Recipe.of({**named, "backbone": tiny_folder("gpt2"), "dtype": "bf16", "device": "cpu"})
    task = run_pet(loaded, PetSettings(patterns=PATTERNS, unlabelled=MORE[:4]))
    assert task.model.backbone.dtype == torch.bfloat16 and len(task.facts["pet"]["members"]) == 2


def test_a_section_is_read_with_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("text\ngood\nbad\n", encoding="utf-8")
    text = (
        "train: x.csv\nbackbone: smollm2-135m-q4\ntemplate: '{text}{soft:2} It was{mask}'\nlabels: {a: [good], b: [bad]}\n"
        "pet:\n  unlabelled: more.csv\n  patterns:\n    - {template: '{text}{soft:1} So{mask}'}\n"
    )
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    chosen, settings = read_section(tmp_path / "recipe.yaml", "pet", PetSettings)
    assert settings.unlabelled == str(tmp_path / "more.csv") and chosen.seed == 0
    with pytest.raises(PtuneError, match="temperature"):
        read_section(tmp_path / "recipe.yaml", "pet", PetSettings, {"pet.temprature": 3})


def test_a_missing_key_of_a_section_is_named() -> None:
    with pytest.raises(RecipeError, match=r"r.yaml: the key 'pet.patterns' is missing \(see docs/strategies.md"):
        section_of({}, "pet", PetSettings, where="r.yaml")
    with pytest.raises(RecipeError, match=r"there is no key 'pet.pattern' \(did you mean 'patterns'"):
        section_of({"pattern": []}, "pet", PetSettings, where="r.yaml")


def test_one_recipe_holds_sections_of_several_strategies(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    words = {"train": "rows.csv", "template": "{text}{soft:2}{mask}", "labels": {"a": "good", "b": "bad"}, "backbone": "tiny"}
    pet = {"patterns": [{"template": "{text} It was{mask}"}], "unlabelled": "more.csv"}
    path.write_text(yaml.safe_dump({**words, **{key: {} for key in SECTIONS}, "pet": pet}), encoding="utf-8")
    assert read_section(path, "pet", PetSettings)[1].unlabelled == "more.csv"
    for strategy, settings in {"icl": InContextSettings, "cot": ChainOfThoughtSettings, "search": SearchSettings}.items():
        assert read_section(path, strategy, settings)[1] == settings()


def test_a_stopped_run_goes_on_without_its_finished_models(tmp_path: Path) -> None:
    settings = PetSettings(patterns=PATTERNS, unlabelled=MORE, seeds=2, generations=2, growth=2, teachers=1)
    whole = run_pet(recipe(), settings, out=tmp_path / "whole")
    steps: list[int] = []

    def stops(event: Any) -> None:
        steps.append(event.step)
        if len(steps) == 6 * 3:  # within the third model
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pet(recipe(), settings, out=tmp_path / "parts", listeners=[stops])
    finished = sorted(path.name for path in (tmp_path / "parts" / "members").iterdir())
    assert finished == ["1-0.pt", "1-1.pt"]
    with pytest.raises(PtuneError, match="not empty"):
        run_pet(recipe(), settings, out=tmp_path / "parts")
    with pytest.raises(PtuneError, match="other recipe"):
        run_pet(recipe(steps=7), settings, out=tmp_path / "parts", resume=True)
    trained: list[int] = []
    parts = run_pet(
        recipe(), settings, out=tmp_path / "parts", resume=True, listeners=[lambda event: trained.append(event.step)]
    )
    assert trained.count(1) == 8 - 2 + 1  # two generations of four models, two of them there, and the student
    assert parts.facts["pet"] == whole.facts["pet"]
    one, two = (task.predict(["a great film"])[0].probabilities for task in (whole, parts))
    assert one == pytest.approx(two, abs=1e-6)


def test_models_read_on_while_they_learn() -> None:
    """The loss of a step is (1 - a) of the task's and a of the texts'; with a = 0 it is the task's."""
    from ptune.model import LanguageModel, ReadingAlong
    from ptune.recipe import build_model, read_splits

    chosen = recipe(tune="lm", method="hard", template="{text} It was{mask}")
    model: Any = build_model(chosen, chosen.backbone, read_splits(chosen))
    rows = model.prepare(read_splits(chosen).train)
    along = ReadingAlong(model, MORE, weight=0.3, batch_size=4)
    batch = along.batch(rows, [0, 1, 2, 3])
    torch.manual_seed(7)
    loss = along(batch).loss
    reader = LanguageModel(chosen.backbone)
    texts = reader.prepare(MORE, max_length=model.max_length)
    torch.manual_seed(7)
    read = reader(reader.batch(texts, torch.randint(len(texts), (4,)).tolist())).loss
    torch.testing.assert_close(loss, 0.7 * model(batch).loss + 0.3 * read)
    assert along.looks(rows) == model.looks(rows)

    settings = PetSettings(patterns=[{"template": "{text} It was{mask}"}], unlabelled=MORE)
    plain = run_pet(recipe(tune="lm", method="hard", template="{text} It was{mask}"), settings)
    read_on = run_pet(chosen, settings.model_copy(update={"language_loss": 0.5}))
    assert plain.facts["pet"]["members"] and read_on.facts["pet"]["members"]
    with pytest.raises(RecipeError, match="frozen model"):
        run_pet(recipe(), settings.model_copy(update={"language_loss": 0.5, "patterns": PATTERNS}))
