"""`ptune data describe`: what a data set looks like, and what is wrong with it."""

from typing import Annotated

import typer

from ptune.cli.console import print_json
from ptune.cli.options import AsJson, Columns, Encoding, LabelColumn, columns_of
from ptune.errors import notice

__all__ = ["app"]

app = typer.Typer(name="data", help="Look at data.")


@app.callback()
def _group() -> None:
    pass


@app.command()
def describe(
    data: Annotated[str, typer.Argument(help="A file, a folder of splits, or a hub id.")],
    label: LabelColumn = "label",
    columns: Columns = None,
    encoding: Encoding = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Count tokens with this model's tokenizer, not only characters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count rows, labels and lengths; find duplicates, texts shared by splits, and conflicting labels."""
    from ptune.data import describe, load_splits

    splits = load_splits(data, label=label, columns=columns_of(columns), encoding=encoding)
    count_tokens = None
    if backbone is not None:
        from ptune.backbone import load_backbone

        tokens = load_backbone(backbone).tokens
        count_tokens = lambda text: len(tokens.ids(text))  # noqa: E731
    description = describe(splits, count_tokens=count_tokens)
    if not description.contents and all(row.label is None for rows in splits.values() for row in rows):
        notice(f"no row has a label in column '{label}'; name the column that holds it with --label")
    if as_json:
        print_json(description.to_dict())
    else:
        print(description.to_text())
