"""Every way to learn from few labels beside the plain prompt, on the same rows: spec in, JSON out.

    python bench/strategies.py bench/specs/strategies.yaml --data ../shared/data --out bench/results/strategies/all.json
    python bench/table_strategies.py                                     # writes docs/strategy-figures.md

A set of the spec holds a recipe's keys; an entry of `ways` what a way changes there, and by which of ptune's strategies it is
run (`by`, else the usual training) with its section; `sees` says in words what a way learns from beside the shots, and
`against` which way it is paired with (else the spec's). All ways of a seed see the same shots, and are judged on the first
`rows` rows of the test file, shuffled once by a fixed seed. Nothing was chosen on these rows. A run finds the texts that
earlier ones have read, which its seconds show. Runs in the JSON are not done again while their plan is the same; a way that
fails is reported with its reason, and tried again by the next call. Intervals are of the mean difference over paired seeds, by
Student's t.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from plans import digest_of
from scipy.stats import t as student_t
from timing import facts

import ptune
from ptune.data import Example, read_examples
from ptune.errors import PtuneError
from ptune.recipe import Recipe
from ptune.strategy import (
    AdaptSettings,
    ChainOfThoughtSettings,
    InContextSettings,
    PetSettings,
    RefineSettings,
    SearchSettings,
    TemplateSearchSettings,
    adapt,
    nearest_tasks,
    refine_words,
    run_chain_of_thought,
    run_in_context,
    run_mixture,
    run_pet,
    search_labels,
    search_template,
    section_of,
)

ORDER_SEED = 11
CONTEXT_BYTES = 5 << 30
ITS_PATTERNS = "its patterns"
Figures = dict[str, Any]


def main() -> None:
    """Runs what is not done yet and writes the JSON after each run."""
    options = arguments()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8").replace("$DATA", str(options.data)))
    runs: list[Figures] = json.loads(options.out.read_text(encoding="utf-8"))["runs"] if options.out.exists() else []
    runs = [run for run in runs if "failed" not in run]
    with Backbones() as backbones:
        run_all(options, spec, runs, backbones)


def run_all(options: argparse.Namespace, spec: Figures, runs: list[Figures], backbones: "Backbones") -> None:
    """Sets, seeds, ways; the JSON holds the runs made so far."""
    for name in options.sets or spec["sets"]:
        keys = dict(spec["sets"][name])
        of_set = keys.pop("ways", {})
        num_rows = options.rows or spec["rows"]
        judged = rows_of(keys.pop("test"), num_rows)
        for seed in options.seeds or spec["seeds"]:
            for way in options.ways or spec["ways"]:
                plan = merged(spec["ways"][way] or {}, of_set.get(way) or {})
                about = {"set": name, "way": way, "seed": seed, "plan": digest(spec["sets"][name], plan, num_rows)}
                if any(about.items() <= run.items() for run in runs):
                    continue
                runs = [run for run in runs if (run["set"], run["way"], run["seed"]) != (name, way, seed)]
                backbone = backbones.of(keys["backbone"])
                started = time.perf_counter()
                try:
                    figures = run_one({**keys, "backbone": backbone, "test": judged, "seed": seed}, plan)
                except Exception as error:  # the other ways go on
                    figures = {"failed": str(error) if isinstance(error, PtuneError) else f"{type(error).__name__}: {error}"}
                figures |= {"seconds": round(time.perf_counter() - started, 1), "commit": facts()["commit"]}
                runs.append({**about, **figures})
                write(options.out, spec, runs)
                print(json.dumps(runs[-1], ensure_ascii=False), flush=True)


class Backbones(ExitStack):
    """Each loaded once; within it, all ways and seeds read each text once."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded: dict[str, ptune.Backbone] = {}

    def of(self, name: str) -> ptune.Backbone:
        """By name."""
        if name not in self._loaded:
            self._loaded[name] = ptune.load_backbone(name)
            self.enter_context(ptune.sharing_contexts(self._loaded[name], memory=CONTEXT_BYTES))
        return self._loaded[name]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, help="judge on so many rows in place of the spec's number")
    parser.add_argument("--seeds", nargs="*", type=int)
    for part in ("--sets", "--ways"):
        parser.add_argument(part, nargs="*")
    return parser.parse_args()


def rows_of(path: str, num_rows: int) -> tuple[Example, ...]:
    """The same rows of a file for every run."""
    rows = list(read_examples(path, require_label=True))
    random.Random(ORDER_SEED).shuffle(rows)
    return tuple(rows[:num_rows])


