"""bench/strategies.py from spec to JSON on a tiny model, and a slice of its committed result run again on real weights."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("scipy")

import strategies

import ptune
from tiny import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
ALL, SPEC = ROOT / "bench" / "results" / "strategies" / "all.json", ROOT / "bench" / "specs" / "strategies.yaml"
DATA = ROOT.parent / "shared" / "data"
replays = pytest.mark.skipif(
    not ALL.exists() or not DATA.is_dir(), reason="bench/results/strategies/all.json or ../shared/data is not here"
)


def test_a_spec_is_run_and_what_is_done_is_not_run_again(
    tiny_folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "\n".join(json.dumps({"text": row.fields["text"], "label": row.label}) for row in EXAMPLES)
    (tmp_path / "rows.jsonl").write_text(rows + "\n", encoding="utf-8")
    of_set = {"train": "$DATA/rows.jsonl", "test": "$DATA/rows.jsonl", "backbone": tiny_folder("llama"), "shots": 2}
    shown = {"by": "demonstrations", "method": "hard", "template": "{demos}{text} It was{mask}"}
    spec = {
        "seeds": [1],
        "rows": 4,
        "ways": {"plain": {"steps": 2}, "shown": {**shown, "section": {"per_label": 1}}, "too many": {**shown, "section": {}}},
        "sets": {"tiny": {**of_set, "template": "{text}{soft:2} It was{mask}", "labels": {"yes": ["good"], "no": ["bad"]}}},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["s", str(tmp_path / "spec.yaml"), "--data", str(tmp_path), "--out", str(out)])
    strategies.main()
    content = json.loads(out.read_text(encoding="utf-8"))
    plain, demos, failed = content["runs"]
    assert {plain["way"], demos["way"], failed["way"]} == set(spec["ways"])
    assert 0 <= plain["accuracy"] <= 1 and {"zero_shot", "prior_corrected"} <= plain.keys() and len(demos["sets"]) == 1
    assert "no" in failed["failed"] and "accuracy" not in failed
    assert content["summary"]["tiny"]["shown"]["difference"]["mean"] == pytest.approx(demos["accuracy"] - plain["accuracy"])
    monkeypatch.setitem(strategies.RUNNERS, "training", lambda *_: pytest.fail("it was done already"))
    strategies.main()
    assert [run["way"] for run in json.loads(out.read_text(encoding="utf-8"))["runs"]] == ["plain", "shown", "too many"]


def asked(way: str) -> tuple[dict[str, Any], dict[str, Any], Any, dict[str, Any]]:
    """Of the first seed on sst2: recipe keys, the way's plan, the rows to judge on, and the committed run."""
    spec = yaml.safe_load(SPEC.read_text(encoding="utf-8").replace("$DATA", str(DATA)))
    keys = {**spec["sets"]["sst2"], "seed": spec["seeds"][0]}
    plan = strategies.merged(spec["ways"][way] or {}, keys.pop("ways").get(way) or {})
    rows = strategies.rows_of(keys.pop("test"), spec["rows"])
    about = {"set": "sst2", "way": way, "seed": keys["seed"]}
    runs = json.loads(ALL.read_text(encoding="utf-8"))["runs"]
    return keys, plan, rows, next(run for run in runs if about.items() <= run.items())


@replays
@pytest.mark.slow
def test_the_hard_prompt_replays(smollm2: ptune.Backbone) -> None:
    keys, plan, rows, run = asked("hard, prior out")
    found = strategies.run_one({**keys, "backbone": smollm2, "test": rows}, plan)
    for figure in ("accuracy", "zero_shot", "prior_corrected"):
        assert found[figure] == pytest.approx(run[figure], abs=2.5 / len(rows))  # of two rows the sums of another CPU may turn


@replays
@pytest.mark.slow
def test_the_plain_prompt_replays(smollm2: ptune.Backbone) -> None:
    keys, plan, rows, run = asked("plain")
    task = ptune.fit(**{**keys, **plan, "backbone": smollm2})  # judged once, without the hard template beside it
    assert task.judge(rows).accuracy == pytest.approx(run["accuracy"], abs=0.06)
