"""Equal chances: the same texts and trials for all methods, each cell as if it stood alone, and right reasons."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ptune.compare.baselines.optional import package_version
from ptune.compare.cells import CellRunner
from ptune.compare.contender import Fitted, Probabilities, Registry, Setup
from ptune.compare.own_methods import OwnMethod, own_method
from ptune.compare.run import run_comparison
from ptune.compare.samples import Pools, SeedRows
from ptune.compare.spec import read_spec
from ptune.compare.store import Store, files_of
from ptune.data import Example
from ptune.errors import PromptError
from ptune.template import resolve
from summaries import figures, make_rows, spec_of
from tiny import tiny_backbone

SetupOn = Callable[..., Setup]
Words = dict[str, Any]
SPECS = sorted((Path(__file__).parents[2] / "bench" / "specs" / "compare").glob("*.yaml"))


def reasons(outcome: Any) -> dict[str, str]:
    return {cell.method: cell.reason for cell in outcome.cells}


def key(folder: Path, name: str, setup: Setup) -> str:
    """Of a fit without rows."""
    return CellRunner(Store(folder), Pools((), (), {"test": ()})).key(Registry.get(name), setup, SeedRows((), ()), 1, {})


# -- rows and texts --------------------------------------------------------------------------------------------------


def test_the_majority_is_that_of_the_training_file(words: Words, tmp_path: Path) -> None:
    """The shots are as many of each label, the file is not."""
    mostly_no = [row for at, row in enumerate(make_rows(60)) if row["label"] == "no" or at < 30]
    (cell,) = run_comparison(spec_of({**words, "train": mostly_no}, methods=["majority"], seeds=[1]), tmp_path).cells
    assert cell.probabilities["test"].tolist() == [pytest.approx([1 / 3, 2 / 3])] * 20


def test_label_counts_matter_to_the_majority_alone(setup_on: SetupOn, tmp_path: Path) -> None:
    one, other = setup_on(label_counts=(3, 5)), setup_on(label_counts=(5, 3))
    assert key(tmp_path, "majority", one) != key(tmp_path, "majority", other)
    assert key(tmp_path, "tfidf-svm", one) == key(tmp_path, "tfidf-svm", other)


def test_only_the_templates_fields_make_a_text(words: Words, tmp_path: Path) -> None:
    """An id in another column hides no leak, and a changed one computes nothing again."""

    def numbered(rows: list[dict[str, str]], start: int) -> list[dict[str, str]]:
        return [{**row, "id": str(start + at)} for at, row in enumerate(rows)]

    first = {**words, "train": numbered([*words["train"], *words["test"]], 0), "test": numbered(words["test"], 1000)}
    outcome = run_comparison(spec_of(first, methods=["majority", "tfidf-svm"]), tmp_path)
    assert len(outcome.pools.train) == 60
    second = {**words, "train": numbered([*words["train"], *words["test"]], 500), "test": numbered(words["test"], 3)}
    assert run_comparison(spec_of(second, methods=["majority", "tfidf-svm"]), tmp_path).num_computed == 0


def test_texts_of_further_test_sets_are_never_learned_from(words: Words, tmp_path: Path) -> None:
    other = make_rows(8, seed=5)
    spec = spec_of({**words, "train": [*words["train"], *other]}, methods=["majority"], tests={"other": other})
    pools = run_comparison(spec, tmp_path).pools
    assert len(pools.train) == 60 and "8 training rows are test texts too and were left out" in pools.remarks


def test_a_template_of_its_own_may_read_other_columns(words: Words, tmp_path: Path) -> None:
    shops = {name: [{**row, "shop": "the food"} for row in words[name]] for name in ("train", "test")}
    spec = spec_of({**words, **shops}, methods=[{"mine": {"method": "hard", "template": "{shop} {text} It was{mask}"}}])
    assert set(reasons(run_comparison(spec, tmp_path)).values()) == {""}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_rivals_read_the_words_that_learned_tokens_start_from(path: Path) -> None:
    spec = read_spec(path)
    method = spec.recipe["method"]
    assert not isinstance(method, dict) or "init_text" not in method
    hard = str(resolve(spec.recipe["template"]).without_soft())
    assert path.stem != "sst2" or hard == "Movie review: {text} In summary, the film is{mask}"


# -- how a method learns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "learning",
    [
        {"learning_rate": 0.5, "candidates": 3, "keep_candidates": "best", "patience": 1, "temperature": True, "hold_out": 2},
        {"head": "linear", "pool": "last", "tune": "lm", "label_smoothing": 0.2},
        {"ema": 0.5, "accumulate": 2, "evaluate_every": 1, "optimizer": "adafactor", "learn": "words"},
    ],
)
def test_how_a_recipe_learns_is_no_method_of_a_comparison(words: Words, tmp_path: Path, learning: Words) -> None:
    """The same cells as without these keys; PEFT's rows read label words as before."""
    plain = {**words, "template": '{text}{soft:" It was"}{mask}'}
    methods = ["zero-shot", "zero-shot-prior", "p-tuning", "p-tuning-head", "peft-prompt-tuning"]
    before = run_comparison(spec_of(plain, methods=methods, seeds=[1], trials=1), tmp_path)
    after = run_comparison(spec_of({**plain, **learning}, methods=methods, seeds=[1], trials=1), tmp_path)
    assert after.num_computed == 0 and figures(after) == figures(before) and len(figures(after)) == len(methods)


