"""The benchmark of harm: a run is done again where what decides it has changed, and only there."""

import json
import sys
from pathlib import Path
from typing import Any

import no_harm
import pytest
import table_strategies
import yaml

import ptune

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "bench" / "results" / "no_harm" / "no_harm.json"
SPEC: dict[str, Any] = {
    "seeds": [1],
    "shots": [2],
    "rows": 3,
    "variants": {"default": {}, "longer": {"steps": 40}},
    "sets": {"a": {"backbone": "tiny", "template": "{text}{mask}"}, "b": {"backbone": "tiny", "template": "{text} :{mask}"}},
}
Runs = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a spec with nothing trained; returns the (set, variant) that were done, and all runs of the JSON."""
    done: list[tuple[str, str]] = []

    def one_run(keys: dict[str, Any], judge: Any) -> dict[str, Any]:
        done.append((Path(keys["train"]).parent.name, "longer" if "steps" in keys else "default"))
        return {"accuracy": 0.8, "prior_corrected": 0.7}

    monkeypatch.setattr(no_harm, "one_run", one_run)
    monkeypatch.setattr(no_harm, "rows_of", lambda *args: ())
    monkeypatch.setattr(no_harm, "Judge", lambda *args: None)
    monkeypatch.setattr(no_harm.ptune, "load_backbone", lambda name: name)

    def called(spec: dict[str, Any], *more: str, data: str = "data") -> tuple[list[tuple[str, str]], Runs]:
        path, out = tmp_path / "spec.yaml", tmp_path / "out.json"
        path.write_text(yaml.safe_dump(spec))
        monkeypatch.setattr(sys, "argv", ["no_harm.py", str(path), "--data", data, "--out", str(out), *more])
        done.clear()
        no_harm.main()
        runs = json.loads(out.read_text())["runs"]
        found = {(run["set"], run["variant"]): run for run in runs}
        assert len(found) == len(runs)
        return list(done), found

    called.out = tmp_path / "out.json"  # type: ignore[attr-defined]
    return called


def test_what_is_done_is_not_done_again(call: Any) -> None:
    first, runs = call(SPEC)
    assert first == [("a", "default"), ("a", "longer"), ("b", "default"), ("b", "longer")] and len(runs) == 4
    assert call(SPEC) == ([], runs) and call(SPEC, data="elsewhere") == ([], runs)
    words = SPEC["sets"]["a"]
    assert runs["a", "longer"]["plan"] == no_harm.digest(words, {"steps": 40}, 3, "test")
    assert len({run["plan"] for run in runs.values()}) == 4


def test_a_changed_spec_is_run_where_it_changed(call: Any) -> None:
    _, runs = call(SPEC)
    of_a = {**SPEC, "sets": {**SPEC["sets"], "a": {**SPEC["sets"]["a"], "template": "{text} It was{mask}"}}}
    done, now = call(of_a)
    assert done == [("a", "default"), ("a", "longer")] and now["b", "longer"] == runs["b", "longer"]
    assert now["a", "default"]["plan"] != runs["a", "default"]["plan"] and len(now) == 4
    done, _ = call({**of_a, "variants": {"default": {}, "longer": {"steps": 50}}})
    assert done == [("a", "longer"), ("b", "longer")]
    for more in (("--rows", "2"), ("--split", "validation")):
        assert len(call(of_a, *more)[0]) == 4


def test_runs_without_a_plan_are_not_done(call: Any) -> None:
    _, runs = call(SPEC)
    content = json.loads(call.out.read_text())
    for run in content["runs"]:
        if run["set"] == "b":
            del run["plan"]
    call.out.write_text(json.dumps(content))
    assert call(SPEC) == ([("b", "default"), ("b", "longer")], runs)


def test_gains_are_in_points_by_set_and_number_of_rows() -> None:
    scores = {("a", 8): (0.70, 0.72), ("a", 16): (0.70, 0.76), ("b", 8): (0.50, 0.49), ("b", 16): (0.50, 0.50)}
    runs = [
        {
            "set": name,
            "variant": "default",
            "shots": shots,
            "seed": 1,
            "prior_corrected": before,
            "accuracy": after,
            "commit": "0123456789",
        }
        for (name, shots), (before, after) in scores.items()
    ]
    found = no_harm.summary(runs)
    figures = found["default"]
    assert (figures["runs"], figures["mean_gain"], figures["worst_set"]) == (4, 1.75, -0.5)
    assert figures["share_of_runs_below"] == 0.25
    of_a = {"prior_corrected": 0.7, "accuracy": 0.74, "gain": 4.0, "by_shots": {"8": 2.0, "16": 6.0}, "lowest_run": 2.0}
    assert figures["by_set"]["a"] == of_a and figures["by_set"]["b"]["lowest_run"] == -1.0
    spec = {"title": "No harm", "about": "So.", "shots": [8, 16], "variants": {"default": {}}}
    spec["sets"] = {"a": {"backbone": "small"}, "b": {"backbone": "large"}}
    content = {"command": "c", "machine": {"cpu": "some"}, "spec": spec, "summary": found, "runs": runs}
    page = table_strategies.page_of([content])
    assert "| a | small | 0.700 | 0.740 | +4.0 | +2.0 | +6.0 | +2.0 |" in page
    assert "| b | large | 0.500 | 0.495 | -0.5 | -1.0 | +0.0 | -1.0 |" in page
    assert "Mean gain +1.8 points; 25 % of 4 runs are below the hard template." in page and "`0123456`, some" in page


@pytest.mark.skipif(not (ROOT.parent / "shared" / "data").is_dir(), reason="../shared/data is not here")
@pytest.mark.slow
def test_a_committed_run_replays(smollm2: ptune.Backbone) -> None:
    """The first run of sst2 learns as it did; what it is judged on is a part of its rows, for time."""
    content = json.loads(COMMITTED.read_text(encoding="utf-8"))
    about = {"set": "sst2", "variant": "default", "shots": 8, "seed": 1}
    run = next(run for run in content["runs"] if about.items() <= run.items())
    words = {key: value for key, value in content["spec"]["sets"]["sst2"].items() if key != "backbone"}
    folder = ROOT.parent / "shared" / "data" / "sst2"
    judge = no_harm.Judge(smollm2, no_harm.rows_of(folder, "test", content["spec"]["rows"])[:100])
    found = no_harm.one_run({**words, "shots": 8, "seed": 1, "train": str(folder / "train.jsonl")}, judge)
    for length, loss in run["held_out_losses"].items():
        assert {str(one): value for one, value in found["held_out_losses"].items()}[length] == pytest.approx(loss, abs=0.02)
    assert found["folds"] == run["folds"]
    assert found["step_length"] == pytest.approx(run["step_length"], abs=0.26)  # the losses of the last two lengths are near
    assert found["accuracy"] > found["prior_corrected"] - 0.05
