"""The table of docs/strategies.md from bench/results/strategies.json.

python bench/table_strategies.py            # writes it into the page
python bench/table_strategies.py --check    # fails if the page does not follow the JSON
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["strategy_lines", "with_table"]

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / "bench" / "results" / "strategies.json", ROOT / "docs" / "strategies.md"
BEGIN, END = "<!-- strategies: written by bench/table_strategies.py -->", "<!-- end of strategies -->"


def main() -> None:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = with_table(before, strategy_lines(json.loads(RESULT.read_text(encoding="utf-8"))))
    if not options.check:
        PAGE.write_text(after, encoding="utf-8")
    elif after != before:
        sys.exit("docs/strategies.md does not follow the JSON: run python bench/table_strategies.py")


def with_table(page: str, lines: list[str]) -> str:
    """The page with these lines between its two marks."""
    start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:start] + "\n" + "\n".join(lines) + "\n" + page[stop:]


def strategy_lines(content: dict[str, Any]) -> list[str]:
    """A row for each way, with its mean accuracy on each set, how far that is from the plain prompt's, and its time."""
    summary, spec = content["summary"], content["spec"]
    sets = list(summary)
    head = ["way", *(f"{name}, {spec['sets'][name]['backbone']}" for name in sets), "seconds a run"]
    lines = ["", "| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for way in spec["ways"]:
        cells = [_cell(summary[name], way) for name in sets]
        if all(cell == "-" for cell in cells):
            continue
        seconds = [summary[name][way]["seconds"] for name in sets if way in summary[name]]
        lines.append("| " + " | ".join([way, *cells, f"{sum(seconds) / len(seconds):.0f}"]) + " |")
    return [*lines, "", f"By `{content['command']}` at `{content['commit'][:7]}`.", ""]


def _cell(ways: dict[str, Any], way: str) -> str:
    if way not in ways:
        return "-"
    one, plain = ways[way], ways.get("plain")
    spread = "" if one["deviation"] is None else f" ± {one['deviation']:.3f}"
    gain = "" if plain is None or way == "plain" else f" ({100 * (one['accuracy'] - plain['accuracy']):+.1f})"
    return f"{one['accuracy']:.3f}{spread}{gain}"


if __name__ == "__main__":
    main()
