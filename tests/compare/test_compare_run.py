"""Comparisons on a tiny model: nothing is computed twice, changes touch what they must, choices never see the test rows."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptune.compare.cells import Cell
from ptune.compare.contender import Contender, Fitted, Registry, Setup
from ptune.compare.jobs import run_jobs
from ptune.compare.recommendation import recommend
from ptune.compare.report.markdown import markdown
from ptune.compare.report.page import page
from ptune.compare.report.table import table
from ptune.compare.results import read_summary
from ptune.compare.run import run_comparison
from ptune.compare.spec import Spec, make_spec, read_spec
from ptune.compare.statistics import compare
from ptune.compare.summary import summarise
from ptune.data import Example
from ptune.errors import DataError, RecipeError
from summaries import METHODS, figures, make_rows, spec_of
from tiny import tiny_backbone


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is learned, loaded and predicted from here on."""
    counts: Counter[str] = Counter()
    for name in METHODS:
        contender = Registry.get(name)
        _count(monkeypatch, contender, "fit", counts)
        _count(monkeypatch, contender, "load", counts)
    return counts


def _count(monkeypatch: pytest.MonkeyPatch, contender: Contender, what: str, counts: Counter[str]) -> None:
    real = getattr(contender, what)

    def counting(*args: Any, **keywords: Any) -> Fitted:
        counts[f"{what} {contender.name}"] += 1
        counts[what] += 1
        fitted = real(*args, **keywords)
        predict = fitted.predict

        def asked(rows: Sequence[Example]) -> Any:
            counts[f"rows {contender.name}"] += len(rows)
            return predict(rows)

        fitted.predict = asked
        return fitted

    monkeypatch.setattr(contender, what, counting)


def test_every_cell_has_figures_or_a_reason(words: dict[str, Any], tmp_path: Path) -> None:
    spec = spec_of(words, methods="all", backbones=[tiny_backbone("gpt2")], seeds=[1], trials=1)
    outcome = run_comparison(spec, tmp_path)
    assert {cell.method for cell in outcome.cells} == set(Registry.contenders)
    for cell in outcome.cells:
        assert (cell.fit is None) == bool(cell.reason)
    reasons = {cell.method: cell.reason for cell in outcome.cells if cell.reason}
    without_wordings = {"pet", "ipet", "refined-words", "word-weights"}
    assert {"setfit", *without_wordings} <= set(reasons) <= {"setfit", "in-context", *without_wordings}


def test_a_second_run_recomputes_nothing(words: dict[str, Any], tmp_path: Path, counted: Counter[str]) -> None:
    first = run_comparison(spec_of(words), tmp_path)
    assert first.num_computed == 12 and counted["fit"] == 1 + 1 + 2 * 1 + 4 * (
        2 + 1
    )  # trials on the first seed, the best on the second
    counted.clear()
    second = run_comparison(spec_of(words), tmp_path)
    assert second.num_computed == 0 and not counted and figures(second) == figures(first)


