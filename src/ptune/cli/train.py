"""`ptune train`: runs a recipe, shows what happens, and says at the end what the prompt gained."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ptune.cli.console import file_size, print_json, say
from ptune.cli.figures import figure_lines
from ptune.cli.options import AsJson, Override
from ptune.errors import TrainError

__all__ = ["train"]

_RUNS = Path("runs")


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file; `ptune init DATA` writes one.")],
    overrides: Override = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME-OF-THE-RECIPE if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Learn a prompt by a recipe."""
    from ptune.recipe import parse_override, read_recipe, run
    from ptune.train import RunFolder, progress

    chosen = read_recipe(recipe, dict(parse_override(text) for text in overrides or ()))
    folder = RunFolder(out or (_newest_run(recipe) if resume else _next_run(recipe)))
    if resume and not folder.recipe_path.is_file():
        raise TrainError("there is no run to resume", where=str(folder.path), fix="leave --resume out")
    listeners = [progress(enabled=not quiet)]
    try:
        task = run(chosen, out=folder.path, resume=resume, listeners=listeners, say=(lambda line: None) if quiet else say)
    except KeyboardInterrupt:
        say(_how_to_resume(recipe, overrides or [], folder.path, was_begun=folder.recipe_path.is_file()))
        raise typer.Exit(130) from None
    _show(task.facts, folder.path, folder.bundle_path, as_json=as_json)


def _show(facts: dict[str, Any], run_path: Path, bundle: Path, *, as_json: bool) -> None:
    size = file_size(bundle)
    if as_json:
        print_json({**facts, "run": str(run_path), "bundle": str(bundle), "bundle_bytes": size})
        return
    print("\n".join(figure_lines(facts)))
    print(f"bundle              {bundle} ({size / 1000:,.1f} kB)")


def _next_run(recipe: Path) -> Path:
    """`runs/name`, or the first of `runs/name-2`, `runs/name-3`, ... that is free."""
    number, folder = 1, _RUNS / recipe.stem
    while folder.exists():
        number += 1
        folder = _RUNS / f"{recipe.stem}-{number}"
    return folder


def _newest_run(recipe: Path) -> Path:
    pattern = re.compile(re.escape(recipe.stem) + r"(?:-(\d+))?")
    there = _RUNS.iterdir() if _RUNS.is_dir() else ()
    numbered = [(int(match[1] or 1), folder) for folder in there if (match := pattern.fullmatch(folder.name))]
    if not numbered:
        raise TrainError(
            f"there is no run of {recipe.stem} to resume", where=str(_RUNS), fix="leave --resume out, or give --out"
        )
    return max(numbered)[1]


def _how_to_resume(recipe: Path, overrides: list[str], folder: Path, *, was_begun: bool) -> str:
    if not was_begun:
        return "stopped before training began; nothing was written"
    settings = [word for text in overrides for word in ("--set", text)]
    command = shlex.join(["ptune", "train", str(recipe), *settings, "--out", str(folder), "--resume"])
    return f"stopped; go on with: {command}"
