"""Several processes at one comparison: each runs its share of the lines into the same folder, then all of it is read together.

In: a `Spec` whose models are names, and how many processes. Each has a model of its own in memory and its part of the threads.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptune.backbone import Backbone
from ptune.compare.run import Outcome, run_comparison
from ptune.compare.spec import Spec, make_spec
from ptune.errors import RecipeError

__all__ = ["run_jobs"]


def run_jobs(
    spec: Spec,
    folder: str | Path,
    jobs: int,
    *,
    budget_seconds: float | None = None,
    retry: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Runs a comparison in several processes.

    Args:
        spec, folder, budget_seconds, retry, say: as in `run_comparison`.
        jobs: how many; 1 runs in this process.

    Raises:
        RecipeError: loaded models, which cannot be handed to another process; or a process that failed.
        PtuneError: see `run_comparison`.
    """
    if jobs <= 1:
        return run_comparison(spec, folder, budget_seconds=budget_seconds, retry=retry, say=say)
    if any(isinstance(one, Backbone) for one in spec.all_backbones):
        raise RecipeError("a loaded model cannot go to another process", where="jobs", fix="name the model, or use one job")
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    settings = spec.settings.model_dump(exclude_unset=True)
    workers = [
        context.Process(
            target=_work,
            args=(dict(spec.recipe), settings, spec.name, str(folder), (number, jobs), budget_seconds, retry, threads),
        )
        for number in range(jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RecipeError("a process of the comparison failed", where="jobs", fix="see its message above, or run with one job")
    return run_comparison(spec, folder, budget_seconds=None if budget_seconds is None else 0.0, say=say)


def _work(
    recipe: dict[str, Any],
    settings: dict[str, Any],
    name: str,
    folder: str,
    share: tuple[int, int],
    budget_seconds: float | None,
    retry: bool,
    threads: int,
) -> None:
    """One process's share."""
    import torch

    torch.set_num_threads(threads)

    def say(line: str) -> None:
        print(f"[{share[0] + 1}] {line}", file=sys.stderr, flush=True)

    run_comparison(
        make_spec(recipe, settings, name=name), folder, budget_seconds=budget_seconds, retry=retry, share=share, say=say
    )
