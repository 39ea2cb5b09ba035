"""The load of a server: one task against a hundred, twice the rate that it can bear, bad requests; one JSON out.

    python bench/serve_load.py --out bench/results/serve/load.json            # 100 tasks, 32 connections, 5 minutes a part
    python bench/serve_load.py --out /tmp/load.json --short                   # 20 tasks, 8 connections, seconds a part
    python bench/serve_load.py --out /tmp/bad.json --only bad --bad 10000     # bad requests alone
    python bench/table_serve.py                                               # the tables of docs/benchmarks.md

Run it with nothing else on the machine. It builds bundles (untrained) in a folder of its own, starts `ptune serve` there, and
afterwards asks each task by itself (`Task.predict`) what the answers should have been. Parts: `unloaded` (one connection),
`spread` (per kind, the same list of requests to one task and over all tasks of the kind, in turns), `mixed` (all kinds at
once), `overload` (arrivals at twice the rate that `mixed` reached), `after` (everything answers), `bad`.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from serve_bad import bad_request
from serve_client import Answer, Connection
from serve_tasks import MIX, build_tasks, row_of, texts
from timing import facts

import ptune

PARTS = ("unloaded", "spread", "mixed", "overload", "after", "bad")
WINDOWS = 4
SHORT = {"seconds": 6.0, "connections": 8, "bad": 300, "share": 0.2}
SAMPLE = 40
WRITTEN_SAMPLE = 10
"""Answers of one round that are compared; of texts that are written, which take a second each, fewer."""


@dataclass(frozen=True)
class Job:
    """One request.

    Args:
        task: its name.
        kind: of the task.
        text: what is asked.
    """

    task: str
    kind: str
    text: str

    @property
    def path(self) -> str:
        """Where it goes."""
        return f"/v1/tasks/{self.task}/predict"

    @property
    def body(self) -> dict[str, Any]:
        """What it sends."""
        return {"input": row_of(self.kind, self.text)}


@dataclass
class Run:
    """One measurement in the making.

    Args:
        url, pid: of the server.
        names: tasks by kind.
        options: of the command line.
        kept: answers to be compared with each task by itself.
    """

    url: str
    pid: int
    names: dict[str, list[str]]
    options: argparse.Namespace
    kept: list[tuple[Job, Any]]

    @property
    def rss_mb(self) -> float:
        """Memory of the server that is in RAM now, in MB (10^6 bytes)."""
        return psutil.Process(self.pid).memory_info().rss / 1e6


def main() -> None:
    """Builds, starts, loads, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", default="smollm2-135m-q4")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each kind in `spread`, of `mixed` and of `overload`")
    parser.add_argument("--bad", type=int, default=10_000, help="bad requests")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads in the server")
    parser.add_argument("--max-wait", type=float, default=10.0, help="the queue bound, in seconds")
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--kinds", nargs="*", choices=sorted(MIX))
    parser.add_argument("--short", action="store_true", help="20 tasks, 8 connections, a few seconds each")
    options = parser.parse_args()
    if options.short:
        options.seconds, options.connections, options.bad = SHORT["seconds"], int(SHORT["connections"]), int(SHORT["bad"])
        options.tasks = int(options.tasks * SHORT["share"])
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ptune-load-") as place:
        folder = Path(place) / "bundles"
        backbone = ptune.load_backbone(options.backbone)
        mix = {
            kind: max(1, num * options.tasks // 100) for kind, num in MIX.items() if not options.kinds or kind in options.kinds
        }
        names = build_tasks(folder, backbone, mix)
        with Served(folder, options) as served:
            run = Run(served.url, served.pid, names, options, [])
            figures = asyncio.run(measure(run))
        write(options, names, figures, started)  # comparing takes long: what was measured is safe
        figures["differences"] = compare(run.kept, folder, backbone)
    write(options, names, figures, started)
    print(json.dumps(figures, indent=1))


def write(options: argparse.Namespace, names: dict[str, list[str]], figures: dict[str, Any], started: float) -> None:
    """The JSON."""
    content = {
        "command": " ".join(["python bench/serve_load.py", *sys.argv[1:]]),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
        "tasks": {kind: len(mine) for kind, mine in names.items()},
        **facts(),
        "run_seconds": round(time.perf_counter() - started, 1),
        "figures": figures,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


class Served:
    """`ptune serve` in a process of its own."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        words = ["--backbone", options.backbone, "--port", "0", "--threads", str(options.threads)]
        words += ["--max-wait", str(options.max_wait), "--timeout", "120"]
        self._command = [sys.executable, "-m", "ptune", "serve", str(folder), *words]
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> "Served":
        self._process = subprocess.Popen(self._command, stderr=self._log)
        self.pid = self._process.pid
        self.url = self._wait_for("listening")["url"]
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self.exit_code = self._process.wait(120)
        self._log.close()

    def _wait_for(self, event: str) -> dict[str, Any]:
        while self._process.poll() is None:
            self._log.seek(0)
            for line in self._log.read().splitlines():
                if line.startswith("{") and json.loads(line)["event"] == event:
                    found: dict[str, Any] = json.loads(line)
                    return found
            time.sleep(0.2)
        self._log.seek(0)
        raise SystemExit(f"the server ended: {self._log.read()[-500:]}")

    def _wait_until_ready(self) -> None:
        async def ready() -> bool:
            connection = Connection(self.url)
            try:
                return (await connection.send("GET", "/health/ready")).status == 200
            finally:
                connection.close()

        while not asyncio.run(ready()):
            time.sleep(0.2)


def say(line: str) -> None:
    """What is going on."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


async def measure(run: Run) -> dict[str, Any]:
    """All parts that are wanted, in order."""
    wanted = run.options.only or PARTS
    figures: dict[str, Any] = {}
    everywhere = [(kind, name) for kind, mine in run.names.items() for name in mine]
    say(f"warm-up of {len(everywhere)} tasks")
    await load(run, jobs_over(everywhere, 2 * len(everywhere), seed=1), until=None)  # every task twice
    await load(run, jobs_over(everywhere, 5000, seed=8), until=time.monotonic() + run.options.seconds / 5)
    figures["rss_mb_after_warm_up"] = round(run.rss_mb, 1)
    if "unloaded" in wanted:
        say("unloaded")
        figures["unloaded"] = await unloaded(run, everywhere)
    if "spread" in wanted:
        figures["spread"] = {kind: {**await spread(run, kind), "rss_mb": round(run.rss_mb, 1)} for kind in run.names}
    if "mixed" in wanted or "overload" in wanted:
        figures["mixed"] = await mixed(run, everywhere)
    if "overload" in wanted:
        figures["overload"] = await overload(run, everywhere, 2 * figures["mixed"]["per_second"])
    if "after" in wanted:
        answers = await load(run, jobs_over(everywhere, len(everywhere), seed=7), until=None)
        figures["after"] = statuses(answers)
    if "bad" in wanted:
        figures["bad"] = await bad(run)
    figures["rss_mb_at_the_end"] = round(run.rss_mb, 1)
    figures["memory_growth"] = round(figures["rss_mb_at_the_end"] / figures["rss_mb_after_warm_up"] - 1, 4)
    return figures


def jobs_over(tasks: Sequence[tuple[str, str]], num: int, seed: int) -> list[Job]:
    """So many texts, over these tasks in turn."""
    return [
        Job(tasks[number % len(tasks)][1], tasks[number % len(tasks)][0], text) for number, text in enumerate(texts(num, seed))
    ]


async def load(run: Run, jobs: Sequence[Job], *, until: float | None, num: int | None = None) -> list[tuple[Job, Answer]]:
    """Jobs by so many connections, each asking again as soon as it is answered.

    Args:
        run: whose server is asked.
        jobs: the list; it is begun again at its end where there is time left.
        until: on the monotonic clock; None for once through the list.
        num: connections, where they are not the usual number.
    """
    done: list[tuple[Job, Answer]] = []
    at = 0

    async def asks() -> None:
        nonlocal at
        connection = Connection(run.url)
        try:
            while (at < len(jobs)) if until is None else (time.monotonic() < until):
                job = jobs[at % len(jobs)]
                at += 1
                answer = await connection.post(job.path, job.body)
                done.append((job, answer))
        finally:
            connection.close()

    await asyncio.gather(*(asks() for _ in range(num or run.options.connections)))
    keep(run, done)
    return done


async def unloaded(run: Run, tasks: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """One connection: what a request takes when no other is there."""
    until = time.monotonic() + run.options.seconds / 10
    answers = await load(run, jobs_over(tasks, 500, seed=2), until=until, num=1)
    return {**latencies([answer for _, answer in answers]), **statuses(answers)}


async def spread(run: Run, kind: str) -> dict[str, Any]:
    """The same list of requests to one task and over all of its kind, in turns."""
    say(f"spread: {kind}")
    names = run.names[kind]
    sides = {"one": [(kind, names[len(names) // 2])], "spread": [(kind, name) for name in names]}
    seconds = run.options.seconds / len(sides) / WINDOWS
    answers: dict[str, list[tuple[Job, Answer]]] = {side: [] for side in sides}
    took = dict.fromkeys(sides, 0.0)
    for window in range(WINDOWS):
        for side in list(sides)[:: 1 if window % 2 else -1]:
            started = time.monotonic()
            answers[side] += await load(run, jobs_over(sides[side], 2000, seed=100 + window), until=started + seconds)
            took[side] += time.monotonic() - started
    rates = {side: num_answered(answers[side]) / took[side] for side in sides}
    return {
        "rate_of_one": round(rates["spread"] / rates["one"], 3),
        "per_second": {side: round(rate, 2) for side, rate in rates.items()},
        "tasks": len(names),
        **{side: {**latencies([answer for _, answer in mine]), **statuses(mine)} for side, mine in answers.items()},
    }


async def mixed(run: Run, tasks: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """All kinds at once."""
    say("mixed")
    started = time.monotonic()
    answers = await load(run, jobs_over(tasks, 5000, seed=3), until=started + run.options.seconds)
    rate = num_answered(answers) / (time.monotonic() - started)
    return {"per_second": round(rate, 2), **latencies([answer for _, answer in answers]), **statuses(answers)}


async def overload(run: Run, tasks: Sequence[tuple[str, str]], rate: float) -> dict[str, Any]:
    """Requests that arrive at random at a rate, whether earlier ones are answered or not."""
    say(f"overload: {rate:.1f} a second")
    jobs, chance = jobs_over(tasks, 5000, seed=4), random.Random(5)
    free: list[Connection] = []
    done: list[tuple[Job, Answer]] = []

    async def one(job: Job) -> None:
        connection = free.pop() if free else Connection(run.url)
        answer = await connection.post(job.path, job.body)
        done.append((job, answer))
        free.append(connection)

    started = next_at = time.monotonic()
    asked: list[asyncio.Task[None]] = []
    while next_at < started + run.options.seconds:
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))
        asked.append(asyncio.create_task(one(jobs[len(asked) % len(jobs)])))
        next_at += chance.expovariate(rate)
    await asyncio.gather(*asked)
    for connection in free:
        connection.close()
    keep(run, done)
    accepted = [answer for _, answer in done if answer.status == 200]
    refused = [answer for _, answer in done if answer.status == 429]
    return {
        "arrivals_per_second": round(rate, 2),
        "queue_bound_seconds": run.options.max_wait,
        "with_retry_after": sum("retry-after" in answer.headers for answer in refused),
        **latencies(accepted),
        **statuses(done),
    }


async def bad(run: Run) -> dict[str, Any]:
    """Bad requests, eight at a time; a right one in between now and then."""
    say("bad requests")
    before = run.rss_mb
    counts: Counter[int] = Counter()
    wrong: list[int] = []
    kind = "classification" if "classification" in run.names else next(iter(run.names))
    job = Job(run.names[kind][0], kind, "The hinge broke.")
    at = 0

    async def asks() -> None:
        nonlocal at
        connection = Connection(run.url)
        while at < run.options.bad:
            number, at = at, at + 1
            answer = await connection.send(*bad_request(number, job.task))
            counts[answer.status] += 1
            if not 400 <= answer.status < 500:
                wrong.append(number)
            if number % 200 == 0:
                assert (await connection.post(job.path, job.body)).status == 200
        connection.close()

    await asyncio.gather(*(asks() for _ in range(8)))
    return {
        "requests": run.options.bad,
        "statuses": {str(status): num for status, num in sorted(counts.items())},
        "not_4xx": sorted(wrong)[:20],
        "rss_mb": [round(before, 1), round(run.rss_mb, 1)],
    }


def keep(run: Run, done: Sequence[tuple[Job, Answer]]) -> None:
    """Some answers of each kind, to be compared afterwards."""
    chance = random.Random(len(run.kept))
    num_written = 0
    for job, answer in chance.sample(list(done), min(SAMPLE, len(done))):
        num_written += job.kind == "generation"
        if answer.status == 200 and (job.kind != "generation" or num_written <= WRITTEN_SAMPLE):
            run.kept.append((job, answer.json["predictions"][0]))


def compare(kept: Sequence[tuple[Job, Any]], folder: Path, backbone: ptune.Backbone) -> dict[str, Any]:
    """Answers against each task by itself: largest difference of a probability, and how many other answers are not equal."""
    tasks: dict[str, Any] = {}
    largest, unequal = 0.0, 0
    for job, got in kept:
        task = tasks.setdefault(job.task, None) or ptune.load(folder / job.task, backbone=backbone)
        tasks[job.task] = task
        expected = task.predict([row_of(job.kind, job.text)])[0].to_dict()
        if "probabilities" in got:
            largest = max(
                [largest, *(abs(expected["probabilities"][name] - value) for name, value in got["probabilities"].items())]
            )
        elif job.kind == "generation":
            unequal += got["text"] != expected["text"]
        else:
            unequal += json.dumps(got.get("tags", got), sort_keys=True) != json.dumps(
                expected.get("tags", expected), sort_keys=True
            )
    return {"compared": len(kept), "largest_of_a_probability": largest, "other_answers_not_equal": unequal}


def num_answered(done: Sequence[tuple[Job, Answer]]) -> int:
    """A refusal is fast, and no answer."""
    return sum(answer.status == 200 for _, answer in done)


def latencies(answers: Sequence[Answer]) -> dict[str, float]:
    """Median and tails, in seconds."""
    if len(answers) < 2:
        return {}
    cuts = statistics.quantiles([answer.seconds for answer in answers], n=100, method="inclusive")
    return {"p50": round(cuts[49], 4), "p95": round(cuts[94], 4), "p99": round(cuts[98], 4)}


def statuses(done: Sequence[tuple[Job, Answer]]) -> dict[str, Any]:
    """How many of each."""
    counts = Counter(answer.status for _, answer in done)
    return {"requests": len(done), "statuses": {str(status): num for status, num in sorted(counts.items())}}


if __name__ == "__main__":
    main()
