"""The engine benchmark: how fast a prompt is learned and used, against PEFT. Spec in, one JSON per case out.

    python bench/engine.py bench/specs/engine.yaml --data ../shared/data --out bench/results/engine
    python bench/engine.py bench/specs/engine.yaml --data ../shared/data --out /tmp/engine --short

Run it with nothing else on the machine. Cases whose JSON is there are left alone; `--only NAME` runs some, `--short` those that
are marked so with fewer repeats. `python bench/table_engine.py` writes docs/benchmarks.md from the JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import yaml
from engine_train import candidates_case, few_shot_case, memory_case, step_case
from engine_use import demonstrations_case, labels_case, mixed_case, throughput_case
from timing import facts

KINDS = {
    "step": step_case,
    "candidates": candidates_case,
    "memory": memory_case,
    "few_shot": few_shot_case,
    "labels": labels_case,
    "throughput": throughput_case,
    "demonstrations": demonstrations_case,
    "mixed": mixed_case,
}


def main() -> None:
    """Runs the cases that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    cases = yaml.safe_load(options.spec.read_text(encoding="utf-8").replace("$DATA", str(options.data)))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        path = options.out / f"{name}.json"
        if path.exists() or (options.only and name not in options.only) or (options.short and not case.get("short")):
            continue
        started = time.perf_counter()
        repeats = 3 if options.short else case.get("repeats", 5)
        figures = KINDS[case["kind"]](case, repeats)
        command = f"python bench/engine.py {options.spec} --data DATA --out {options.out} --only {name}"
        shown = json.loads(json.dumps(case).replace(str(options.data), "$DATA"))
        content = {
            "case": name,
            "command": command,
            "spec": shown,
            **facts(),
            "run_seconds": round(time.perf_counter() - started, 1),
            "figures": figures,
        }
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(
            name,
            json.dumps({key: value for key, value in figures.items() if key not in ("seconds", "ptune_looks", "peft_looks")}),
        )


if __name__ == "__main__":
    sys.exit(main())
