"""Ways to learn from few labels as contenders: the library's own runs, wordings that reach one method alone, right reasons."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ptune
from ptune.compare.cells import CellRunner
from ptune.compare.contender import Contender, Registry, Setup
from ptune.compare.own_methods import OwnMethod
from ptune.compare.run import Comparison, run_comparison
from ptune.compare.samples import Pools, SeedRows
from ptune.compare.spec import Spec, read_spec
from ptune.compare.store import Store
from ptune.compare.strategy_methods import StrategyMethod
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.recipe import Recipe
from ptune.strategy import (
    InContextSettings,
    PetSettings,
    RefineSettings,
    TemplateSearchSettings,
    refine_words,
    run_in_context,
    run_pet,
    search_labels,
    search_template,
)
from summaries import spec_of
from tiny import tiny_backbone

SetupOn = Callable[..., Setup]
Words = dict[str, Any]
Rows = tuple[Example, ...]
SPECS = Path(__file__).parents[2] / "bench" / "specs" / "compare"
PATTERNS = [
    {"template": "{text}{soft:2} It was{mask}"},
    {"template": "{text}{soft:2} The film is{mask}", "labels": {"yes": ["good"], "no": ["terrible"]}},
]
LISTS = {"yes": ["great", "good"], "no": ["bad", "terrible"]}
WORDINGS = {"pet": {"patterns": PATTERNS}, "refined-words": {"words": LISTS}, "word-weights": {"words": LISTS}}
STEPS = {"steps": 12, "batch_size": 4, "seed": 3}


def contender(name: str) -> Contender:
    """One with the wordings above."""
    found = Registry.get(name)
    setup = Setup(("yes", "no"), "en", {"template": "{text}{soft:3} It was{mask}", "labels": {"yes": ["great"], "no": ["bad"]}})
    if name not in WORDINGS:
        return found
    assert isinstance(found, OwnMethod)
    return found.reworded(WORDINGS[name], setup, {"train": [], "backbone": "any", "steps": None}, "here")


def probabilities(task: ptune.Task, rows: Rows) -> Any:
    """Of yes and no."""
    found = task.predict([row.fields for row in rows])
    return np.array([[one.probabilities[name] for name in ("yes", "no")] for one in found])


# -- the library's own runs ------------------------------------------------------------------------------------------


def in_context(recipe: Words, rows: Rows, **section: Any) -> ptune.Task:
    words = {**recipe, "template": "{demos}{text} It was{mask}", "method": "hard", "train": rows}
    return run_in_context(Recipe.of(words), InContextSettings(**section)).tasks[0]


def pet(recipe: Words, rows: Rows) -> ptune.Task:
    settings = PetSettings(patterns=PATTERNS, unlabelled=[dict(row.fields) for row in rows])
    return run_pet(Recipe.of({**recipe, **STEPS, "train": rows}), settings)


def refined(recipe: Words, rows: Rows, **keys: Any) -> Words:
    hard = {**recipe, "method": "hard", "template": "{text} It was{mask}", "train": rows, "seed": 3}
    settings = RefineSettings(words=LISTS, unlabelled=[dict(row.fields) for row in rows], **keys)
    return refine_words(Recipe.of(hard), settings).labels


def by_hand(name: str, recipe: Words, train: Rows, validation: Rows) -> ptune.Task:
    """What the documentation of the strategy says to do, without the comparison."""
    learned = {**recipe, **STEPS, "train": train, "validation": validation}
    hard = {**recipe, "template": "{text} It was{mask}", "method": "hard", "train": train}
    match name:
        case "in-context":
            return in_context({**recipe, "seed": 3}, train, per_label=2)
        case "in-context-nearest":
            return in_context(recipe, train, per_label=2, choose="nearest")
        case "p-tuning-demonstrations":
            words = {**learned, "template": "{demos}{text}{soft:3} It was{mask}", "validation": None}
            return run_in_context(Recipe.of(words), InContextSettings(choose="nearest", per_label=1)).tasks[0]
        case "searched-words":
            found = search_labels(Recipe.of({**learned, "labels": {"yes": ["yes"], "no": ["no"]}})).to_dict()
            return ptune.fit(**{**learned, "labels": found["labels"], "length": found.get("length", "auto")})
        case "searched-template":
            best = search_template(Recipe.of({**hard, "seed": 3}), TemplateSearchSettings(ways=("edits",))).best.template
            return ptune.fit(**{**hard, "template": best})
        case "refined-words":
            return ptune.fit(**{**hard, "labels": refined(recipe, train, keep=0.75), "aggregate": "logsumexp"})
        case "word-weights":
            kept = {label: list(words) for label, words in refined(recipe, train).items()}
            return ptune.fit(**{**learned, "labels": kept, "head": "weights"})
        case "pet":
            return pet(recipe, train)
        case "label-vectors" | "prototypes":
            return ptune.fit(**learned, head=name.removeprefix("label-"))
        case "entailment":
            asked = {"template": "{text}{soft:3} It was {choice}, yes or no?{mask}", "yes_no": ["Yes", "No"]}
            return ptune.fit(**{**learned, **asked, "task": "entailment"})
        case _:
            keys = {
                "zero-shot-contextual": {"calibration": "contextual"},
                "zero-shot-domain": {"calibration": "domain"},
                "zero-shot-batch": {"calibration": "batch"},
                "p-tuning-words": {"learn": "words"},
                "p-tuning-words-folds": {"learn": "words", "folds": 4},
                "p-tuning-decoupled": {"label_loss": "decoupled"},
                "p-tuning-augmented": {"augment": {"copies": 2, "punctuate": 0.1}},
            }
            own = {"method": "hard", "template": "{text} It was{mask}"} if name.startswith("zero-shot") else {}
            return ptune.fit(**{**learned, **keys[name], **own})


SETTINGS: dict[str, Words] = {
    "in-context": {"per_label": 2},
    "in-context-nearest": {"per_label": 2},
    "searched-template": {"ways": ["edits"]},
    "refined-words": {"keep": 0.75},
    **{name: {} for name in ("zero-shot-contextual", "zero-shot-domain", "zero-shot-batch")},
}
WAYS = [
    *SETTINGS,
    *("p-tuning-demonstrations", "searched-words", "word-weights", "pet", "label-vectors", "prototypes", "entailment"),
    *("p-tuning-words", "p-tuning-words-folds", "p-tuning-decoupled", "p-tuning-augmented"),
]


@pytest.mark.parametrize("name", WAYS)
def test_a_way_is_the_librarys_own(name: str, setup_on: SetupOn, examples: Rows, tmp_path: Path) -> None:
    """The same answers as without a comparison, also when they come from the bundle that is kept."""
    kind = "llama" if name == "in-context" else "gpt2"
    setup = setup_on(kind, unlabelled=tuple(Example(row.fields) for row in examples))
    settings = SETTINGS.get(name, {"rate_factor": 1.0})
    validation = examples[:2] + examples[-2:]
    one = contender(name)
    fitted = one.fit(setup, examples, validation, seed=3, settings=settings)
    asked = tuple(Example(row.fields) for row in examples[3:9])
    expected = probabilities(by_hand(name, {**setup.recipe, "backbone": setup.backbone}, examples, validation), asked)
    np.testing.assert_allclose(fitted.predict(asked), expected, atol=1e-5)
    assert fitted.save(tmp_path / "bundle")
    kept = one.load(tmp_path / "bundle", setup)
    assert kept is not None
    np.testing.assert_allclose(kept.predict(asked), expected, atol=1e-5)


def test_the_page_names_every_method() -> None:
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert {*WAYS, "ipet", "p-tuning-ensemble", "p-tuning-v2-r-drop"} <= set(Registry.contenders)
    assert [name for name in Registry.contenders if f"`{name}`" not in page] == []


def test_a_question_is_made_in_the_language_of_the_texts(setup_on: SetupOn) -> None:
    recipe = {"template": "{text}\n结论：非常{mask}", "labels": {"yes": ["好"], "no": ["差"]}}
    entailment = Registry.get("entailment")
    assert isinstance(entailment, OwnMethod)
    chinese = entailment.words(replace(setup_on("gpt2"), recipe=recipe, language="zh"))
    assert (chinese["template"], chinese["yes_no"]) == ("{text}{soft:8}\n结论：非常{choice}，对吗？{mask}", ["对", "错"])
    english = entailment.words(replace(setup_on("gpt2"), recipe={**recipe, "template": "{text} It was {mask} ."}))
    assert english["template"] == "{text}{soft:8} It was {choice}, yes or no?{mask}"


def test_trials_are_those_of_the_section_or_rates() -> None:
    assert Registry.get("in-context-nearest").trials(2) == [{"per_label": 4}, {"per_label": 2}]
    assert Registry.get("refined-words").trials(3) == [{"keep": 0.5}, {"keep": 0.25}, {"keep": 0.75}]
    assert Registry.get("pet").trials(2)[1].keys() == {"rate_factor"} and len(Registry.get("searched-template").trials(5)) == 3


def test_demonstrations_are_fewer_where_rows_are(setup_on: SetupOn, examples: Rows) -> None:
    """Two of each label: as many are shown to all texts, and one less where each text has its own."""
    few = examples[:2] + examples[6:8]
    for name, shown in (("in-context", 2), ("in-context-nearest", 1)):
        fitted = Registry.get(name).fit(setup_on("llama"), few, few, seed=0, settings={"per_label": 8})
        assert fitted.facts["demonstrations"] == shown


def test_an_ensemble_of_one_is_the_one(setup_on: SetupOn, examples: Rows) -> None:
    both = [
        Registry.get(name).fit(setup_on("gpt2"), examples, examples, seed=1, settings=settings).predict(examples)
        for name, settings in (("p-tuning-ensemble", {"candidates": 1}), ("p-tuning", {"rate_factor": 1.0}))
    ]
    assert np.array_equal(*both)


# -- texts without labels --------------------------------------------------------------------------------------------


def test_unlabelled_texts_come_by_chance(words: Words, tmp_path: Path) -> None:
    """From a file that is sorted by label, too; each keeps its place when another text changes."""
    rows = sorted(words["train"], key=lambda row: str(row["label"]))
    found = Comparison(spec_of({**words, "train": rows}, methods=["majority"], unlabelled=20), tmp_path)
    label = {row["text"]: row["label"] for row in rows}
    first = [str(row.fields["text"]) for row in found.unlabelled]
    assert len(first) == 20 and {label[text] for text in first[:10]} == {"yes", "no"}
    rows[0] = {**rows[0], "text": "another text"}
    again = Comparison(spec_of({**words, "train": rows}, methods=["majority"], unlabelled=20), tmp_path)
    assert len({*first} - {str(row.fields["text"]) for row in again.unlabelled}) <= 1


def test_a_way_counts_the_texts_that_it_reads(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry.get("refined-words"), "most_unlabelled", 7)
    spec = spec_of(words, methods=["refined-words", "bilstm"], wordings={"refined-words": {"words": LISTS}}, seeds=[1])
    cells = {cell.method: cell for cell in run_comparison(spec, tmp_path).cells}
    assert cells["refined-words"].num_unlabelled == 7 and cells["bilstm"].num_unlabelled == 60


# -- wordings --------------------------------------------------------------------------------------------------------


def test_a_wording_reaches_its_method_alone(words: Words, tmp_path: Path) -> None:
    methods = ["pet", "zero-shot", "refined-words"]
    spec = spec_of(words, methods=methods, wordings=WORDINGS, seeds=[1], trials=1)
    run_comparison(spec, tmp_path)
    other = {**WORDINGS, "pet": {"patterns": PATTERNS[:1]}}
    after = run_comparison(spec_of(words, methods=methods, wordings=other, seeds=[1], trials=1), tmp_path)
    assert [(cell.method, cell.reason) for cell in after.cells if cell.was_computed] == [("pet", "")]
    assert next(cell.fit.facts for cell in after.cells if cell.fit and cell.method == "pet") == {"patterns": 1}


def test_a_wording_changes_no_other_comparison(words: Words) -> None:
    spec_of(words, methods=["pet"], wordings={"pet": {"patterns": PATTERNS}})
    plain = Registry.get("pet")
    assert isinstance(plain, StrategyMethod) and "patterns" not in plain.identity["section"]


def test_columns_of_a_wording_are_kept(words: Words, tmp_path: Path) -> None:
    """Of patterns and of templates for demonstrations that read more than the recipe's template does."""
    shops = {name: [{**row, "shop": "the food"} for row in words[name]] for name in ("train", "test")}
    wordings = {
        "pet": {"patterns": [{"template": "{shop} {text}{soft:2} It was{mask}"}]},
        "in-context-nearest": {"template": "{shop} {text} It was{mask}"},
    }
    outcome = run_comparison(
        spec_of({**words, **shops}, methods=list(wordings), wordings=wordings, seeds=[1], trials=1), tmp_path
    )
    assert [cell.reason for cell in outcome.cells] == ["", ""]


