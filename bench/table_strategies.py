"""The page docs/strategy-figures.md from the JSON files of bench/results/strategies.

python bench/table_strategies.py            # writes the page
python bench/table_strategies.py --check    # fails if the page does not follow the JSON
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["page_of", "table_of"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "strategies"
NO_HARM = ROOT / "bench" / "results" / "no_harm" / "no_harm.json"
PAGE = ROOT / "docs" / "strategy-figures.md"
HEAD = """# Figures of the strategies

Every figure is read from a JSON file in `bench/results` by `python bench/table_strategies.py`; the ways are
explained in [strategies.md](strategies.md), the specs are in `bench/specs`. A cell gives the mean accuracy over the seeds, its
deviation, and in brackets the mean paired difference, in points, from the way that it stands against, with its 95 % interval
over seeds. Few seeds make wide intervals: one that holds zero says that the runs do not tell the two apart, not that they are
equal. Seconds are medians of runs one after the other in a process, which find the texts that earlier ones have read
(`ptune.sharing_contexts`): how long a way takes beside the others, not alone.
"""


def main() -> None:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in (*sorted(RESULTS.glob("*.json")), NO_HARM) if path.exists()
    ]
    after = page_of(found)
    if not options.check:
        PAGE.write_text(after, encoding="utf-8")
    elif not PAGE.exists() or after != PAGE.read_text(encoding="utf-8"):
        sys.exit("docs/strategy-figures.md does not follow the JSON: run python bench/table_strategies.py")


def page_of(results: list[dict[str, Any]]) -> str:
    """The page: a section for each result."""
    sections = []
    for one in results:
        spec = one["spec"]
        commits = ", ".join(sorted({f"`{run['commit'][:7]}`" for run in one["runs"]}))
        table = table_of_gains(one) if "variants" in spec else table_of(one)
        sections += [f"\n## {spec['title']}\n", spec["about"].strip(), "", *table]
        sections += ["", f"By `{one['command']}` at {commits}, {one['machine']['cpu']}."]
    return HEAD + "\n".join(sections) + "\n"


def table_of(content: dict[str, Any]) -> list[str]:
    """A row for each way that was run, with its figures on each set and its time."""
    summary, spec = content["summary"], content["spec"]
    sets = list(summary)
    head = ["way", "learns from", "against", *(f"{name}, {spec['sets'][name]['backbone']}" for name in sets), "seconds a run"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for way, plan in spec["ways"].items():
        seconds = [summary[name][way]["seconds"] for name in sets if way in summary[name]]
        if not seconds:
            continue
        plan = plan or {}
        sees = "the shots" + (f", {plan['sees']}" if "sees" in plan else "")
        against = plan.get("against", spec.get("against", "plain"))
        row = [way, sees, "" if against == way else against, *(_cell(summary[name].get(way)) for name in sets)]
        lines.append("| " + " | ".join([*row, f"{sum(seconds) / len(seconds):.0f}"]) + " |")
    return lines


def table_of_gains(content: dict[str, Any]) -> list[str]:
    """A row for each set: the hard template with its prior out, the learned prompt, and the gain in points."""
    spec, figures = content["spec"], content["summary"]["default"]
    head = [
        "data set",
        "model",
        "hard, prior out",
        "learned",
        "gain",
        *(f"gain at {one}" for one in spec["shots"]),
        "lowest run",
    ]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for name, one in figures["by_set"].items():
        gains = [one["gain"], *(one["by_shots"][str(shots)] for shots in spec["shots"]), one["lowest_run"]]
        row = [name, spec["sets"][name]["backbone"], f"{one['prior_corrected']:.3f}", f"{one['accuracy']:.3f}"]
        lines.append("| " + " | ".join([*row, *(f"{gain:+.1f}" for gain in gains)]) + " |")
    below = f"{100 * figures['share_of_runs_below']:.0f} % of {figures['runs']} runs"
    return [*lines, "", f"Mean gain {figures['mean_gain']:+.1f} points; {below} are below the hard template."]


def _cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return "-"
    if "accuracy" not in one:
        return f"failed: {one['failed']}"
    spread = "" if one["deviation"] is None else f" ± {one['deviation']:.3f}"
    gain = one.get("difference")
    if gain is None:
        return f"{one['accuracy']:.3f}{spread}"
    between = "" if gain["low"] is None else f"; {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
    return f"{one['accuracy']:.3f}{spread} ({100 * gain['mean']:+.1f}{between})"


if __name__ == "__main__":
    main()
