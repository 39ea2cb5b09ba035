"""Does learning from few labels ever do harm? Variants of a recipe over data sets, seeds, numbers of rows: spec in, JSON out.

    python bench/no_harm.py bench/specs/no_harm.yaml --data ../shared/data --out bench/results/no_harm/no_harm.json

Each run is judged on the first `rows` of a split, shuffled once by a fixed seed, beside the hard template with its prior taken
out by the same training rows. `--split validation` is for choosing between variants; the committed figures are of `test`. The
JSON is written after every run, and runs that are in it are not done again while their plan is the same; `--sets`,
`--variants`, `--seeds` and `--shots` take parts of the grid. A set with fewer rows of a label than `shots` says in `most_shots`
how many it has.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from plans import digest_of
from timing import facts
from torch import Tensor

import ptune
from ptune.backbone import KeptContexts
from ptune.data import Example, read_examples
from ptune.model import PromptModel, judge_scores
from ptune.objective import Report
from ptune.readout import log_prior
from ptune.recipe import Recipe, read_splits

KEY = ("set", "variant", "shots", "seed")
ORDER_SEED = 11


def main() -> None:
    """Runs what is not done yet."""
    options = arguments()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8"))
    runs: list[dict[str, Any]] = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    loaded: dict[str, ptune.Backbone] = {}
    for name in options.sets or spec["sets"]:
        of_set, num_rows = spec["sets"][name], options.rows or spec["rows"]
        words = dict(of_set)
        backbone_name, most = words.pop("backbone"), words.pop("most_shots", None)
        judge: Judge | None = None
        for seed in options.seeds or spec["seeds"]:
            for shots in options.shots or spec["shots"]:
                for variant in options.variants or spec["variants"]:
                    about = {"set": name, "variant": variant, "shots": shots, "seed": seed}
                    about["plan"] = digest(of_set, spec["variants"][variant], num_rows, options.split)
                    if any(about.items() <= run.items() for run in runs):
                        continue
                    backbone = loaded.get(backbone_name) or loaded.setdefault(backbone_name, ptune.load_backbone(backbone_name))
                    judge = judge or Judge(backbone, rows_of(options.data / name, options.split, num_rows))
                    keys = {**words, **spec["variants"][variant], "shots": min(shots, most or shots), "seed": seed}
                    figures = one_run({**keys, "train": str(options.data / name / "train.jsonl")}, judge)
                    runs = [run for run in runs if any(run[key] != about[key] for key in KEY)]  # one of another plan
                    runs.append({**about, **figures, "commit": facts()["commit"]})
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


def digest(of_set: Mapping[str, Any], of_variant: Mapping[str, Any], num_rows: int, split: str) -> str:
    """Of everything in the spec that decides a run beside its number of shots and its seed; not of the folder of the data."""
    return digest_of(of_set, of_variant, num_rows, split)


class Judge:
    """Judges every run of a data set on the same rows; what runs have in common is computed once.

    Args:
        backbone: of all runs.
        rows: to judge on.
    """

    def __init__(self, backbone: ptune.Backbone, rows: tuple[Example, ...]) -> None:
        self.backbone, self.rows = backbone, rows
        self._contexts = KeptContexts(backbone, [])
        self._hard: dict[str, Tensor] = {}

    def tuned(self, model: PromptModel) -> Report:
        """The trained model; it reads the contexts of texts that an earlier one has read."""
        prepared = model.prepare(self.rows)
        keeps = not model.why_not_keep()
        return judge_scores(model, self.rows, model.scores(replace(prepared, contexts=self._contexts) if keeps else prepared))

    def hard(self, model: PromptModel, train: Sequence[Example]) -> tuple[Report, Report]:
        """The hard template as it is, and with the prior of the training texts taken out."""
        plain = model.without_prompt()
        key = str(plain.template)
        if key not in self._hard:
            self._hard[key] = plain.scores(plain.prepare(self.rows))
        scores, prior = self._hard[key], log_prior(plain.scores(plain.prepare(train)))
        return judge_scores(model, self.rows, scores), judge_scores(model, self.rows, scores - prior)


def one_run(keys: dict[str, Any], judge: Judge) -> dict[str, Any]:
    """Trains and judges once."""
    started = time.perf_counter()
    task = ptune.fit(**keys, backbone=judge.backbone)
    seconds = time.perf_counter() - started
    train = read_splits(Recipe.of({**keys, "backbone": judge.backbone})).train
    assert isinstance(task.model, PromptModel)
    zero, prior_corrected = judge.hard(task.model, train)
    tuned = judge.tuned(task.model)
    held_out = task.facts.get("held_out", {})
    return {
        "zero_shot": zero.accuracy,
        "prior_corrected": prior_corrected.accuracy,
        "accuracy": tuned.accuracy,
        "loss": tuned.loss,
        "train_rows": len(train),
        "folds": held_out.get("folds"),
        "step_length": held_out.get("step_length"),
        "held_out_losses": held_out.get("losses"),
        "held_out_accuracies": held_out.get("accuracies"),
        "seconds": round(seconds, 1),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean gain over the prior-corrected hard template, in points: of all runs, by set and number of rows, and the lowest."""
    return {variant: of_variant([run for run in runs if run["variant"] == variant]) for variant in names(runs, "variant")}


def of_variant(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one variant's runs."""
    gains = [100 * (run["accuracy"] - run["prior_corrected"]) for run in runs]

    def mean_gain(**where: Any) -> float:
        chosen = (gain for run, gain in zip(runs, gains, strict=True) if where.items() <= run.items())
        return round(statistics.mean(chosen), 2)

    by_set = {
        name: {
            "prior_corrected": round(statistics.mean(run["prior_corrected"] for run in runs if run["set"] == name), 4),
            "accuracy": round(statistics.mean(run["accuracy"] for run in runs if run["set"] == name), 4),
            "gain": mean_gain(set=name),
            "by_shots": {str(shots): mean_gain(set=name, shots=shots) for shots in names(runs, "shots", set=name)},
            "lowest_run": round(min(gain for run, gain in zip(runs, gains, strict=True) if run["set"] == name), 2),
        }
        for name in names(runs, "set")
    }
    return {
        "runs": len(runs),
        "mean_gain": mean_gain(),
        "worst_set": min(one["gain"] for one in by_set.values()),
        "share_of_runs_below": round(sum(gain < 0 for gain in gains) / len(gains), 3),
        "by_set": by_set,
    }


def names(runs: list[dict[str, Any]], key: str, **where: Any) -> list[Any]:
    """What stands under a key, each once, in the order of the runs."""
    return list(dict.fromkeys(run[key] for run in runs if where.items() <= run.items()))


def write(options: argparse.Namespace, spec: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """The whole JSON, replaced at once."""
    result = {
        "command": " ".join(["python", *sys.argv]),
        **facts(),
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
