"""Figures of the benchmarks of strategies and FewCLUE: paired differences, and the way that is chosen on dev files."""

from typing import Any

import pytest

pytest.importorskip("scipy")

import fewclue
import strategies
import table_strategies

SPEC: dict[str, Any] = {
    "title": "Ways",
    "about": "Two ways.",
    "ways": {"plain": {}, "other": {"sees": "5 texts"}, "pet": {"against": strategies.ITS_PATTERNS}, "third": {}},
    "sets": {"a": {"backbone": "tiny"}},
}


def runs(way: str, *scores: float, **more: Any) -> list[dict[str, Any]]:
    return [
        {"set": "a", "way": way, "seed": seed, "accuracy": score, "seconds": 2.0, "commit": "0123456789", **more}
        for seed, score in enumerate(scores, 1)
    ]


def test_the_interval_of_paired_differences_by_hand() -> None:
    found = strategies.difference([0.01, 0.03, 0.05])
    slack = 4.302653 * 0.02 / 3**0.5
    assert found == {"mean": 0.03, "low": pytest.approx(0.03 - slack, abs=1e-4), "high": pytest.approx(0.03 + slack, abs=1e-4)}
    assert strategies.difference([0.02]) == {"mean": 0.02, "low": None, "high": None}


def test_ways_are_paired_by_seed() -> None:
    every = [*runs("plain", 0.5, 0.6, 0.7), *runs("other", 0.6, 0.7), *runs("pet", 0.8, 0.9, mean_of_patterns=0.75)]
    every += [{"set": "a", "way": "third", "seed": 1, "failed": "no room", "seconds": 1.0, "commit": "0123456789"}]
    found = strategies.summary(every, SPEC)["a"]
    assert "difference" not in found["plain"] and found["plain"]["accuracy"] == 0.6
    assert found["other"]["difference"]["mean"] == pytest.approx(0.1) and found["other"]["seeds"] == [1, 2]
    assert found["pet"]["difference"]["mean"] == pytest.approx(0.1)
    assert found["third"]["failed"] == "no room" and "accuracy" not in found["third"]
    machine = {"command": "python x", "machine": {"cpu": "some"}, "spec": SPEC, "summary": {"a": found}, "runs": every}
    lines = table_strategies.table_of(machine)
    assert lines[2].startswith("| plain | the shots |  | 0.600 ± 0.100 | 2 |")
    assert "the shots, 5 texts | plain | 0.650" in lines[3] and "(+10.0; " in lines[4] and "failed: no room" in lines[5]
    assert "`0123456`, some" in table_strategies.page_of([machine])


def test_a_plan_is_known_by_what_decides_it() -> None:
    plain = strategies.digest({"shots": 16, "ways": {"x": 1}}, {"sees": "much"}, 300)
    assert plain == strategies.digest({"shots": 16}, {"against": "x"}, 300)
    assert plain != strategies.digest({"shots": 8}, {}, 300) and plain != strategies.digest({"shots": 16}, {}, 200)


def test_fewclue_takes_the_way_that_does_best_on_dev_files() -> None:
    spec = {"tasks": {"eprstmt": {"published": {"PET": 86.7}}}}
    every = [
        {"task": "eprstmt", "way": way, "split": split, "dev": dev, **({"test": test} if test else {})}
        for way, split, dev, test in (("x", 0, 0.9, None), ("x", 1, 0.5, None), ("y", 0, 0.8, 0.6), ("y", 1, 0.8, 0.7))
    ]
    found = fewclue.summary(spec, every)
    assert found["tasks"]["eprstmt"] | {"way": "y", "dev": 80.0, "test": 65.0, "splits": 2} == found["tasks"]["eprstmt"]
    assert found["mean"] == 65.0
