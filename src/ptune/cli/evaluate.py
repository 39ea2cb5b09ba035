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
    label: LabelColumn = None,
    columns: Columns = None,
    encoding: Encoding = None,
    split: Split = None,
    backbone: BackboneName = None,
    int8: Annotated[bool, typer.Option("--int8", help="Judge it with int8 weights too, and say what they cost.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a trained task on labelled rows."""
    from ptune.objective import Report
    from ptune.task import load

    renamed = columns_of(columns)
    task = load(bundle, backbone=backbone)
    examples = labelled_rows(task, data, label=label, columns=renamed, encoding=encoding, split=split)
    report = task.judge(examples)
    rounded = load(bundle, backbone=backbone, dtype="int8").judge(examples) if int8 else None
    if as_json:
        print_json(report.to_dict() if rounded is None else {**report.to_dict(), "int8": rounded.to_dict()})
        return
    print(report)
    if isinstance(report, Report):
        rows = [["true \\ predicted", *report.labels]]
        rows += [[name, *map(str, counts)] for name, counts in zip(report.labels, report.confusion, strict=True)]
        print(f"\n{table(rows)}")
    if rounded is not None:
        change = rounded.score - report.score
        print(f"\nint8 weights: {report.metric.replace('_', ' ')} {rounded.score:.3f} ({change:+.3f})")