@pytest.mark.parametrize(
    ("wordings", "message"),
    [
        ({"p-tuning": {"template": "{text}{mask}"}}, "'p-tuning' asks with the recipe's own template and words"),
        ({"pett": {}}, "there is no method 'pett' to compare .did you mean 'pet'"),
        ({"pet": {"pattern": []}}, "'pattern' is no wording of pet .did you mean 'patterns'"),
        ({"entailment": {"steps": 500}}, "'steps' is no wording of entailment .it takes template, labels, yes_no"),
        ({"pet": {"patterns": ["{text}{mask}"]}}, "the patterns are no list of templates"),
        (
            {"pet": {"patterns": [{"template": "{text} It was{mask}", "steps": 300}]}},
            "pet.patterns: 'steps' is no wording of a pattern .it takes template, labels",
        ),
        (
            {"pet": {"patterns": [{"template": "{text} It was{mask}", "labels": {"yes": ["great"], "maybe": ["good"]}}]}},
            r"pet.patterns\[0\]: the labels are yes, maybe, the recipe's yes, no",
        ),
        ({"refined-words": {"words": {"yes": ["great"]}}}, "these are no lists of words for the labels .give a list of words"),
        (
            {"entailment": {"template": "{text} It was {choice}?{mask}"}},
            "entailment, template: the template has no learned tokens",
        ),
        ({"entailment": {"template": "{text}{soft} It was{mask}"}}, "does not say where a label is asked for"),
        ({"entailment": {"labels": {"a": "great", "b": "bad"}}}, "the labels are a, b, the recipe's yes, no"),
        ({"in-context": {"template": "{text} It was{mask"}}, "wordings.in-context, template: a brace that is never closed"),
    ],
)
def test_wrong_wordings_are_named_before_any_work(words: Words, wordings: Words, message: str) -> None:
    methods = ["zero-shot", "pet", "refined-words", "entailment", "in-context", "p-tuning"]
    with pytest.raises(PtuneError, match=message):
        spec_of(words, methods=methods, wordings=wordings)


