"""FewCLUE with a frozen model, its official splits, everything chosen on the dev files: spec in, JSON out.

    python bench/fewclue.py bench/specs/fewclue.yaml --data ../shared/data --out bench/results/fewclue/fewclue.json

A task of the spec holds a recipe's keys and `ways`, each of which changes some of them. Every way is trained on `train_k` of
each split k and judged on `dev_k`; with `stops_on_dev: true` its steps are chosen there too, which flatters it where it
has few rows. The way with the highest mean over the dev files is the task's; it alone is judged on the test file,
once for each split. Whatever reads a text on the model finds what others computed. Trained tasks lie in `--work` between
calls; runs in the JSON are not done again while their plan is the same.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from plans import digest_of
from timing import facts
from torch import Tensor

import ptune
from ptune.backbone import KeptContexts
from ptune.data import Example, read_examples
from ptune.model import PromptModel, judge_scores

Figures = dict[str, Any]
CONTEXT_BYTES = 5 << 30
"""Of the texts that all ways read."""
ROWS_AT_ONCE = 128
"""Whose contexts are in memory together when the test file is judged."""
NAMES = "$NAMES"
"""In place of labels: the data set's own names, each its own label word."""


def main() -> None:
    """Runs what is not done yet and writes the JSON after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/fewclue"), help="where trained tasks lie")
    parser.add_argument("--tasks", nargs="*")
    parser.add_argument("--splits", nargs="*", type=int)
    parser.add_argument("--rows", type=int, help="judge on so few rows (for a replay of a slice)")
    parser.add_argument("--steps", type=int, help="train for so few steps (for a replay of a slice)")
    options = parser.parse_args()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8"))
    with Board(spec, options) as board:
        for name in options.tasks or spec["tasks"]:
            board.run_task(name)
    print(json.dumps(summary(spec, board.runs), indent=1, ensure_ascii=False))


class Board(ExitStack):
    """All runs, kept in the JSON; within it, all ways read each text once.

    Args:
        spec: of the file.
        options: of the command line.
    """

    def __init__(self, spec: Mapping[str, Any], options: argparse.Namespace) -> None:
        super().__init__()
        self.spec, self.options = spec, options
        self.runs: list[Figures] = json.loads(options.out.read_text(encoding="utf-8"))["runs"] if options.out.exists() else []

    @cached_property
    def backbone(self) -> ptune.Backbone:
        """Loaded when the first run is to be made."""
        backbone = ptune.load_backbone(self.spec["backbone"])
        self.enter_context(ptune.sharing_contexts(backbone, memory=CONTEXT_BYTES))
        return backbone

    def run_task(self, name: str) -> None:
        """All ways on all splits, then the chosen way's test."""
        splits = self.options.splits or self.spec["tasks"][name].get("splits", self.spec["splits"])
        for split in splits:
            for way in self.spec["tasks"][name]["ways"]:
                self.run_dev(name, way, split)
        way = chosen(self.runs, name)
        self.run_tests(name, way, splits)

    def run_dev(self, name: str, way: str, split: int) -> None:
        """One way on one split, judged on the dev file."""
        keys = self.keys(name, way)
        about = {"task": name, "way": way, "split": split, "plan": self.plan(keys)}
        if any(about.items() <= run.items() for run in self.runs):
            return
        self.runs = [run for run in self.runs if (run["task"], run["way"], run["split"]) != (name, way, split)]
        folder = self.options.data / f"fewclue_{name}"
        started = time.perf_counter()
        dev = self.read(folder / f"dev_{split}.jsonl", name)
        stops = {"validation": dev} if keys.pop("stops_on_dev", False) else {}
        task = ptune.fit(**keys, **stops, train=str(folder / f"train_{split}.jsonl"), backbone=self.backbone, seed=split)
        figures = {"dev": task.evaluate(dev).score, "seconds": round(time.perf_counter() - started, 1)}
        task.save(self.bundle(about))
        self.runs.append({**about, **figures, "commit": facts()["commit"]})
        self.write()

    def run_tests(self, name: str, way: str, splits: Sequence[int]) -> None:
        """The test file's scores of the tasks that were trained."""
        runs = [run for run in self.runs if (run["task"], run["way"]) == (name, way) and run["split"] in splits]
        runs = [run for run in runs if "test" not in run]
        if not runs:
            return
        started = time.perf_counter()
        rows = self.read(self.options.data / f"fewclue_{name}" / "test.jsonl", name)
        tasks = [ptune.load(self.bundle(run), backbone=self.backbone) for run in runs]
        scores = test_scores(tasks, rows)
        seconds = round((time.perf_counter() - started) / len(runs), 1)
        for run, score in zip(runs, scores, strict=True):
            run |= {"test": score, "test_rows": len(rows), "test_seconds": seconds}
        self.write()

    def keys(self, name: str, way: str) -> dict[str, Any]:
        """The recipe of a way."""
        task = self.spec["tasks"][name]
        common = {key: value for key, value in task.items() if key not in ("ways", "splits", "published", "sample_of")}
        keys = {**self.spec["common"], **common, **(task["ways"][way] or {})}
        if keys.get("labels") == NAMES:
            names = json.loads((self.options.data / f"fewclue_{name}" / "labels.json").read_text(encoding="utf-8"))
            keys["labels"] = names if keys.get("head") else {one: [one] for one in names}
        return {**keys, **({"steps": self.options.steps} if self.options.steps else {})}

    def plan(self, keys: Mapping[str, Any]) -> str:
        """A digest of what decides a run."""
        return digest_of(keys, self.options.rows)

    def bundle(self, about: Mapping[str, Any]) -> Path:
        """Where a trained task lies."""
        return Path(self.options.work) / f"{about['task']}-{about['split']}-{about['plan']}"

    def read(self, path: Path, name: str) -> tuple[Example, ...]:
        """Rows of a file."""
        has_label = self.spec["tasks"][name].get("task") != "choice"
        rows = read_examples(str(path), require_label=True) if has_label else read_examples(str(path), label=None)
        return rows[: self.options.rows]

    def write(self) -> None:
        """The whole JSON, replaced at once."""
        command = " ".join(["python", *sys.argv])
        content = {
            "command": command,
            **facts(),
            "spec": self.spec,
            "summary": summary(self.spec, self.runs),
            "runs": self.runs,
        }
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.options.out.with_suffix(".part")
        fresh.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        fresh.replace(self.options.out)


