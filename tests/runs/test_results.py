"""Figures that the project states come from committed runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))


@pytest.mark.parametrize("script", ["table.py", "table_engine.py", "table_strategies.py"])
def test_the_tables_are_written_from_the_results(script: str) -> None:
    subprocess.run([sys.executable, ROOT / "bench" / script, "--check"], check=True)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_how_they_came_to_be(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "spec", "commit", "machine", "versions", "backbone", "summary", "runs"} <= content.keys()
    for run in content["runs"]:
        assert {"seed", "accuracy", "interval", "zero_shot", "prior_corrected", "training"} <= run.keys()
    for variant, mean in content["summary"].items():
        mine = [run["accuracy"] for run in content["runs"] if run["variant"] == variant]
        assert mean["num_seeds"] == len(mine) and mean["accuracy"] == pytest.approx(sum(mine) / len(mine), abs=1e-4)


@pytest.mark.parametrize("encoder", ["embedding", "mlp", "lstm"])
def test_every_prompt_encoder_learns_on_the_masked_model(encoder: str) -> None:
    content = json.loads((ROOT / "bench" / "results" / "sst2_minilm_encoders.json").read_text(encoding="utf-8"))
    runs = [run for run in content["runs"] if run["variant"] == encoder]
    assert {run["seed"] for run in runs} == {1, 2, 3, 4, 5} and len(runs) == 5
    assert all(run["training"]["last_loss"] < 0.5 * run["training"]["first_loss"] for run in runs)
    figures = content["summary"][encoder]
    assert figures["accuracy"] >= figures["majority"] + 0.10