def test_names_that_speak_of_the_prior_mean_it(words: Words, tmp_path: Path) -> None:
    methods = ["zero-shot", "zero-shot-prior", "p-tuning-head"]
    plain = figures(run_comparison(spec_of(words, methods=methods, seeds=[1]), tmp_path / "plain"))
    for number, kept in enumerate([{"prior": "keep"}, {"calibration": "batch"}, {"calibration": "none"}]):
        assert figures(run_comparison(spec_of({**words, **kept}, methods=methods, seeds=[1]), tmp_path / str(number))) == plain


def test_renamed_columns_and_a_models_own_keys_reach_no_method(
    words: Words, tmp_path: Path, tiny_folder: Callable[[str], str]
) -> None:
    """Rows are read and the model is loaded when a method gets them."""
    renamed = {name: [{"review": row["text"], "label": row["label"]} for row in words[name]] for name in ("train", "test")}
    recipe = {**words, **renamed, "columns": {"review": "text"}, "dtype": "fp32", "device": "cpu"}
    spec = spec_of(recipe, methods=["zero-shot", "p-tuning", "peft-p-tuning"], backbones=[tiny_folder("gpt2")], seeds=[1])
    outcome = run_comparison(spec, tmp_path)
    assert set(reasons(outcome).values()) == {""}
    assert [cell.fit.facts["readout"] for cell in outcome.cells if cell.fit and "peft" in cell.method] == ["label words"]


def test_candidates_are_trials(words: Words, tmp_path: Path) -> None:
    methods = ["p-tuning", "p-tuning-candidates", "p-tuning-ensemble", {"many": {"method": "p-tuning", "candidates": 3}}]
    first = run_comparison(spec_of(words, methods=methods), tmp_path)
    tried = {(cell.method, cell.seed): cell.num_trials for cell in first.cells}
    assert [tried[name, 1] for name in ("p-tuning", "p-tuning-candidates", "p-tuning-ensemble", "many")] == [2, 2, 2, 6]
    assert [tried[name, 2] for name in ("p-tuning", "p-tuning-candidates", "p-tuning-ensemble", "many")] == [1, 1, 2, 3]
    each = run_comparison(spec_of(words, methods=methods[:2], tune_on="each"), tmp_path)
    assert [cell.num_trials for cell in each.cells] == [2] * 4 and set(reasons(each).values()) == {""}


def test_further_seeds_take_the_chosen_candidates_rate(words: Words, tmp_path: Path) -> None:
    """On them one prompt learns, as without candidates, and as on the first seed also in a run that goes on."""
    outcome = run_comparison(spec_of(words, methods=["p-tuning-candidates"], trials=3), tmp_path)
    first, second = (cell.fit for cell in outcome.cells)
    assert first is not None and second is not None and first.settings == {"candidates": 3}
    assert second.settings == {"learning_rate": first.facts["learning_rate"]}
    assert run_comparison(spec_of(words, methods=["p-tuning-candidates"], trials=3), tmp_path).num_computed == 0
    rate = {"alone": {"method": "p-tuning", "learning_rate": first.facts["learning_rate"]}}
    alone = figures(run_comparison(spec_of(words, methods=[rate], seeds=[2], trials=1), tmp_path))
    assert figures(outcome)["p-tuning-candidates", 2] == alone["alone", 2]


def test_methods_of_ones_own_begin_with_the_recipe(words: Words, tmp_path: Path) -> None:
    deep = {"name": "p-tuning-v2", "num_tokens": 4}
    recipe = {**words, "template": "{text} It was{mask}", "method": deep}
    spec = spec_of(recipe, methods=[{"short": {"steps": 3}, "long": {"epochs": 2}, "hard": {"method": "hard"}}], seeds=[1])
    short, long, hard = spec.contenders
    assert isinstance(short, OwnMethod) and isinstance(long, OwnMethod)
    setup = Setup(("yes", "no"), "en", spec.words, tiny_backbone("gpt2"))
    assert short.words(setup)["method"] == deep and "{soft" not in short.words(setup)["template"]
    assert short.words(setup)["steps"] == 3 and "steps" not in long.words(setup) and hard.trials(3) == [{}]
    outcome = run_comparison(spec, tmp_path)
    assert set(reasons(outcome).values()) == {""}
    assert [cell.fit.curve[-1]["step"] for cell in outcome.cells if cell.fit and cell.fit.curve] == [3, 6]


def test_a_method_by_its_bare_name_keeps_the_recipes_settings(words: Words) -> None:
    given = {**words, "method": {"name": "p-tuning", "init_text": "great"}}
    for wanted in ("p-tuning", {"name": "p-tuning"}):
        mine = own_method("mine", {"method": wanted}, given)
        assert mine.words(Setup(("yes", "no"), "en", given))["method"] == given["method"]
    other = own_method("mine", {"method": "prompt-tuning"}, given)
    assert other.words(Setup(("yes", "no"), "en", given))["method"] == {"name": "prompt-tuning"}
    with pytest.raises(PromptError, match="did you mean p-tuning"):
        own_method("mine", {"method": "p-tunin"}, given)