def test_scores(tasks: Sequence[ptune.Task], rows: tuple[Example, ...]) -> list[float]:
    """Each task's score on the rows; what the tasks have in common in front of their prompts is computed once."""
    if all(task.facts["recipe"].get("task") == "choice" and not task.facts["trained_parameters"] for task in tasks):
        return [tasks[0].evaluate(rows).score] * len(tasks)  # candidates are compared with each other: nothing is taken out
    models = [task.model for task in tasks if isinstance(task.model, PromptModel) and not task.model.why_not_keep()]
    if len(models) < len(tasks):
        return [task.evaluate(rows).score for task in tasks]
    scores: list[list[Tensor]] = [[] for _ in models]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        contexts = KeptContexts(models[0].backbone, [])
        for model, parts in zip(models, scores, strict=True):
            parts.append(model.scores(replace(model.prepare(part), contexts=contexts)))
    return [judge_scores(model, rows, torch.cat(parts)).score for model, parts in zip(models, scores, strict=True)]


def chosen(runs: list[Figures], name: str) -> str:
    """The way of a task with the highest mean over the dev files."""
    scores: dict[str, list[float]] = {}
    for run in runs:
        if run["task"] == name:
            scores.setdefault(run["way"], []).append(run["dev"])
    return max(scores, key=lambda way: statistics.mean(scores[way]))


def summary(spec: Mapping[str, Any], runs: list[Figures]) -> Figures:
    """Of each task its way, dev and test means, beside what was published; and the mean over tasks."""
    tasks: Figures = {}
    for name, task in spec["tasks"].items():
        if not any(run["task"] == name for run in runs):
            continue
        way = chosen(runs, name)
        mine = [run for run in runs if (run["task"], run["way"]) == (name, way)]
        tests = [100 * run["test"] for run in mine if "test" in run]
        tasks[name] = {
            "way": way,
            "dev": round(100 * statistics.mean(run["dev"] for run in mine), 1),
            "test": round(statistics.mean(tests), 1) if tests else None,
            "splits": len(tests),
            "published": task["published"],
            **({"sample_of": task["sample_of"]} if "sample_of" in task else {}),
        }
    done = [one["test"] for one in tasks.values() if one["test"] is not None]
    return {"tasks": tasks, "mean": round(statistics.mean(done), 2) if len(done) == len(spec["tasks"]) else None}


if __name__ == "__main__":
    main()
