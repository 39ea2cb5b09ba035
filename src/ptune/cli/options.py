"""Options that several verbs share, so that they read the same everywhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptune.errors import DataError

if TYPE_CHECKING:
    from ptune.data import Example
    from ptune.task import Task

__all__ = [
    "AsJson",
    "BackboneName",
    "BundlePath",
    "Columns",
    "Encoding",
    "LabelColumn",
    "Override",
    "Split",
    "columns_of",
    "labelled_rows",
]

BundlePath = Annotated[Path, typer.Argument(help="A trained task, such as runs/NAME/bundle or hub:OWNER/NAME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone", metavar="NAME", help="Catalogue name, folder or hub id in place of the one that is named there."
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option("--label", metavar="COLUMN", help="The column that holds the label, if not the task's own.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--columns", metavar="OLD=NEW", help="Rename a column, as in review=text; may be repeated.")
]
Encoding = Annotated[str | None, typer.Option("--encoding", metavar="NAME", help="Of text files; else found out.")]
Split = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Which split of a folder or hub data set; test if not given.")
]
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


def labelled_rows(
    task: "Task", source: str, *, label: str | None, columns: Mapping[str, str] | None, encoding: str | None, split: str | None
) -> "tuple[Example, ...]":
    """Rows to judge a task on, from the split `test` where a source has splits and none is named.

    Raises:
        DataError: the rows cannot be read, or one lacks a field of the task's template or a label.
    """
    from ptune.data import has_splits

    named = split or ("test" if has_splits(source) else None)
    return task.read_judged(source, label=label, columns=columns, encoding=encoding, split=named)
