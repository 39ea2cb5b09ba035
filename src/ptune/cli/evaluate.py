"""`ptune evaluate`: judges a trained task on labelled rows."""

from typing import Annotated

import typer

from ptune.cli.console import print_json, table
from ptune.cli.options import (
    AsJson,
    BackboneName,
    BundlePath,
    Columns,
    Encoding,
    LabelColumn,
    Split,
    columns_of,
    labelled_rows,
)

__all__ = ["evaluate"]


def evaluate(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(help="Labelled rows: a file, a folder of splits, or a hub id.")],
    label: LabelColumn = "label",
    columns: Columns = None,
    encoding: Encoding = None,
    split: Split = None,
    backbone: BackboneName = None,
    as_json: AsJson = False,
) -> None:
    """Judge a trained task on labelled rows."""
    from ptune.task import load

    renamed = columns_of(columns)
    task = load(bundle, backbone=backbone)
    report = task.judge(labelled_rows(task, data, label=label, columns=renamed, encoding=encoding, split=split))
    if as_json:
        print_json(report.to_dict())
        return
    print(report)
    rows = [["true \\ predicted", *report.labels]]
    rows += [[name, *map(str, counts)] for name, counts in zip(report.labels, report.confusion, strict=True)]
    print(f"\n{table(rows)}")
