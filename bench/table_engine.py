"""Writes docs/benchmarks.md from the committed JSON of the engine benchmark.

python bench/table_engine.py          # rewrites the page
python bench/table_engine.py --check  # exits with 1 where it is out of date
"""

import json
import sys
from pathlib import Path
from typing import Any

from table_serve import serve_lines

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "engine"
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Every figure on this page is read from a JSON file in `bench/results/engine` by `python bench/table_engine.py`; each file
names its command, commit, machine and versions. Run them again, with nothing else on the machine:

```bash
python bench/engine.py bench/specs/engine.yaml --data ../shared/data --out bench/results/engine   # all cases, about three hours
make bench                                                                                        # a short form, minutes
```

Steps, candidates, labels, throughput, demonstrations and mixed batches: all sides run in one process on the same weights in
fp32, in turn, and figures are medians. Memory is measured in a process for each side; few-shot rows say whether they were
timed once or in turns. *Documented* is `peft`'s prompt tuning as its guide for causal models has it (prompt in front, full
logits, loss from the model's forward). *Best hand* is the same library with logits at the answer alone, the loss over label
words, no mask, rows that start at frequent words. Both pad a batch to its longest text, which costs nothing where all have
the same length. *Padded* is our reimplementation of OpenPrompt's algorithm (padded to 256 tokens, full logits). A ratio of 2
means that ptune takes half the time. Shares of the matrix peak count 4 x parameters outside the embeddings x live tokens for
a training step (attention not counted) over a 2048 x 2048 product timed in the same process.
"""


def main() -> int:
    """Rewrites or checks the page."""
    page = HEAD + "\n".join(_sections(_results())) + "\n"
    if "--check" in sys.argv:
        return 0 if PAGE.read_text(encoding="utf-8") == page else 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


def _results() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def _sections(results: list[dict[str, Any]]) -> list[str]:
    writers = {
        "step": ("Training step", _step),
        "candidates": ("Candidates trained at once", _candidates),
        "memory": ("Peak memory of a training step", _memory),
        "few_shot": ("Seconds of training to PEFT's accuracy", _few_shot),
        "labels": ("Many labels of several tokens", _labels),
        "throughput": ("Classifying with soft tokens in front", _throughput),
        "demonstrations": ("Demonstrations kept once", _demonstrations),
        "mixed": ("Batches that mix tasks", _mixed),
    }
    lines: list[str] = []
    for kind, (title, write) in writers.items():
        mine = [one for one in results if one["spec"]["kind"] == kind]
        if mine:
            lines += ["", f"## {title}", "", *write(mine)]
    return [*lines, *serve_lines(RESULTS.parent / "serve"), "", "## Where", "", *_machines(results)]


def _table(head: str, rows: list[list[Any]]) -> list[str]:
    width = len(head.split("|"))
    return [
        f"| {head} |",
        "| " + " | ".join(["---"] * width) + " |",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} x"


def _middle(one: dict[str, Any], name: str) -> str:
    values = sorted(one["figures"]["seconds"].get(name, []))
    return f"{values[len(values) // 2]:.3f} s" if values else "-"


def _name(one: dict[str, Any]) -> list[Any]:
    spec = one["spec"]
    return [spec["backbone"], spec.get("text") or _lengths(one), spec["soft"], spec["batch"]]


def _lengths(one: dict[str, Any]) -> str:
    tokens = one["figures"]["text_tokens"]
    return f"{one['spec']['texts'].split('/')[-2]}, {tokens['shortest']} to {tokens['longest']}, mean {tokens['mean']:.0f}"


def _step(results: list[dict[str, Any]]) -> list[str]:
    rows = []
    for one in results:
        figures = one["figures"]
        ratio, same = figures["ratio"], figures["same_placement_ratio"] or {}
        rows.append(
            [
                *_name(one),
                one["spec"]["placement"],
                _middle(one, "ptune"),
                _middle(one, "documented"),
                _times(ratio.get("documented")),
                _times(ratio.get("best_hand")),
                _times(ratio.get("pad_to_max")),
                f"{_times(same.get('documented'))} / {_times(same.get('best_hand'))}",
                f"{figures['share_of_peak']:.0%}",
            ]
        )
    head = (
        "model | text | soft | batch | soft tokens stand | ptune | PEFT documented | **against documented** | "
        "**against best hand** | against padded | both in front (documented / best hand) | share of peak"
    )
    return _table(head, rows)


def _candidates(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            *_name(one),
            one["spec"]["candidates"],
            f"{one['figures']['seconds_per_candidate']:.3f} s",
            _times(one["figures"]["ratio_to_alone"]),
            _times(one["figures"]["ratio"].get("documented")),
            _times(one["figures"]["ratio"].get("best_hand")),
            f"{one['figures']['share_of_peak']:.0%} of {one['figures']['matrix_peak_gflops']:.0f} GFLOP/s",
        ]
        for one in results
    ]
    head = (
        "model | text | soft | batch | candidates | per candidate | against alone | **against PEFT documented** | "
        "**against best hand** | share of peak"
    )
    return _table(head, rows)


def _memory(results: list[dict[str, Any]]) -> list[str]:
    rows = []
    for one in results:
        whole, share = one["figures"]["whole_process_mb"], one["figures"]["share_of"]
        rows.append(
            [
                *_name(one),
                one["spec"]["placement"],
                *(f"{whole[side]:,} MB" for side in ("ptune", "documented", "best_hand")),
                f"{share['documented']:.2f}",
                f"{share['best_hand']:.2f}",
            ]
        )
    head = "model | text | soft | batch | stand | ptune | documented | best hand | **of documented** | of best hand"
    return ["Whole process, weights included, each side in a process of its own.", "", *_table(head, rows)]


def _few_shot(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            one["spec"]["train"].split("/")[-2],
            one["spec"]["backbone"],
            one["spec"]["shots"],
            "the same text" if one["spec"].get("peer_init") == "text" else "frequent words",
            f"{one['figures']['target_accuracy']:.3f} (rate {one['figures']['peft_rate']})",
            f"{one['figures']['peft_seconds']} s",
            f"{one['figures']['ptune_seconds'] or '-'} s",
            f"{len(one['figures']['seconds']['peft'])} turns" if "seconds" in one["figures"] else "once",
            one["spec"].get("batch", 8),
            _times(one["figures"]["ratio"]),
            f"{one['figures']['ptune_best_accuracy']:.3f}",
        ]
        for one in results
    ]
    head = (
        "data | model | per class | PEFT starts at | accuracy that PEFT reaches | PEFT | ptune | timed | ptune's batch | "
        "**ratio** | "
        "ptune's best"
    )
    words = (
        "A ratio of whole ways of learning, not of steps alone, on one draw of rows. The clocks count training, for ptune "
        "the contexts and the prior too; in turns, the steps that each side needs are timed again and again, and medians "
        "are given. PEFT's best hand reads 8 texts a step, at its best of three rates, its prompt in front, which starts "
        "at frequent words or at the same text as ptune's (column *PEFT starts at*). ptune takes the first of its three "
        "rates to get there; its prompt stands behind the text, starts at a few words of the task, the model's liking for "
        "a label is taken out first, and it reads more texts a step where the table says so, because its steps are cheap "
        "and larger ones make for fewer."
    )
    return [words, "", *_table(head, rows)]


def _labels(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            one["spec"]["test"].split("/")[-2],
            one["figures"]["labels"],
            one["figures"]["tokens_per_label"],
            one["figures"]["rows"],
            _middle(one, "ptune"),
            _middle(one, "brute_force"),
            _times(one["figures"]["ratio"]),
            f"{one['figures']['largest_difference']:.0e}",
        ]
        for one in results
    ]
    head = (
        "data | labels | tokens per label | texts | ptune | one sequence per label | **ratio** | largest difference of a score"
    )
    return _table(head, rows)


def _throughput(results: list[dict[str, Any]]) -> list[str]:
    rows = []
    for one in results:
        rate, ratio = one["figures"]["texts_per_second"], one["figures"]["ratio"]
        rows.append(
            [
                one["spec"]["test"].split("/")[-2],
                one["spec"]["backbone"],
                one["figures"]["rows"],
                f"{rate['ptune']}/s",
                f"{rate['documented']}/s",
                _times(ratio["documented"]),
                _times(ratio["best_hand"]),
            ]
        )
    head = "data | model | texts | ptune | PEFT documented | **against documented** | **against best hand**"
    return ["Texts are the first so many of the test file.", "", *_table(head, rows)]


def _demonstrations(results: list[dict[str, Any]]) -> list[str]:
    rows = []
    for one in results:
        figures, rate = one["figures"], one["figures"]["texts_per_second"]
        rows.append(
            [
                one["spec"]["test"].split("/")[-2],
                one["spec"]["backbone"],
                f"{figures['demonstrations']} of {figures['kept_tokens']} tokens",
                figures["tokens_per_text"],
                figures["rows"],
                *(f"{rate[name]}/s" for name in ("ptune", "recomputed", "plain")),
                _times(figures["ratio"]["recomputed"]),
                _times(figures["ratio"]["plain"]),
                f"{figures['largest_difference']:.0e}",
            ]
        )
    head = (
        "data | model | demonstrations | tokens of a text | texts | ptune | nothing kept | plain transformers | "
        "**against nothing kept** | **against plain transformers** | largest difference of a probability"
    )
    words = (
        "In-context learning. ptune reads the demonstrations once, which is in its time; *nothing kept* is ptune that reads "
        "them in front of every text; *plain transformers* does too, in batches of like lengths, padded on the right, with "
        "logits at the answer alone and its token ids made beforehand."
    )
    return [words, "", *_table(head, rows)]


def _mixed(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            one["spec"]["backbone"],
            one["figures"]["tasks"],
            one["figures"]["rows"],
            f"{one['figures']['texts_per_second']['one']}/s",
            f"{one['figures']['texts_per_second']['mixed']}/s",
            f"{one['figures']['rate_of_one']:.2f}",
            f"{one['figures']['largest_difference']:.0e}",
        ]
        for one in results
    ]
    return _table("model | tasks | texts | all to one task | spread over all | **rate** | largest difference", rows)


def _machines(results: list[dict[str, Any]]) -> list[str]:
    seen: dict[str, list[str]] = {}
    for one in results:
        facts = {key: one[key] for key in ("commit", "machine", "versions") if key in one}
        seen.setdefault(json.dumps(facts, ensure_ascii=False, sort_keys=True), []).append(one["case"])
    lines = []
    for facts, cases in seen.items():
        lines += [f"- {', '.join(f'`{case}`' for case in cases)}", "", "  ```json", f"  {facts}", "  ```", ""]
    return lines[:-1]


if __name__ == "__main__":
    sys.exit(main())
