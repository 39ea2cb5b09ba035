"""Does learning from few labels ever do harm? Variants of a recipe over data sets, seeds, numbers of rows: spec in, JSON out.

    python bench/no_harm.py bench/specs/no_harm.yaml --data ../shared/data --out bench/results/no_harm/no_harm.json

Each run is judged on the first `rows` of a split, shuffled once by a fixed seed, beside the hard template with its prior taken
out by the same training rows. `--split validation` is for choosing between variants; the committed figures are of `test`. The
JSON is written after every run, and runs that are in it are not done again; `--sets`, `--variants`, `--seeds` and `--shots`
take parts of the grid. A set with fewer rows of a label than `shots` says in `most_shots` how many it has.
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

KEY = ("set", "variant", "shots", "seed")
ORDER_SEED = 11


def main() -> None:
    """Runs what is not done yet."""
    options = arguments()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8"))
    runs: list[dict[str, Any]] = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    done = {tuple(run[key] for key in KEY) for run in runs}
    loaded: dict[str, ptune.Backbone] = {}
    for name in options.sets or spec["sets"]:
        words = dict(spec["sets"][name])
        backbone_name, most = words.pop("backbone"), words.pop("most_shots", None)
        judged: tuple[Example, ...] = ()
        for seed in options.seeds or spec["seeds"]:
            for shots in options.shots or spec["shots"]:
                for variant in options.variants or spec["variants"]:
                    if (name, variant, shots, seed) in done:
                        continue
                    backbone = loaded.get(backbone_name) or loaded.setdefault(backbone_name, ptune.load_backbone(backbone_name))
                    judged = judged or rows_of(options.data / name, options.split, options.rows or spec["rows"])
                    keys = {**words, **spec["variants"][variant], "shots": min(shots, most or shots), "seed": seed}
                    figures = one_run(keys, options.data / name / "train.jsonl", backbone, judged)
                    runs.append({"set": name, "variant": variant, "shots": shots, "seed": seed, **figures})
                    write(options, spec, runs)
                    print(json.dumps(runs[-1]), flush=True)
    write(options, spec, runs)
    print(json.dumps(summary(runs), indent=1))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=["test", "validation"])
    parser.add_argument("--rows", type=int, help="judge on so many rows in place of the spec's number")
    for part in ("--sets", "--variants"):
        parser.add_argument(part, nargs="*")
    for part in ("--seeds", "--shots"):
        parser.add_argument(part, nargs="*", type=int)
    return parser.parse_args()


def rows_of(folder: Path, split: str, num_rows: int) -> tuple[Example, ...]:
    """The same rows of a split for every run."""
    rows = list(read_examples(str(folder / f"{split}.jsonl"), require_label=True))
    random.Random(ORDER_SEED).shuffle(rows)
    return tuple(rows[:num_rows])


def one_run(keys: dict[str, Any], train: Path, backbone: ptune.Backbone, judged: tuple[Example, ...]) -> dict[str, Any]:
    """Trains and judges once."""
    started = time.perf_counter()
    task = ptune.fit(**keys, train=str(train), test=judged, backbone=backbone)
    facts = task.facts
    held_out = facts.get("held_out", {})
    return {
        "zero_shot": facts["zero_shot"]["accuracy"],
        "prior_corrected": facts["prior_corrected"]["accuracy"],
        "accuracy": facts["tuned"]["accuracy"],
        "loss": facts["tuned"]["loss"],
        "step_length": held_out.get("step_length"),
        "held_out_losses": held_out.get("losses"),
        "seconds": round(time.perf_counter() - started, 1),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean gain over the prior-corrected hard template, in points: of all runs, and the lowest mean of a data set."""
    figures = {}
    for variant in dict.fromkeys(run["variant"] for run in runs):
        gains: dict[str, list[float]] = {}
        for run in runs:
            if run["variant"] == variant:
                gains.setdefault(run["set"], []).append(100 * (run["accuracy"] - run["prior_corrected"]))
        means = {name: round(statistics.mean(values), 2) for name, values in gains.items()}
        every = [gain for values in gains.values() for gain in values]
        figures[variant] = {
            "runs": len(every),
            "mean_gain": round(statistics.mean(every), 2),
            "worst_set": min(means.values()),
            "share_of_runs_below": round(sum(gain < 0 for gain in every) / len(every), 3),
            "by_set": means,
        }
    return figures


def write(options: argparse.Namespace, spec: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """The whole JSON, replaced at once."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.stdout.strip(),
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "split": options.split,
        "spec": spec,
        "summary": summary(runs),
        "runs": runs,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = options.out.with_suffix(".part")
    fresh.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(options.out)


if __name__ == "__main__":
    main()
