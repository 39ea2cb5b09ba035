"""The server's part of docs/benchmarks.md, from the JSON of bench/serve_load.py; `table_engine.py` puts it into the page.

In: the folder of results. Out: lines of Markdown; none where there are no results.
"""

import json
from pathlib import Path
from typing import Any

__all__ = ["serve_lines"]


def serve_lines(folder: Path) -> list[str]:
    """A section for each result, in the order of file names."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [line for one in results for line in _section(one)]


def _section(result: dict[str, Any]) -> list[str]:
    options, figures, machine = result["options"], result["figures"], result["machine"]
    num = sum(result["tasks"].values())
    lines = [
        "",
        f"## Serving {num} tasks on one model",
        "",
        f"{options['backbone']}, {options['connections']} connections, {options['seconds']:g} seconds a side, "
        f"{options['threads']} threads, {machine['cores']} cores of {machine['cpu']}, commit {result['commit'][:12]}:",
        f"`{result['command']}`. Latencies in seconds.",
        "",
    ]
    if "spread" in figures:
        lines += ["| kind | tasks | one task, texts/s | spread, texts/s | spread / one | p50 | p99 | errors |", _rule(8)]
        for kind, one in figures["spread"].items():
            cells = [kind, one["tasks"], one["per_second"]["one"], one["per_second"]["spread"], one["rate_of_one"]]
            cells += [
                one["spread"].get("p50", "-"),
                one["spread"].get("p99", "-"),
                _errors(one["spread"]) + _errors(one["one"]),
            ]
            lines.append(_row(cells))
        lines.append("")
    loads = {name: figures[name] for name in ("unloaded", "mixed", "overload") if name in figures}
    if loads:
        lines += ["| all kinds at once | arrivals/s | answered 200 | 429 | other | p50 | p95 | p99 |", _rule(8)]
        for name, one in loads.items():
            arrivals = one.get("arrivals_per_second", one.get("per_second", "-"))
            counts = [one["statuses"].get("200", 0), one["statuses"].get("429", 0), _errors(one, "200", "429")]
            lines.append(_row([name, arrivals, *counts, one.get("p50", "-"), one.get("p95", "-"), one.get("p99", "-")]))
        lines.append("")
    said = figures.get("differences", {})
    largest, unequal = said.get("largest_of_a_probability", 0), said.get("other_answers_not_equal", 0)
    lines.append(
        f"Of {said.get('compared', 0)} answers compared with each task by itself, the largest difference of a probability is "
        f"{largest:.1e}; texts and tags that are not equal: {unequal}. Memory grew by {100 * figures['memory_growth']:.1f} % "
        "after warm-up."
    )
    if "bad" in figures:
        one = figures["bad"]
        counts = ", ".join(f"{num} x {status}" for status, num in one["statuses"].items())
        lines += ["", f"{one['requests']:,} bad requests: {counts}; memory {one['rss_mb'][0]} to {one['rss_mb'][1]} MB."]
    return lines


def _errors(one: dict[str, Any], *fine: str) -> int:
    return sum(num for status, num in one["statuses"].items() if status not in (fine or ("200",)))


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rule(width: int) -> str:
    return "| " + " | ".join(["---"] * width) + " |"