# -- reasons ---------------------------------------------------------------------------------------------------------


def test_what_lacks_a_wording_says_which(words: Words, tmp_path: Path) -> None:
    methods = ["pet", "ipet", "refined-words", "word-weights"]
    found = {cell.method: cell.reason for cell in run_comparison(spec_of(words, methods=methods, seeds=[1]), tmp_path).cells}
    assert all("name them under compare.wordings" in found[name] for name in ("pet", "ipet"))
    assert all("give them under compare.wordings" in found[name] for name in ("refined-words", "word-weights"))
    none = spec_of(words, methods=["pet"], wordings={"pet": {"patterns": PATTERNS}}, seeds=[1], unlabelled=0)
    assert "set compare.unlabelled above 0" in run_comparison(none, tmp_path).cells[0].reason


def test_the_recipes_own_lists_are_refined(words: Words, tmp_path: Path) -> None:
    spec = spec_of({**words, "labels": LISTS}, methods=["refined-words"], seeds=[1], trials=1)
    (cell,) = run_comparison(spec, tmp_path).cells
    assert cell.reason == "" and cell.fit is not None and cell.fit.facts["words"].keys() == {"yes", "no"}


@pytest.mark.parametrize("name", ["in-context", "in-context-nearest"])
def test_demonstrations_alone_are_for_causal_models(name: str, setup_on: SetupOn) -> None:
    assert Registry.get(name).refusal(setup_on("bert")) == "in-context learning is for causal models"
    assert Registry.get(name).refusal(setup_on("gpt2")) == ""
    assert Registry.get("p-tuning-demonstrations").refusal(setup_on("bert")) == ""


