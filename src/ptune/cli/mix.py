"""`ptune mix`: one prompt learns several tasks at once, and is tried on others."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, say, table
from ptune.cli.options import AsJson, Override
from ptune.errors import RecipeError

__all__ = ["mix"]


def mix(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of the tasks; the first one's training keys count.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; bundles are written to its folder bundles/.")],
    new: Annotated[list[Path] | None, typer.Option(help="A task to try the prompt on; may be given several times.")] = None,
    limit: Annotated[int | None, typer.Option(help="Rows of one task at most.")] = None,
    overrides: Override = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Learn one prompt on several tasks at once (a mixture)."""
    from ptune.recipe import Recipe, parse_override, read_recipe
    from ptune.strategy import MixtureSettings, run_mixture, section_of
    from ptune.train import progress

    changed = dict(parse_override(text) for text in overrides or ())

    def read(paths: list[Path]) -> dict[str, Recipe]:
        named = {path.stem: read_recipe(path, changed) for path in paths}
        if len(named) < len(paths):
            raise RecipeError("two recipes have the same name", where="recipes", fix="rename one: bundles go by that name")
        return named

    found = run_mixture(
        read(recipes),
        new=read(new or []),
        settings=section_of({"limit": limit}, "mix", MixtureSettings, where="options"),
        out=out,
        listeners=[progress(enabled=not quiet)],
        say=(lambda line: None) if quiet else say,
    )
    if as_json:
        print_json({**found.facts, "run": str(out)})
        return
    rows = [["task", "learned", "untrained", "mixed", "bundle"]]
    for part, was_learned in (("tasks", "yes"), ("new", "no")):
        for name, scores in found.facts[part].items():
            figures = ["-" if value is None else f"{value:.3f}" for value in (scores["untrained"], scores["mixed"])]
            rows.append([name, was_learned, *figures, str(out / "bundles" / name)])
    print(table(rows))
