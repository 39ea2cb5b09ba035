"""`ptune pet`: several patterns learn from a few labels and teach one student on unlabelled texts."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, say
from ptune.cli.figures import figure_lines
from ptune.cli.options import AsJson, Override

__all__ = ["pet"]


def pet(
    recipe: Annotated[Path, typer.Argument(help="The student's recipe, with a section pet: (see docs/strategies.md).")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Learn from few labels and many unlabelled texts (PET, iPET)."""
    from ptune.recipe import parse_override
    from ptune.strategy import PetSettings, read_section, run_pet

    chosen, settings = read_section(recipe, "pet", PetSettings, dict(parse_override(text) for text in overrides or ()))
    task = run_pet(chosen, settings, out=out, resume=resume, say=say)
    if as_json:
        print_json({**task.facts, "run": str(out), "bundle": str(out / "bundle")})
        return
    figures = task.facts["pet"]
    print("\n".join(figure_lines(task.facts)))
    if "mean_of_patterns" in figures:
        print(f"mean of patterns    {figures['mean_of_patterns']:.3f}")
        print(f"their ensemble      {figures['ensemble_accuracy']:.3f}")
    print(f"language model      {figures['language_model']}")
    print(f"bundle              {out / 'bundle'}")
