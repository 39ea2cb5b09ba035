"""Committed results of the ways to learn from few labels: none is missing, each is of the committed spec, sums are right."""

import json
import re
from argparse import Namespace
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("scipy")

import fewclue
import no_harm
import strategies

ROOT = Path(__file__).resolve().parents[2]
RESULTS, SPECS, DATA = ROOT / "bench" / "results", ROOT / "bench" / "specs", ROOT.parent / "shared" / "data"
OF_STRATEGIES = {"all": "strategies", "ablations": "ablations", "pet": "pet", "label_search": "label_search", "icl": "icl"}
Content = dict[str, Any]


def read_spec(path: Path, data: str = "$DATA") -> Content:
    """A spec with its data in that folder, as JSON holds it."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8").replace("$DATA", data))))


def committed(path: str) -> Content:
    """A result; the test is skipped where it is not there."""
    if not (RESULTS / path).exists():
        pytest.skip(f"bench/results/{path} is not there yet")
    return json.loads((RESULTS / path).read_text(encoding="utf-8"))


def once(runs: list[Content], expected: Iterator[Content]) -> list[Content]:
    """The runs in the order expected, each there once and none beside them."""
    found = []
    for about in expected:
        mine = [run for run in runs if about.items() <= run.items()]
        assert len(mine) == 1, f"{len(mine)} runs of {about}"
        found += mine
    assert len(found) == len(runs), "runs that the spec does not ask for"
    return found


def check_strategies(content: Content, spec_path: Path) -> None:
    """Every set, way and seed of the spec once, by its plan, with a figure or the reason why there is none."""
    data = re.search(r"--data (\S+)", content["command"])
    assert data is not None and " --rows " not in content["command"]
    spec = read_spec(spec_path, data[1])
    assert content["spec"] == spec
    for run in once(content["runs"], planned(spec)):
        assert 0 <= run["accuracy"] <= 1 if "accuracy" in run else run["failed"]
    assert content["summary"] == strategies.summary(content["runs"], spec)


def planned(spec: Content) -> Iterator[Content]:
    """What a run of each set, way and seed says of itself."""
    for (name, keys), way, seed in product(spec["sets"].items(), spec["ways"], spec["seeds"]):
        plan = strategies.merged(spec["ways"][way] or {}, keys.get("ways", {}).get(way) or {})
        yield {"set": name, "way": way, "seed": seed, "plan": strategies.digest(keys, plan, spec["rows"])}


def check_no_harm(content: Content, spec_path: Path) -> None:
    """Every set, variant, number of rows and seed of the spec once, by its plan, judged on the test files."""
    spec = read_spec(spec_path)
    assert content["spec"] == spec
    assert content["split"] == "test" and " --rows " not in content["command"]
    once(content["runs"], cells(spec))
    assert content["summary"] == no_harm.summary(content["runs"])


def cells(spec: Content) -> Iterator[Content]:
    """What a run of each cell says of itself."""
    for name, variant, shots, seed in product(spec["sets"], spec["variants"], spec["shots"], spec["seeds"]):
        plan = no_harm.digest(spec["sets"][name], spec["variants"][variant], spec["rows"], "test")
        yield {"set": name, "variant": variant, "shots": shots, "seed": seed, "plan": plan}


def check_fewclue(content: Content, spec_path: Path) -> None:
    """Every task, way and split of the spec once, by its plan; the way chosen on dev files is alone judged on test files."""
    spec = read_spec(spec_path)
    assert content["spec"] == spec
    for run in once(content["runs"], on_dev(spec)):
        assert ("test" in run) == (run["way"] == fewclue.chosen(content["runs"], run["task"]))
    assert content["summary"] == fewclue.summary(spec, content["runs"])


def on_dev(spec: Content) -> Iterator[Content]:
    """What a run of each task, way and split says of itself; its plan too, where the data is here to name the labels."""
    board = fewclue.Board(spec, Namespace(out=Path("none"), data=DATA, rows=None, steps=None))
    for name, task in spec["tasks"].items():
        knows_labels = task.get("labels") != fewclue.NAMES or DATA.is_dir()
        for way, split in product(task["ways"], task.get("splits", spec["splits"])):
            plan = {"plan": board.plan(board.keys(name, way))} if knows_labels else {}
            yield {"task": name, "way": way, "split": split, **plan}


@pytest.mark.parametrize("name", OF_STRATEGIES)
def test_strategies_follow_their_spec(name: str) -> None:
    check_strategies(committed(f"strategies/{name}.json"), SPECS / f"{OF_STRATEGIES[name]}.yaml")


def test_no_harm_follows_its_spec() -> None:
    check_no_harm(committed("no_harm/no_harm.json"), SPECS / "no_harm.yaml")


def test_fewclue_follows_its_spec() -> None:
    check_fewclue(committed("fewclue/fewclue.json"), SPECS / "fewclue.yaml")


# -- the checks themselves, on contents made up from the specs ---------------------------------------------------------


def made_up(kind: str) -> Content:
    """A whole result of a spec, all runs alike."""
    spec = read_spec(SPECS / f"{kind}.yaml", "D" if kind in OF_STRATEGIES.values() else "$DATA")
    if kind == "no_harm":
        runs = [{**about, "accuracy": 0.8, "prior_corrected": 0.7} for about in cells(spec)]
        return {"command": "c", "split": "test", "spec": spec, "summary": no_harm.summary(runs), "runs": runs}
    if kind == "fewclue":
        runs = [{**about, "dev": 0.5} for about in on_dev(spec)]
        for run in runs:
            run |= {"test": 0.4} if run["way"] == fewclue.chosen(runs, run["task"]) else {}
        return {"command": "c", "spec": spec, "summary": fewclue.summary(spec, runs), "runs": runs}
    runs = [{**about, "accuracy": 0.8, "mean_of_patterns": 0.7, "seconds": 1.0} for about in planned(spec)]
    return {"command": "c --data D", "spec": spec, "summary": strategies.summary(runs, spec), "runs": runs}


def check(kind: str, content: Content) -> None:
    checks = {"no_harm": check_no_harm, "fewclue": check_fewclue}
    checks.get(kind, check_strategies)(content, SPECS / f"{kind}.yaml")


KINDS = (*OF_STRATEGIES.values(), "no_harm", "fewclue")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_result_passes(kind: str) -> None:
    check(kind, made_up(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_with_a_fault_does_not(kind: str) -> None:
    for change in (
        lambda content: content["runs"].pop(),
        lambda content: content["runs"].append({**content["runs"][0], "seed": 99, "split": 99}),
        lambda content: content["summary"].popitem(),
        lambda content: content["spec"].popitem(),
    ):
        content = made_up(kind)
        change(content)
        with pytest.raises((AssertionError, KeyError)):
            check(kind, content)


def test_a_way_that_failed_needs_its_reason() -> None:
    content = made_up("strategies")
    del content["runs"][0]["accuracy"]
    content["runs"][0]["failed"] = "too few rows of a label"
    content["summary"] = strategies.summary(content["runs"], content["spec"])
    check("strategies", content)
    content["runs"][0]["failed"] = ""
    with pytest.raises(AssertionError):
        check("strategies", content)


@pytest.mark.parametrize("kind", ["icl", "no_harm"])
def test_a_run_of_another_plan_is_none_of_the_spec(kind: str) -> None:
    content = made_up(kind)
    content["runs"][0]["plan"] = "0123456789ab"
    with pytest.raises(AssertionError, match="0 runs of"):
        check(kind, content)
