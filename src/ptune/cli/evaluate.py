"""`ptune evaluate`: judges a trained task on labelled rows."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, table
from ptune.cli.options import AsJson, BackboneName, Columns, Encoding, LabelColumn, columns_of

__all__ = ["evaluate"]


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A trained task, such as runs/NAME/bundle.")],
    data: Annotated[str, typer.Argument(help="Labelled rows: a file, a folder of splits, or a hub id.")],
    label: LabelColumn = "label",
    columns: Columns = None,
    encoding: Encoding = None,
    split: Annotated[str | None, typer.Option(help="Which split of a folder; test if not given.")] = None,
    backbone: BackboneName = None,
    as_json: AsJson = False,
) -> None:
    """Judge a trained task on labelled rows."""
    from ptune.task import load

    renamed = columns_of(columns)
    chosen = split or ("test" if Path(data).is_dir() else None)
    report = load(bundle, backbone=backbone).evaluate(data, label=label, columns=renamed, encoding=encoding, split=chosen)
    if as_json:
        print_json(report.to_dict())
        return
    print(report)
    rows = [["true \\ predicted", *report.labels]]
    rows += [[name, *map(str, counts)] for name, counts in zip(report.labels, report.confusion, strict=True)]
    print(f"\n{table(rows)}")