def digest(of_set: Mapping[str, Any], plan: Mapping[str, Any], num_rows: int) -> str:
    """Of everything in the spec that decides a run; other ways of the set, and words about a way, do not."""
    kept = {key: value for key, value in of_set.items() if key != "ways"}
    planned = {key: value for key, value in plan.items() if key not in ("sees", "against")}
    return digest_of(kept, planned, num_rows)


def merged(way: Mapping[str, Any], of_set: Mapping[str, Any]) -> dict[str, Any]:
    """A way with what a set changes in it; sections are joined key by key."""
    joined = {**way, **of_set}
    if isinstance(way.get("section"), Mapping) and isinstance(of_set.get("section"), Mapping):
        joined["section"] = {**way["section"], **of_set["section"]}
    return joined


def run_one(keys: dict[str, Any], plan: dict[str, Any]) -> Figures:
    """One way on one seed's shots."""
    own = {key: value for key, value in plan.items() if key not in ("by", "section", "sees", "against")}
    return RUNNERS[plan.get("by", "training")]({**keys, **own}, plan.get("section", {}))


def by_training(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """The usual training; of `method: hard`, only the preference of the model is measured."""
    return figures_of(ptune.fit(**keys).facts)


def by_pet(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """PET, iPET; the unlabelled texts are the first so many of the training file, shuffled by the seed."""
    section = dict(section)
    section["unlabelled"] = unlabelled(keys, section.pop("num_unlabelled"))
    task = run_pet(Recipe.of(keys), section_of(section, "pet", PetSettings, where="spec"))
    pet = task.facts["pet"]
    return {**figures_of(task.facts), "mean_of_patterns": pet["mean_of_patterns"], "pet": pet}


def unlabelled(keys: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Texts of the training file without their labels."""
    texts = list(read_examples(keys["train"], label=None))
    random.Random(keys["seed"]).shuffle(texts)
    return [{"text": row.fields["text"]} for row in texts[:count]]


def by_reading_on(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """Continued pre-training on unlabelled texts, then the usual training on the model that comes of it."""
    section = dict(section)
    texts = unlabelled(keys, section.pop("num_unlabelled"))
    with tempfile.TemporaryDirectory() as place:
        settings = section_of({**section, "seed": keys["seed"]}, "adapt", AdaptSettings, where="spec")
        done = adapt(texts, backbone=keys["backbone"], out=place, settings=settings)
        task = ptune.fit(**{**keys, "backbone": ptune.load_backbone(done.folder)})
    return {**figures_of(task.facts), "perplexity": [round(one, 2) for one in done.perplexity]}


def by_refinement(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """A long list of words for each label, refined on unlabelled texts (KPT).

    With `method: hard` the words speak with the weights that refinement gave them, any of them (`aggregate: logsumexp`); else
    they start with equal weights, which learn with the prompt.
    """
    section = dict(section)
    section["unlabelled"] = unlabelled(keys, section.pop("num_unlabelled"))
    found = refine_words(Recipe.of(keys), section_of(section, "refine", RefineSettings, where="spec"))
    if keys.get("method") == "hard":
        spoken = {"labels": found.labels, "aggregate": "logsumexp"}
    else:
        spoken = {"labels": {name: list(words) for name, words in found.labels.items()}, "head": "weights"}
    return {**figures_of(ptune.fit(**{**keys, **spoken}).facts), "words": found.labels}


def by_chain_of_thought(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """Reasoning is written first, the answer read off it."""
    found = run_chain_of_thought(Recipe.of(keys), section_of(section, "cot", ChainOfThoughtSettings, where="spec"))[1]
    assert found is not None
    return {"accuracy": found.accuracy, "found": found.found}


def by_demonstrations(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """In-context learning."""
    found = run_in_context(Recipe.of(keys), section_of(section, "icl", InContextSettings, where="spec"))
    assert found.ensemble is not None
    return {"accuracy": found.ensemble.accuracy, "sets": [one.accuracy for one in found.reports]}


def by_label_search(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """Label words found by the model, then the usual training with them; no given word is looked at."""
    recipe = Recipe.of({**keys, "labels": {name: [name] for name in keys["labels"]}})
    found = search_labels(recipe, section_of(section, "search", SearchSettings, where="spec")).to_dict()
    own = {key: found[key] for key in ("labels", "length") if key in found}
    return {**figures_of(ptune.fit(**{**keys, **own}).facts), "words": found["labels"]}


def by_template_search(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """A template found by the model, its words judged as they are (`method: hard`)."""
    found = search_template(Recipe.of(keys), section_of(section, "search_template", TemplateSearchSettings, where="spec"))
    template = found.best.template
    return {**figures_of(ptune.fit(**{**keys, "template": template}).facts), "template": template}


def by_transfer(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """The nearest of several source tasks' prompts as the start (SPoT); sources draw their start with a seed of their own."""
    tried = ptune.fit(**keys, steps=section["steps_to_compare"])
    with tempfile.TemporaryDirectory() as place:
        for name, source in section["sources"].items():
            common = {"backbone": keys["backbone"], "template": keys["template"], "seed": keys["seed"] + 1000}
            ptune.fit(**{**common, "card_examples": 0, **source}).save(Path(place) / name)
        nearest = nearest_tasks(tried, [Path(place) / name for name in section["sources"]])
        task = ptune.fit(**{**keys, "method": {"name": "p-tuning", "init_bundle": str(nearest[0].path)}})
    ways = {Path(one.path).name: round(one.similarity, 4) for one in nearest}
    return {**figures_of(task.facts), "similarity": ways}


def by_mixture(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """One prompt of other tasks, taken as it is: no row of this task is learned from, its texts calibrate."""
    common = {key: keys[key] for key in ("backbone", "template", "seed")}
    sources = {name: Recipe.of({**common, **source}) for name, source in section["sources"].items()}
    found = run_mixture(sources, new={"new": Recipe.of(keys)})
    scores = found.facts["new"]["new"]
    return {"accuracy": scores["mixed"], "untrained": scores["untrained"]}


def figures_of(facts_of_task: Mapping[str, Any]) -> Figures:
    """What a trained task says of itself."""
    kept = {key: facts_of_task[key]["accuracy"] for key in ("zero_shot", "prior_corrected") if key in facts_of_task}
    return {"accuracy": facts_of_task["tuned"]["accuracy"], **kept}


RUNNERS: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], Figures]] = {
    "training": by_training,
    "pet": by_pet,
    "demonstrations": by_demonstrations,
    "label search": by_label_search,
    "template search": by_template_search,
    "transfer": by_transfer,
    "reading on": by_reading_on,
    "refinement": by_refinement,
    "chain of thought": by_chain_of_thought,
    "mixture": by_mixture,
}


def summary(runs: list[Figures], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation of each way on each set, and its paired difference from the way that it stands against."""
    out: dict[str, dict[str, list[Figures]]] = {}
    for run in runs:
        out.setdefault(run["set"], {}).setdefault(run["way"], []).append(run)
    return {
        name: {way: of_way(mine, scores_against(spec, way, ways)) for way, mine in ways.items()} for name, ways in out.items()
    }


def scores_against(spec: Mapping[str, Any], way: str, ways: Mapping[str, list[Figures]]) -> dict[int, float]:
    """By seed, the accuracy that a way stands against: another way's, or the mean of its own patterns; none for itself."""
    other = (spec["ways"].get(way) or {}).get("against", spec.get("against", "plain"))
    if other == ITS_PATTERNS:
        return {run["seed"]: run["mean_of_patterns"] for run in ways[way] if "failed" not in run}
    if other == way:
        return {}
    return {run["seed"]: run["accuracy"] for run in ways.get(other, []) if "failed" not in run}


def of_way(mine: list[Figures], theirs: Mapping[int, float]) -> Figures:
    """A way's figures; of one that failed, its reason."""
    scores = {run["seed"]: run["accuracy"] for run in mine if "failed" not in run}
    figures: Figures = {"seconds": round(statistics.median(run["seconds"] for run in mine), 1), "seeds": list(scores)}
    figures |= next(({"failed": run["failed"]} for run in mine if "failed" in run), {})
    if scores:
        figures["accuracy"] = round(statistics.mean(scores.values()), 4)
        figures["deviation"] = round(statistics.stdev(scores.values()), 4) if len(scores) > 1 else None
    gains = [scores[seed] - theirs[seed] for seed in scores if seed in theirs]
    if gains:
        figures["difference"] = difference(gains)
    return figures


def difference(gains: list[float]) -> Figures:
    """Mean of paired differences with its 95 % interval; no interval of a single seed."""
    mean = statistics.mean(gains)
    if len(gains) == 1:
        return {"mean": round(mean, 4), "low": None, "high": None}
    slack = float(student_t.ppf(0.975, len(gains) - 1)) * statistics.stdev(gains) / len(gains) ** 0.5
    return {"mean": round(mean, 4), "low": round(mean - slack, 4), "high": round(mean + slack, 4)}


def write(path: Path, spec: Mapping[str, Any], runs: list[Figures]) -> None:
    """The whole JSON, replaced at once."""
    command = " ".join(["python", *sys.argv])
    content = {"command": command, **facts(), "spec": spec, "summary": summary(runs, spec), "runs": runs}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)


if __name__ == "__main__":
    main()