# -- the project's own comparisons -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_spec_holds_peft_beside_ptune(path: Path) -> None:
    names = {one.name for one in read_spec(path).contenders}
    assert {"p-tuning", "prompt-tuning", "p-tuning-v2", "peft-prompt-tuning", "peft-prefix-tuning", "peft-p-tuning"} <= names


@pytest.mark.parametrize("name", ["sst2", "zh_shopping"])
def test_a_comparison_of_all_methods_gives_each_its_wordings(name: str) -> None:
    spec: Spec = read_spec(SPECS / f"{name}.yaml")
    setup = Setup(tuple(spec.recipe["labels"]), "en", spec.words, tiny_backbone("gpt2"), unlabelled=(Example({"text": "a"}),))
    own = [one for one in spec.contenders if isinstance(one, StrategyMethod)]
    assert len(spec.contenders) == len(Registry.contenders) and [one.refusal(setup) for one in own] == [""] * len(own)
    assert {one.name for one in own} >= {"pet", "ipet", "refined-words", "word-weights", "in-context-nearest"}


def test_a_section_is_part_of_a_key(setup_on: SetupOn, tmp_path: Path) -> None:
    runner = CellRunner(Store(tmp_path), Pools((), (), {"test": ()}))
    setup = setup_on("gpt2", unlabelled=(Example({"text": "a"}),))
    keys = {
        runner.key(one, setup, SeedRows((), ()), 1, {}) for one in (contender("pet"), Registry.get("pet"), Registry.get("ipet"))
    }
    assert len(keys) == 3
    more = replace(setup, unlabelled=(*setup.unlabelled, Example({"text": "b"})))
    assert runner.key(contender("pet"), more, SeedRows((), ()), 1, {}) not in keys
