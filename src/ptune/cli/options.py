"""Options that several verbs share, so that they read the same everywhere."""

from collections.abc import Sequence
from typing import Annotated

import typer

from ptune.errors import DataError

__all__ = ["AsJson", "BackboneName", "Columns", "Encoding", "LabelColumn", "Override", "columns_of"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone", metavar="NAME", help="Catalogue name, folder or hub id in place of the one that is named there."
    ),
]
LabelColumn = Annotated[str, typer.Option("--label", metavar="COLUMN", help="The column that holds the label.")]
Columns = Annotated[
    list[str] | None, typer.Option("--columns", metavar="OLD=NEW", help="Rename a column, as in review=text; may be repeated.")
]
Encoding = Annotated[str | None, typer.Option("--encoding", metavar="NAME", help="Of text files; else found out.")]
Override = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the recipe; may be repeated.")
]


def columns_of(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """`["review=text"]` as a mapping.

    Raises:
        DataError: no equals sign, or nothing on one of its sides.
    """
    renamed: dict[str, str] = {}
    for pair in pairs or ():
        old, _, new = pair.partition("=")
        if not old.strip() or not new.strip():
            raise DataError(f"{pair!r} is not OLD=NEW", where="--columns", fix="write --columns review=text")
        renamed[old.strip()] = new.strip()
    return renamed or None
