"""`ptune search`: label words that the model itself would use or keeps of long lists, and templates, as text to edit."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson, Override

__all__ = ["app"]

app = typer.Typer(name="search", help="Let the model propose label words or a template.")


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


@app.command()
def refine(
    recipe: Annotated[Path, typer.Argument(help="The recipe, with lists of words as labels or in a section refine:.")],
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Keep of long lists of label words those that the model writes and that tell labels apart."""
    from ptune.recipe import parse_override
    from ptune.strategy import RefineSettings, read_section, refine_words

    chosen, settings = read_section(recipe, "refine", RefineSettings, dict(parse_override(text) for text in overrides or ()))
    found = refine_words(chosen, settings)
    if as_json:
        print_json(found.to_dict())
        return
    num_kept = sum(map(len, found.labels.values()))
    say(f"kept {num_kept} of {len(found.words)} words by {found.num_texts} texts")
    say(
        f"accuracy on the training rows {found.accuracy_before:.3f} with all words, {found.accuracy:.3f} with these, calibrated"
    )
    print(found.to_yaml(), end="")


@app.command()
def template(
    recipe: Annotated[Path, typer.Argument(help="The recipe; the search begins at its template.")],
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Find a template on the training rows."""
    from ptune.recipe import parse_override
    from ptune.strategy import TemplateSearchSettings, read_section, search_template

    changed = dict(parse_override(text) for text in overrides or ())
    chosen, settings = read_section(recipe, "search_template", TemplateSearchSettings, changed)
    found = search_template(chosen, settings, say=say)
    if as_json:
        print_json(found.to_dict())
        return
    say(f"the best of {found.num_judged} by these very figures, which are a little too high for new texts")
    print(found.to_yaml(), end="")
