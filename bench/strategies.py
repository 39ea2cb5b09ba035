"""Every way to learn from few labels beside the plain prompt, on the same rows: spec in, JSON out.

    python bench/strategies.py bench/specs/strategies.yaml --data ../shared/data --out bench/results/strategies.json
    python bench/table_strategies.py                                     # the table of docs/strategies.md

A set of the spec holds a recipe's keys; an entry of `ways` what a way changes there, and by which of ptune's strategies it is
run (`by`, else the usual training) with its section. All ways of a seed see the same shots, and are judged on the first `rows`
rows of the test file, shuffled once by a fixed seed. Nothing was chosen on these rows. Runs in the JSON are not done again.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from timing import facts

import ptune
from ptune.data import Example, read_examples
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
Figures = dict[str, Any]


def main() -> None:
    """Runs what is not done yet and writes the JSON after each run."""
    options = arguments()
    spec = yaml.safe_load(options.spec.read_text(encoding="utf-8").replace("$DATA", str(options.data)))
    runs: list[Figures] = json.loads(options.out.read_text(encoding="utf-8"))["runs"] if options.out.exists() else []
    done = {(run["set"], run["way"], run["seed"]) for run in runs}
    backbones: dict[str, ptune.Backbone] = {}
    for name in options.sets or spec["sets"]:
        keys = dict(spec["sets"][name])
        of_set = keys.pop("ways", {})
        judged = rows_of(keys.pop("test"), options.rows or spec["rows"])
        for seed in options.seeds or spec["seeds"]:
            for way in options.ways or spec["ways"]:
                if (name, way, seed) in done:
                    continue
                plan = merged(spec["ways"][way] or {}, of_set.get(way) or {})
                backbone = backbones.get(keys["backbone"]) or backbones.setdefault(
                    keys["backbone"], ptune.load_backbone(keys["backbone"])
                )
                started = time.perf_counter()
                figures = run_one({**keys, "backbone": backbone, "test": judged, "seed": seed}, plan)
                figures |= {"seconds": round(time.perf_counter() - started, 1)}
                runs.append({"set": name, "way": way, "seed": seed, **figures})
                write(options.out, spec, runs)
                print(json.dumps(runs[-1], ensure_ascii=False), flush=True)


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


def merged(way: Mapping[str, Any], of_set: Mapping[str, Any]) -> dict[str, Any]:
    """A way with what a set changes in it; sections are joined key by key."""
    joined = {**way, **of_set}
    if isinstance(way.get("section"), Mapping) and isinstance(of_set.get("section"), Mapping):
        joined["section"] = {**way["section"], **of_set["section"]}
    return joined


def run_one(keys: dict[str, Any], plan: dict[str, Any]) -> Figures:
    """One way on one seed's shots."""
    by, section = plan.pop("by", "training"), plan.pop("section", {})
    return RUNNERS[by]({**keys, **plan}, section)


def by_training(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """The usual training; of `method: hard`, only the preference of the model is measured."""
    return figures_of(ptune.fit(**keys).facts)


def by_pet(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """PET, iPET; the unlabelled texts are the first so many of the training file, shuffled by the seed."""
    section = dict(section)
    section["unlabelled"] = unlabelled(keys, section.pop("num_unlabelled"))
    task = run_pet(Recipe.of(keys), section_of(section, "pet", PetSettings, where="spec"))
    return {**figures_of(task.facts), "pet": task.facts["pet"]}


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
    """A long list of words for each label, refined on unlabelled texts (KPT), then the usual training, weights included."""
    section = dict(section)
    section["unlabelled"] = unlabelled(keys, section.pop("num_unlabelled"))
    found = refine_words(Recipe.of(keys), section_of(section, "refine", RefineSettings, where="spec"))
    task = ptune.fit(**{**keys, "labels": found.labels, "head": "weights"})
    return {**figures_of(task.facts), "words": found.labels}


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
    """Label words found by the model, then the usual training with them."""
    recipe = Recipe.of({**keys, "labels": list(keys["labels"])})
    found = search_labels(recipe, section_of(section, "search", SearchSettings, where="spec"))
    words = found.to_dict()["labels"]
    return {**figures_of(ptune.fit(**{**keys, "labels": words}).facts), "words": words}


def by_template_search(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """A template found by the model, its words judged as they are (`method: hard`)."""
    found = search_template(Recipe.of(keys), section_of(section, "search_template", TemplateSearchSettings, where="spec"))
    template = found.best.template
    return {**figures_of(ptune.fit(**{**keys, "template": template}).facts), "template": template}


def by_transfer(keys: dict[str, Any], section: Mapping[str, Any]) -> Figures:
    """The nearest of several source tasks' prompts as the start (SPoT)."""
    tried = ptune.fit(**keys, steps=section["steps_to_compare"])
    with tempfile.TemporaryDirectory() as place:
        for name, source in section["sources"].items():
            common = {key: keys[key] for key in ("backbone", "template", "seed")}
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


def summary(runs: list[Figures]) -> dict[str, Any]:
    """Mean and deviation of each way on each set."""
    out: dict[str, Any] = {}
    for run in runs:
        out.setdefault(run["set"], {}).setdefault(run["way"], []).append(run)
    return {
        name: {
            way: {
                "accuracy": round(statistics.mean(run["accuracy"] for run in mine), 4),
                "deviation": round(statistics.stdev(run["accuracy"] for run in mine), 4) if len(mine) > 1 else None,
                "seeds": [run["seed"] for run in mine],
                "seconds": round(statistics.median(run["seconds"] for run in mine), 1),
            }
            for way, mine in ways.items()
        }
        for name, ways in out.items()
    }


def write(path: Path, spec: Mapping[str, Any], runs: list[Figures]) -> None:
    """The whole JSON, replaced at once."""
    content = {"command": " ".join(["python", *sys.argv]), **facts(), "spec": spec, "summary": summary(runs), "runs": runs}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)


if __name__ == "__main__":
    main()