def test_a_killed_run_goes_on(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_comparison(spec_of(words), tmp_path / "whole")
    contender, real, calls = Registry.get("p-tuning"), Registry.get("p-tuning").fit, []

    def killed(*args: Any, **keywords: Any) -> Fitted:
        calls.append(keywords["settings"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **keywords)

    monkeypatch.setattr(contender, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run_comparison(spec_of(words), tmp_path / "killed")
    rest = run_comparison(spec_of(words), tmp_path / "killed")
    assert calls[1] == calls[2] != calls[0]  # the first trial was kept, the second begun again
    assert rest.num_computed < whole.num_computed and figures(rest) == figures(whole)


def test_a_changed_test_text_is_the_only_one_asked(words: dict[str, Any], tmp_path: Path, counted: Counter[str]) -> None:
    before = run_comparison(spec_of(words), tmp_path)
    counted.clear()
    test = [dict(row) for row in words["test"]]
    test[3]["text"] = "an entirely different text"
    after = run_comparison(spec_of({**words, "test": test}), tmp_path)
    assert counted["fit p-tuning"] == counted["fit zero-shot"] == 0 and counted["load p-tuning"] == 2  # its bundle answers
    assert counted["fit tfidf-logistic"] == 2  # the chosen setting alone, once a seed
    assert all(counted[f"rows {name}"] == 2 for name in METHODS)
    old, new = figures(before), figures(after)
    assert all(new[at][:3] == old[at][:3] and new[at][4:] == old[at][4:] for at in old)


def test_a_changed_label_computes_nothing(words: dict[str, Any], tmp_path: Path, counted: Counter[str]) -> None:
    run_comparison(spec_of(words), tmp_path)
    counted.clear()
    test = [{**row, "label": "yes"} for row in words["test"]]
    assert run_comparison(spec_of({**words, "test": test}), tmp_path).num_computed == 0 and not counted


def test_a_changed_training_text_touches_its_seed(words: dict[str, Any], tmp_path: Path, counted: Counter[str]) -> None:
    settings = {"methods": ["tfidf-logistic", "p-tuning"], "tune_on": "each", "validation_shots": 3}
    spec = spec_of(words, **settings)
    before = run_comparison(spec, tmp_path)
    own = {seed: _texts_of(spec, tmp_path, seed) for seed in (1, 2)}
    only_first = next(text for text in sorted(own[1]) if text not in own[2])
    for number in range(50):  # until the new text is not drawn by the second seed
        changed = [dict(row, text=f"change {number}") if row["text"] == only_first else row for row in words["train"]]
        again = spec_of({**words, "train": changed}, **settings)
        if _texts_of(again, tmp_path, 2) == own[2]:
            break
    counted.clear()
    after = run_comparison(again, tmp_path)
    computed = {(cell.method, cell.seed) for cell in after.cells if cell.was_computed}
    assert computed and all(seed == 1 for _, seed in computed)
    assert {at: found for at, found in figures(after).items() if at[1] == 2} == {
        at: found for at, found in figures(before).items() if at[1] == 2
    }


def _texts_of(spec: Spec, folder: Path, seed: int) -> set[str]:
    from ptune.compare.run import Comparison

    rows = Comparison(spec, folder).rows(6, seed)
    return {str(row.fields["text"]) for row in (*rows.train, *rows.validation)}


def test_another_template_leaves_counted_words_alone(words: dict[str, Any], tmp_path: Path, counted: Counter[str]) -> None:
    run_comparison(spec_of(words), tmp_path)
    counted.clear()
    run_comparison(spec_of({**words, "template": "{text}{soft:2} All in all it was{mask}"}), tmp_path)
    assert counted["fit p-tuning"] == 3 and counted["fit tfidf-logistic"] == counted["fit textcnn"] == 0


def test_choices_never_see_the_test_labels(words: dict[str, Any], tmp_path: Path) -> None:
    """With every test label turned round, the same settings are chosen and the same answers given."""
    flip = {"yes": "no", "no": "yes"}
    turned = {**words, "test": [{**row, "label": flip[row["label"]]} for row in words["test"]]}
    one = run_comparison(spec_of(words), tmp_path / "one")
    other = run_comparison(spec_of(turned), tmp_path / "other")
    assert figures(one) == figures(other)
    assert [cell.fit.settings for cell in one.cells if cell.fit] == [cell.fit.settings for cell in other.cells if cell.fit]


def test_test_texts_are_never_learned_from(words: dict[str, Any], tmp_path: Path) -> None:
    leaking = {**words, "train": [*words["train"], *words["test"]]}
    outcome = run_comparison(spec_of(leaking, methods=["majority"]), tmp_path)
    test = {str(row.fields["text"]) for row in outcome.pools.test}
    assert not test & {str(row.fields["text"]) for row in outcome.pools.train}
    assert any("are test texts too and were left out" in remark for remark in outcome.pools.remarks)


def test_without_a_test_file_rows_are_split_off(words: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_comparison(spec_of({**words, "test": None}, methods=["tfidf-svm"], test_rows=10), tmp_path)
    assert len(outcome.pools.test) == 10 and len(outcome.pools.train) == 50
    assert Counter(row.label for row in outcome.pools.test) == {"yes": 5, "no": 5}


def test_further_test_sets_may_have_fewer_rows(words: dict[str, Any], tmp_path: Path) -> None:
    spec = spec_of(words, methods=["majority"], tests={"other": make_rows(8, seed=5)}, test_rows=10, other_rows=6)
    assert {name: len(rows) for name, rows in run_comparison(spec, tmp_path).pools.tests.items()} == {"test": 10, "other": 6}


def test_rows_of_further_test_sets_need_some(words: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r", compare: other_rows is for further test sets; name them under tests$"):
        spec_of(words, methods=["majority"], other_rows=6)


def test_too_few_rows_are_an_error_before_any_work(words: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"class 'yes' has 30 rows, 30 shots and at least one validation row are wanted \(lower shots to 15"
    ):
        run_comparison(spec_of(words, shots=[4, 30]), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_budget_gives_reasons(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(words, seeds=[1])
    run_comparison(spec_of(words, methods=["tfidf-logistic"], seeds=[1]), tmp_path)
    monkeypatch.setattr("ptune.compare.timing.Clock.estimate", lambda *args: 100.0)
    outcome = run_comparison(spec, tmp_path, budget_seconds=5.0)
    kept = {cell.method for cell in outcome.cells if cell.fit}
    assert kept == {"tfidf-logistic"}  # it was there
    assert all(
        cell.reason.startswith("no time left in the budget: about 100 s wanted") for cell in outcome.cells if not cell.fit
    )
    monkeypatch.undo()
    assert run_comparison(spec, tmp_path).num_computed == len(METHODS) - 1


def test_estimates_grow_from_what_was_run(words: dict[str, Any], tmp_path: Path) -> None:
    from ptune.compare.run import Comparison
    from ptune.compare.timing import Clock

    spec = spec_of(words)
    clock, rows = Clock(60.0, spec), Comparison(spec, tmp_path).rows(6, 1)
    zero, tuned = (next(line for line in spec.lines() if line.contender.name == name) for name in ("zero-shot", "p-tuning"))
    assert clock.estimate(tuned, 2, rows, 20) == 0.0
    clock.learn(zero, 1.0, 1, rows, 20)
    assert clock.estimate(tuned, 2, rows, 20) > clock.estimate(zero, 1, rows, 20) == pytest.approx(1.0)
    clock.learn(tuned, 30.0, 2, rows, 20)
    assert clock.estimate(tuned, 2, rows, 20) == pytest.approx(30.0) and clock.estimate(tuned, 1, rows, 20) < 30.0


def test_the_first_seed_with_figures_chooses_for_the_rest(
    words: dict[str, Any], tmp_path: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a budget had no room for the first seed, the second one chooses, and the third takes its choice."""
    refused = iter(["no time", "", ""])
    monkeypatch.setattr("ptune.compare.timing.Clock.refusal", lambda *args: next(refused))
    outcome = run_comparison(spec_of(words, methods=["p-tuning"], seeds=[1, 2, 3]), tmp_path)
    assert [bool(cell.reason) for cell in outcome.cells] == [True, False, False] and counted["fit p-tuning"] == 2 + 1


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, OSError, MemoryError])
def test_what_fails_is_said_and_tried_again_on_demand(
    kind: type[Exception], words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **keywords: Any) -> Fitted:
        raise kind("shapes do\nnot fit")

    spec = spec_of(words, methods=["tfidf-svm"], seeds=[1])
    monkeypatch.setattr(Registry.get("tfidf-svm"), "fit", broken)
    (cell,) = run_comparison(spec, tmp_path).cells
    assert cell.reason == f"{kind.__name__}: shapes do not fit" and cell.fit is None
    monkeypatch.undo()
    assert run_comparison(spec, tmp_path).cells[0].reason == cell.reason
    assert run_comparison(spec, tmp_path, retry=True).cells[0].fit is not None


def test_a_model_that_is_not_there_gives_its_cells_the_reason(words: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_comparison(spec_of(words, methods=["majority", "zero-shot"], backbones=["/no/such/model"]), tmp_path)
    found = {cell.method: cell.reason for cell in outcome.cells}
    assert found["majority"] == "" and "there is no model at /no/such/model" in found["zero-shot"]


def test_kept_contexts_change_no_answer(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptune.compare.cells._NUM_TIMED", 4)  # the other rows' contexts are kept
    spec = spec_of(words, methods=["p-tuning"], seeds=[1])
    outcome = run_comparison(spec, tmp_path)
    from ptune import load

    task = load(next((tmp_path / "bundles").glob(outcome.cells[0].key)), backbone=tiny_backbone("gpt2"))
    plain = np.array([list(one.probabilities.values()) for one in task.predict([row["text"] for row in words["test"]])])
    assert np.allclose(outcome.cells[0].probabilities["test"], plain, atol=1e-5)


@pytest.mark.slow
def test_several_processes_give_the_same(words: dict[str, Any], tmp_path: Path, tiny_folder: Callable[[str], str]) -> None:
    spec = spec_of(words, methods=["majority", "tfidf-svm", "zero-shot", "p-tuning"], backbones=[tiny_folder("gpt2")])
    alone, shared = run_comparison(spec, tmp_path / "one"), run_jobs(spec, tmp_path / "two", 2)
    assert figures(alone) == figures(shared) and shared.num_computed == 0
    with pytest.raises(RecipeError, match="a loaded model cannot go to another process"):
        run_jobs(spec_of(words), tmp_path / "three", 2)


# -- summaries -------------------------------------------------------------------------------------------------------


def test_rows_by_hand(words: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_comparison(spec_of(words, tests={"other": make_rows(8, seed=5)}), tmp_path)
    summary = summarise(outcome)
    assert len(summary.rows) == len(METHODS) and read_summary(json.loads(json.dumps(summary.to_dict()))) == summary
    true = np.array([["yes", "no"].index(row["label"]) for row in words["test"]])
    for row in summary.rows:
        cells = [cell for cell in outcome.cells if cell.method == row.method]
        right = np.stack([cell.probabilities["test"].argmax(1) == true for cell in cells])
        assert row.accuracy is not None and row.accuracy.mean == pytest.approx(right.mean())
        assert sum(map(sum, row.confusion)) == 40 and row.confusion[0][0] + row.confusion[1][1] == right.sum()
        assert sum(one.num_rows for one in row.bins) == 40 and dict(row.others)["other"].num_rows == 8
        assert row.num_trials == (1 if row.method in ("majority", "zero-shot") else 2)
    best = summary.of_shots(6)[0]
    assert [row for row in summary.rows if row.is_best] == [best]
    assert best.from_best is None and all(row.from_best is not None for row in summary.rows if row is not best)
    assert all(text.label in ("yes", "no") and len(set(dict(text.answers).values())) == 2 for text in summary.texts)


def test_the_same_method_twice_is_no_difference(words: dict[str, Any], tmp_path: Path) -> None:
    twin = {"twin": {"method": {"name": "p-tuning"}}}
    outcome = run_comparison(spec_of(words, methods=["p-tuning", twin]), tmp_path)
    summary = summarise(outcome)
    difference = next(row.from_best for row in summary.rows if row.from_best is not None)
    assert (difference.mean, difference.verdict) == (0.0, "no difference")


def test_differences_are_paired_over_common_seeds(words: dict[str, Any], tmp_path: Path) -> None:
    """A row that lacks a seed is compared on those that it has, and is never called the best."""
    outcome = run_comparison(spec_of(words, methods=["majority", "tfidf-logistic"], seeds=[1, 2, 3]), tmp_path)
    lost = [
        Cell(cell.method, cell.backbone, cell.shots, cell.seed, reason="no time left")
        if (cell.method, cell.seed) == ("tfidf-logistic", 3)
        else cell
        for cell in outcome.cells
    ]
    summary = summarise(replace(outcome, cells=tuple(lost)))
    logistic = next(row for row in summary.rows if row.method == "tfidf-logistic")
    assert logistic.seeds == (1, 2) and logistic.reason == "seed 3: no time left" and logistic.from_best is not None
    right = {
        name: np.stack(
            [
                (cell.probabilities["test"].argmax(1) == _classes(words)).astype(float)
                for cell in outcome.cells
                if cell.method == name and cell.seed in (1, 2)
            ]
        )
        for name in ("majority", "tfidf-logistic")
    }
    assert logistic.from_best == compare(right["tfidf-logistic"], right["majority"])


def test_rows_that_share_no_seed_are_not_both_the_best(words: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_comparison(spec_of(words, methods=["majority", "tfidf-logistic"], seeds=[1, 2, 3]), tmp_path)
    had = {"majority": (1, 2), "tfidf-logistic": (3,)}
    summary = summarise(replace(outcome, cells=tuple(cell for cell in outcome.cells if cell.seed in had[cell.method])))
    assert [(row.is_best, row.from_best) for row in summary.rows] == [(True, None), (False, None)]
    assert (
        table(summary, {}).count('class="verdict best"') == 1
        and markdown(summary, recommend(summary), "en").count("| best |") == 1
    )


def _classes(words: dict[str, Any]) -> Any:
    return np.array([["yes", "no"].index(row["label"]) for row in words["test"]])


# -- specs -----------------------------------------------------------------------------------------------------------

YAML = """\
train: data.jsonl
template: "{text}{soft:3} It was{mask}"
labels: {yes: [great], no: [bad]}
backbone: smollm2-135m-q4
compare:
  methods: [core, {short: {method: p-tuning, steps: 3}}]
  leave_out: [setfit]
  tests: {other: other.jsonl}
  shots: 4
"""


def test_a_recipe_with_a_section_is_a_spec(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"text": "a", "label": "yes"}\n')
    (tmp_path / "spec.yaml").write_text(YAML)
    spec = read_spec(tmp_path / "spec.yaml", {"steps": 5}, {"seeds": [7]})
    names = [contender.name for contender in spec.contenders]
    assert names[-1] == "short" and "setfit" not in names and "majority" in names
    assert (
        spec.settings.tests == {"other": str(tmp_path / "other.jsonl")} and spec.shots == (4,) and spec.settings.seeds == (7,)
    )
    assert spec.recipe["steps"] == 5 and spec.backbones == ("smollm2-135m-q4",) and spec.name == "spec"
    assert "train" not in spec.words and spec.words["template"] == "{text}{soft:3} It was{mask}"


def test_some_methods_are_run_further(words: dict[str, Any]) -> None:
    backbones = ["smollm2-135m-q4", "minilm-l6"]
    also = [{"shots": [2, 12], "backbones": "minilm-l6"}, {"methods": ["lora"], "backbones": ["qwen3-0.6b-q4", "minilm-l6"]}]
    settings = {"methods": ["majority", "p-tuning", "lora"], "shots": 6, "backbones": backbones, "also": also}
    spec = make_spec(words, settings, name="further")
    lines = [(line.shots, line.contender.name, line.backbone_name) for line in spec.lines()]
    few = [("majority", ""), ("p-tuning", "minilm-l6")]  # of the core
    whole = [("majority", ""), *((name, model) for name in ("p-tuning", "lora") for model in backbones)]
    assert lines == [(2, *one) for one in few] + [(6, *one) for one in (*whole, ("lora", "qwen3-0.6b-q4"))] + [
        (12, *one) for one in few
    ]
    assert spec.shots == (6,) and spec.all_shots == (2, 6, 12) and spec.to_dict()["shots"] == [6]


def test_shots_of_some_methods_decide_nothing(words: dict[str, Any], tmp_path: Path) -> None:
    """What is recommended, and shown first, is of the number of shots that all methods have."""
    also = {"shots": [3, 12], "methods": "tfidf-svm"}
    spec = spec_of(words, methods=["majority", "tfidf-svm", "tfidf-logistic"], also=also)
    summary = read_summary(json.loads(json.dumps(summarise(run_comparison(spec, tmp_path)).to_dict())))
    assert summary.shots == (3, 6, 12) and summary.main_shots == 6
    advice = recommend(summary)
    assert advice.best is not None and advice.best.shots == 6
    report = markdown(summary, advice, "en")
    places = [report.index(f"## {shots} rows per label") for shots in (6, 12, 3)]
    assert places == sorted(places)
    shown = [part[0] for part in table(summary, {}).split('data-shots="')[1:]]
    assert shown == ["6", "6", "6", "1", "3"]  # the first digits, 12 before 3
    drawn = page(summary, advice).split("<figure>")[1]
    assert drawn.count('class="mark"') == 1 and "TF-IDF + linear SVM" in drawn  # the others have no curve


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metods": "all"}, "there is no key 'metods' .did you mean 'methods'"),
        ({"methods": ["p-tunin"]}, "there is no method 'p-tunin' to compare .did you mean 'p-tuning'"),
        ({"methods": [{"mine": {"stepz": 3}}]}, "'stepz' is no recipe key that a method can change .did you mean 'steps'"),
        ({"methods": [{"mine": {"batch_size": 3}}]}, "all methods have the same batch_size"),
        ({"methods": [{"mine": {"dtype": "bf16"}}]}, "'dtype' is no recipe key that a method can change"),
        ({"methods": [{"p-tuning": {}}]}, "'p-tuning' is a method's own name"),
        ({"trials": 9}, "less than or equal to 5"),
        ({"shots": [0]}, "compare.shots: shots must be 1 or more"),
        ({"also": {"shots": 0}}, "compare.also.0.shots: shots must be 1 or more"),
        ({"also": [{"methods": "core"}]}, "compare.also.0: neither shots nor backbones are given"),
        ({"also": {"shots": 4, "methods": "lora"}}, r"compare.also\[0\].methods: 'lora' is not among the methods"),
        ({"leave_out": ["lora"]}, "'lora' is not among the methods"),
        ({"methods": "majority", "leave_out": ["majority"]}, "no method is left"),
    ],
)
def test_wrong_settings_are_named(words: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_spec(words, {"backbones": ["smollm2-135m-q4"], **settings}, name="wrong")


def test_other_kinds_of_task_are_refused(words: dict[str, Any]) -> None:
    regression = {**words, "task": "generation", "labels": None, "template": "{text}{soft:2} In short:{mask}", "head": None}
    with pytest.raises(RecipeError, match="classification"):
        make_spec(regression, {"backbones": ["smollm2-135m-q4"]}, name="wrong")


def test_setup_gives_each_row_as_one_text(setup_on: Callable[..., Setup]) -> None:
    setup = replace(setup_on(), recipe={"template": "{first} and {second}{mask}"})
    assert setup.texts([Example({"second": "b", "first": ("a", "c"), "more": "d"})]) == ["a c\nb"]
