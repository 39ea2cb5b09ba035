"""Real weights: the demo on SmolLM2 in small, and a slice of the committed benchmark on the small masked model."""

import json
from pathlib import Path

import pytest

import ptune
from ptune.recipe import read_recipe
from ptune.recipe import run as run_recipe

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
pytestmark = pytest.mark.slow


def test_the_demo_learns_on_smollm2_and_its_bundle_is_small(smollm2: ptune.Backbone, tmp_path: Path) -> None:
    data = ROOT / "examples" / "data" / "reviews_en"
    recipe = read_recipe(ROOT / "examples" / "reviews_en.yaml", {"shots": 8, "steps": 10, "test": None, "backbone": smollm2})
    task = run_recipe(recipe)
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"]
    folder = task.save(tmp_path / "bundle")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    report = task.judge(ptune.read_examples(data / "test.jsonl", require_label=True)[:16])
    assert report.num_rows == 16


def test_smollm2_starts_plain_text_with_its_document_mark(smollm2: ptune.Backbone) -> None:
    assert smollm2.tokens.show(smollm2.tokens.start_ids) == ["<|endoftext|>"]
    assert smollm2.takes_plan and smollm2.spec.kind == "decoder"


def test_a_slice_of_the_committed_encoder_benchmark_replays() -> None:
    if not (SHARED / "models" / "minilm-mlm").is_dir():
        pytest.skip("../shared with minilm-mlm is not here")
    committed = json.loads((ROOT / "bench" / "results" / "sst2_minilm_encoders.json").read_text(encoding="utf-8"))
    run = next(run for run in committed["runs"] if run["variant"] == "embedding" and run["seed"] == 1)
    spec = {key: value for key, value in committed["spec"].items() if key not in ("seeds", "variants", "test")}
    spec |= {"train": str(SHARED / "data/sst2/train.jsonl"), "backbone": str(SHARED / "models/minilm-mlm")}
    task = ptune.fit(**spec, method={"name": "p-tuning", "encoder": "embedding"}, seed=1)
    assert task.facts["training"]["last_loss"] == pytest.approx(run["training"]["last_loss"], rel=0.05)
    test = ptune.read_examples(SHARED / "data/sst2/test.jsonl", require_label=True)[:400]
    assert task.judge(test).accuracy == pytest.approx(run["accuracy"], abs=0.08)
