"""One recipe over several seeds on a real data set: spec in, JSON out.

    python bench/few_shot.py bench/specs/sst2_smollm2.yaml --data ../shared/data --out bench/results/sst2_smollm2.json

A spec holds the keys of a recipe and `seeds`; `$DATA` in a path stands for --data. Each seed samples its own shots, trains on
them alone (no validation rows) and is judged on the whole test file: the hard template (zero_shot), the same with its prior
taken out by the shots' texts (prior_corrected), the prompt as it was initialised, its prior taken out too (untrained_prompt),
and the trained one. The backbone is loaded once, and the test texts' contexts are computed once for all seeds where the
backbone allows it, which changes nothing but the time. Finished seeds are kept when the script is called again.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers
import yaml

import ptune
from ptune.data import read_examples
from ptune.model import Prepared
from ptune.readout import log_prior
from ptune.recipe import build_model, read_splits
from ptune.task import judge_scores

MAX_KEPT_BYTES = 8 << 30
FIGURES = ("accuracy", "zero_shot", "prior_corrected", "untrained_prompt", "majority")


def main() -> None:
    """Runs the seeds that are not done yet and writes the JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*")
    parser.add_argument("--rows", type=int, help="judge on the first rows only (for a replay of a slice)")
    options = parser.parse_args()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8").replace("$DATA", str(options.data)))
    seeds = options.seeds or spec.pop("seeds")
    spec.pop("seeds", None)
    variants = spec.pop("variants", None) or {"": {}}
    backbone = ptune.load_backbone(spec.pop("backbone"))
    test = read_examples(spec.pop("test"), require_label=True)[: options.rows]
    done = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    starts: dict = {}
    for variant, changes in variants.items():
        shared: dict[str, object] = {}
        for seed in seeds:
            if any(run["seed"] == seed and run["variant"] == variant for run in done):
                continue
            done.append({"variant": variant, **one_seed({**spec, **changes}, backbone, test, seed, shared, starts)})
            write(options, done, backbone)
            print(json.dumps(done[-1]), flush=True)
    write(options, done, backbone)
    print(json.dumps(summary(done), indent=1))


def one_seed(spec: dict, backbone: ptune.Backbone, test: tuple, seed: int, shared: dict, starts: dict) -> dict:
    """Trains and judges one seed."""
    started = time.perf_counter()
    task = ptune.fit(**spec, backbone=backbone, seed=seed)
    fit_seconds = time.perf_counter() - started
    model = task.model
    rows: Prepared = shared.setdefault("rows", model.prepare(test, keep_context=can_keep(model, test)))
    tuned = judge_scores(model, test, model.scores(rows))
    hard = model.without_prompt()
    if "zero" not in shared:
        shared["zero"] = hard.scores(hard.prepare(test))
    recipe = ptune.Recipe.of({**spec, "backbone": backbone, "seed": seed})
    splits = read_splits(recipe)
    shots = splits.train
    prior = log_prior(hard.scores(hard.prepare(shots)))
    if ("start", seed) not in starts:  # the same for every encoder of the prompt, so worked out once per seed
        untrained = build_model(recipe, backbone, splits)
        scores = untrained.scores(rows) - log_prior(untrained.scores(untrained.prepare(shots)))
        starts["start", seed] = judge_scores(model, test, scores).accuracy
    majority = max(sum(row.label == name for row in test) for name in task.labels) / len(test)
    return {
        "seed": seed,
        "accuracy": tuned.accuracy,
        "interval": tuned.interval,
        "macro_f1": tuned.macro_f1,
        "zero_shot": judge_scores(model, test, shared["zero"]).accuracy,
        "prior_corrected": judge_scores(model, test, shared["zero"] - prior).accuracy,
        "untrained_prompt": starts["start", seed],
        "majority": majority,
        "train_rows": len(shots),
        "test_rows": len(test),
        "trained_parameters": task.facts["trained_parameters"],
        "training": task.facts["training"],
        "fit_seconds": round(fit_seconds, 1),
        "peak_memory_mb": task.facts["peak_memory_mb"],
    }


def can_keep(model: ptune.PromptModel, test: tuple) -> bool:
    """Whether the test texts' contexts can be kept for all seeds."""
    from ptune.backbone import context_bytes

    if model.why_not_keep():
        return False
    return context_bytes(model.backbone, sum(model.encode(row).split for row in test)) < MAX_KEPT_BYTES


def summary(runs: list[dict]) -> dict:
    """Mean and deviation over seeds, per variant."""
    out = {}
    for variant in dict.fromkeys(run["variant"] for run in runs):
        mine = [run for run in runs if run["variant"] == variant]
        figures = {
            key: [run[key] for run in mine]
            for key in ("accuracy", "zero_shot", "prior_corrected", "untrained_prompt", "majority")
        }
        out[variant] = {
            "num_seeds": len(mine),
            **{key: round(statistics.mean(values), 4) for key, values in figures.items()},
            "deviation": round(statistics.stdev(figures["accuracy"]), 4) if len(mine) > 1 else None,
            "lowest": round(min(figures["accuracy"]), 4),
            "highest": round(max(figures["accuracy"]), 4),
            "train_seconds": round(statistics.median(run["training"]["seconds"] for run in mine), 1),
            "loss_ratio_worst": round(max(run["training"]["last_loss"] / run["training"]["first_loss"] for run in mine), 3),
        }
    return out


def write(options: argparse.Namespace, runs: list[dict], backbone: ptune.Backbone) -> None:
    """The JSON with everything needed to run it again."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    content = {
        "command": f"python bench/few_shot.py {options.spec} --data DATA --out {options.out}",
        "spec": yaml.safe_load(options.spec.read_text(encoding="utf-8")),
        "commit": commit,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "backbone": {"name": backbone.spec.name, "fingerprint": backbone.fingerprint},
        "summary": summary(runs) if runs else {},
        "runs": runs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
