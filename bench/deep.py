"""Prompts in every layer against prompts in the text and full fine-tuning, on many kinds of task: spec in, JSON out.

    python bench/deep.py bench/specs/deep.yaml --data ../shared/data --out bench/results/deep [--only wikigold] [--seeds 1]

The spec names a recipe of `examples/deep` for each data set, the seeds, and what each method changes in it. A run trains on at
most `train_rows` rows, drawn by its seed, and is judged on the first `test_rows` of the test file; no test row is looked at
before. Where a case lists `rates` for a method, the first seed trains once with each, the validation file chooses, and all
seeds keep that rate. Backbones are loaded once for a data set, but for runs that train them. Finished runs are kept when the
script is called again, so it can be stopped at any time.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

import ptune
from ptune.data import Example, read_examples
from ptune.recipe import Recipe

__all__ = ["main"]


def main() -> None:
    """Runs what is not done yet and writes a JSON for each data set after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="data sets, else all")
    parser.add_argument("--methods", nargs="*", help="methods, else all")
    parser.add_argument("--seeds", type=int, nargs="*", help="seeds, else the spec's")
    parser.add_argument("--rows", type=int, help="judge on so few test rows (for a replay of a slice)")
    parser.add_argument("--steps", type=int, help="train for so few steps (for a replay of a slice)")
    options = parser.parse_args()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8"))
    for name, case in spec["data"].items():
        if not options.only or name in options.only:
            run_case(name, case, spec, options)


def run_case(name: str, case: dict[str, Any], spec: dict[str, Any], options: argparse.Namespace) -> None:
    """All methods and seeds of one data set."""
    text = (Path(__file__).resolve().parents[1] / case["recipe"]).read_text(encoding="utf-8")
    recipe = yaml.safe_load(text.replace("$DATA", str(options.data)))
    path = options.out / f"{name}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    name_of_backbone, loaded = recipe.pop("backbone"), None
    train, test = (recipe.pop(key) for key in ("train", "test"))
    validation = recipe.pop("validation", None)
    num_judged = options.rows or case.get("test_rows", spec["test_rows"])
    test_rows = rows_of(read_examples(test, label=None))[:num_judged]
    train_rows = rows_of(read_examples(train, label=None))
    looks = rows_of(read_examples(validation, label=None))[:num_judged] if validation else []
    rates = {run["method"]: run["learning_rate"] for run in done if "trials" in run}
    for seed in options.seeds or case.get("seeds", spec["seeds"]):
        for method, changes in {**spec["methods"], **case.get("methods", {})}.items():
            if changes is None or (options.methods and method not in options.methods):
                continue
            if any(run["seed"] == seed and run["method"] == method for run in done):
                continue
            common = dict(spec["methods"].get(method) or {})
            words = {**recipe, **common, **changes, **({"steps": options.steps} if options.steps else {})}
            if words.get("tune") == "lm":  # a model of its own
                backbone = ptune.load_backbone(name_of_backbone)
            else:
                backbone = loaded = loaded or ptune.load_backbone(name_of_backbone)
            shots = drawn(train_rows, case.get("train_rows", spec["train_rows"]), seed)
            trials: dict[str, Any] = {}
            if method not in rates and case.get("rates", {}).get(method):
                trials = choose_rate(words, case["rates"][method], name_of_backbone, backbone, shots, looks, seed)
                rates[method] = trials["learning_rate"]
            if method in rates:
                words["learning_rate"] = rates[method]
            run = one_run(words, backbone, shots, test_rows, seed)
            done.append({"seed": seed, "method": method, "learning_rate": words.get("learning_rate"), **run, **trials})
            write(path, name, case, done, options)
            print(
                name, json.dumps({key: done[-1][key] for key in ("method", "seed", "metric", "score", "seconds")}), flush=True
            )


def choose_rate(
    words: dict[str, Any],
    rates: list[float],
    name_of_backbone: str,
    backbone: ptune.Backbone,
    train: list[dict[str, Any]],
    validation: list[dict[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """The rate that does best on validation rows, and what each of them scored."""
    trials = {}
    for rate in rates:
        mine = ptune.load_backbone(name_of_backbone) if words.get("tune") == "lm" else backbone
        trials[str(rate)] = round(one_run({**words, "learning_rate": rate}, mine, train, validation, seed)["score"], 4)
    best = max(rates, key=lambda rate: trials[str(rate)])
    return {"learning_rate": best, "trials": trials}


def rows_of(examples: tuple[Example, ...]) -> list[dict[str, Any]]:
    """Rows as they can be handed to `fit` again."""
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in row.fields.items()} for row in examples
    ]


def drawn(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """At most `count` rows, in an order that follows the seed."""
    order = random.Random(seed).sample(range(len(rows)), min(count, len(rows)))
    return [rows[at] for at in order]


def one_run(
    words: dict[str, Any], backbone: ptune.Backbone, train: list[dict[str, Any]], test: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    """Trains and judges."""
    started = time.perf_counter()
    words = {key: value for key, value in words.items() if key in Recipe.model_fields}
    task = ptune.fit(**words, train=train, backbone=backbone, seed=seed)
    trained = time.perf_counter()
    report = task.evaluate(test)
    return {
        "metric": report.metric,
        "score": report.score,
        "report": report.to_dict(),
        "train_rows": len(train),
        "test_rows": len(test),
        "trained_parameters": task.facts["trained_parameters"],
        "training": task.facts["training"],
        "seconds": {"fit": round(trained - started, 1), "judge": round(time.perf_counter() - trained, 1)},
        "peak_memory_mb": task.facts["peak_memory_mb"],
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each method's mean over seeds."""
    out = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        out[method] = {
            "metric": mine[0]["metric"],
            "score": round(statistics.mean(run["score"] for run in mine), 4),
            "scores": [round(run["score"], 4) for run in mine],
            "trained_parameters": mine[0]["trained_parameters"],
            "fit_seconds": round(statistics.median(run["seconds"]["fit"] for run in mine), 1),
        }
    return out


def write(path: Path, name: str, case: dict[str, Any], runs: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The JSON with everything needed to run it again."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    content = {
        "command": f"python bench/deep.py {options.spec} --data DATA --out {options.out} --only {name}",
        "case": case,
        "commit": commit,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {platform.system()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "summary": summary(runs),
        "runs": runs,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