# -- reasons and keys ------------------------------------------------------------------------------------------------


def test_a_failing_prediction_ends_its_cell_alone(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contender, real = Registry.get("tfidf-svm"), Registry.get("tfidf-svm").fit

    def fails_on_test_rows(*args: Any, **keywords: Any) -> Fitted:
        fitted = real(*args, **keywords)
        predict = fitted.predict

        def asked(rows: Sequence[Example]) -> Probabilities:
            if rows[0].label is None:
                raise RuntimeError("no memory")
            return predict(rows)

        fitted.predict = asked  # type: ignore[method-assign]
        return fitted

    monkeypatch.setattr(contender, "fit", fails_on_test_rows)
    spec = spec_of(words, methods=["tfidf-svm", "majority"], seeds=[1])
    assert reasons(run_comparison(spec, tmp_path)) == {"tfidf-svm": "RuntimeError: no memory", "majority": ""}
    monkeypatch.undo()
    assert reasons(run_comparison(spec, tmp_path))["tfidf-svm"] == ""


def test_a_task_that_cannot_be_kept_ends_its_cell_alone(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> bool:
        raise ValueError("no room")

    monkeypatch.setattr("ptune.compare.own_methods._Own.save", full)
    found = reasons(run_comparison(spec_of(words, methods=["zero-shot", "majority"], seeds=[1]), tmp_path))
    assert found == {"zero-shot": "ValueError: no room", "majority": ""}


def test_reasons_do_not_depend_on_the_time_left(words: Words, tmp_path: Path) -> None:
    methods = ["in-context", "zero-shot"]
    spec = spec_of(words, methods=methods, backbones=[tiny_backbone("bert"), "/no/such/model"], seeds=[1])
    outcome = run_comparison(spec, tmp_path, budget_seconds=0.0)
    found = {(cell.method, cell.backbone == "/no/such/model"): cell.reason for cell in outcome.cells}
    assert found["in-context", False] == "in-context learning is for causal models"
    assert found["zero-shot", False] == "no time left in the budget"
    assert all("there is no model at /no/such/model" in found[name, True] for name in methods)


def test_a_model_has_one_name(words: Words, tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    """Whether a cell has figures, was refused, or had no time."""
    folder = tiny_folder("bert")
    spec = spec_of(words, methods=["zero-shot", "in-context", "p-tuning"], backbones=[folder], seeds=[1])
    run_comparison(spec_of(words, methods=["zero-shot"], backbones=[folder], seeds=[1]), tmp_path)
    outcome = run_comparison(spec, tmp_path, budget_seconds=0.0)
    assert {cell.backbone for cell in outcome.cells} == {folder} and len(figures(outcome)) == 1


def test_files_that_a_recipe_names_are_part_of_a_key(setup_on: SetupOn, tmp_path: Path) -> None:
    texts, bundle = tmp_path / "texts.txt", tmp_path / "bundle"
    bundle.mkdir()
    setup = setup_on("gpt2")
    named = replace(setup, recipe={**setup.recipe, "calibration": {"name": "batch", "texts": str(texts)}})
    start = {"method": {"name": "p-tuning", "init_bundle": str(bundle)}}
    keys, starts = [], []
    for content in ("one", "other", "one"):
        texts.write_text(content)
        (bundle / "rows").write_text(content)
        keys.append(key(tmp_path, "p-tuning", named))
        starts.append(files_of(start))
        assert OwnMethod("mine", "mine", start).identity["files"] == starts[-1] != []
    assert keys[0] == keys[2] != keys[1] and starts[0] == starts[2] != starts[1]


def test_another_version_of_a_package_computes_anew(setup_on: SetupOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that a method uses."""
    names = {"tfidf-svm": None, "bilstm": None, "majority": None, "lora": "gpt2", "p-tuning": "gpt2", "setfit": "bert"}
    setups = {name: setup_on(kind) for name, kind in names.items()}

    def keys() -> dict[str, str]:
        return {name: key(tmp_path, name, setup) for name, setup in setups.items()}

    before = keys()
    uses = {"scikit-learn": {"tfidf-svm", "setfit"}, "gensim": {"bilstm"}, "peft": {"lora"}, "setfit": {"setfit"}}
    uses["torch"] = {"bilstm", "lora", "p-tuning", "setfit"}
    for package, users in uses.items():
        with monkeypatch.context() as patched:
            other = f"{package} 99.0"
            real = package_version
            patched.setattr(
                "ptune.compare.cells.package_version",
                lambda name, package=package, other=other, real=real: other if name == package else real(name),
            )
            assert {name for name, one in keys().items() if one != before[name]} == users


def test_another_version_computes_anew(setup_on: SetupOn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(tmp_path, "majority", setup_on())
    monkeypatch.setattr("ptune.compare.cells.version", lambda package: "99.0")
    assert key(tmp_path, "majority", setup_on()) != before
