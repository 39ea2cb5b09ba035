"""`ptune icl`: in-context learning, a few labelled texts in front of each new one."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson, Override

__all__ = ["icl"]


def icl(
    recipe: Annotated[Path, typer.Argument(help="The recipe, with {demos} in its template (see docs/strategies.md).")],
    out: Annotated[Path | None, typer.Option(help="Where to save the task with the first set of demonstrations.")] = None,
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Judge demonstrations in front of each text (in-context learning)."""
    from ptune.recipe import parse_override
    from ptune.strategy import InContextSettings, read_section, run_in_context

    chosen, settings = read_section(recipe, "icl", InContextSettings, dict(parse_override(text) for text in overrides or ()))
    found = run_in_context(chosen, settings, say=say)
    if out is not None:
        found.tasks[0].save(out)
    if as_json:
        print_json({**found.to_dict(), "bundle": None if out is None else str(out)})
        return
    for number, report in enumerate(found.reports, 1):
        print(f"set {number}\n{report}")
    if found.ensemble is not None and len(found.reports) > 1:
        print(f"all sets together\n{found.ensemble}")
    if out is not None:
        print(f"bundle  {out}")
