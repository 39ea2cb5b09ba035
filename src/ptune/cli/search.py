"""`ptune search`: label words that the model itself would use, as text to edit."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson, Override

__all__ = ["app"]

app = typer.Typer(name="search", help="Let the model propose label words.")


@app.callback()
def _group() -> None:
    """Keeps `labels` a command of its own."""


@app.command()
def labels(
    recipe: Annotated[Path, typer.Argument(help="The recipe; its label words are not looked at.")],
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Find label words on the training rows."""
    from ptune.recipe import parse_override
    from ptune.strategy import SearchSettings, read_section, search_labels

    chosen, settings = read_section(recipe, "search", SearchSettings, dict(parse_override(text) for text in overrides or ()))
    found = search_labels(chosen, settings)
    if as_json:
        print_json(found.to_dict())
        return
    say(f"scored {found.num_words} words; accuracy {found.accuracy:.3f} on the rows they were found on, too high for new ones")
    print(found.to_yaml(), end="")
