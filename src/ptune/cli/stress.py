"""`ptune stress`: what a trained task loses when texts are written otherwise, or it is asked otherwise; slices; variety."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptune.cli.compare import Language
from ptune.cli.console import print_json, table
from ptune.cli.options import AsJson, BackboneName, BundlePath, Columns, Encoding, LabelColumn, Split, columns_of, labelled_rows
from ptune.errors import DataError

if TYPE_CHECKING:
    from ptune.compare.stress import StressReport
    from ptune.data import Example

__all__ = ["stress"]


def stress(
    bundle: BundlePath,
    data: Annotated[str, typer.Argument(help="Labelled rows: a file, a folder of splits, or a hub id.")],
    other: Annotated[
        list[str] | None, typer.Option("--other", metavar="NAME=DATA", help="Another domain's test rows; may be repeated.")
    ] = None,
    label: LabelColumn = None,
    columns: Columns = None,
    encoding: Encoding = None,
    split: Split = None,
    backbone: BackboneName = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Only the first rows.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random changes.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A Markdown file for the whole report, examples and all.")
    ] = None,
    language: Language = None,
    as_json: AsJson = False,
) -> None:
    """Test a trained task on texts written otherwise, and on slices; of one that writes, how varied its texts are."""
    from ptune.compare.stress import DiversityReport, diversity, diversity_markdown, diversity_table, stress_markdown
    from ptune.compare.stress import stress as run
    from ptune.model import WritingModel
    from ptune.task import load

    named = [_named(text) for text in other or ()]
    task, renamed = load(bundle, backbone=backbone), columns_of(columns)

    def read(source: str) -> "tuple[Example, ...]":
        return labelled_rows(task, source, label=label, columns=renamed, encoding=encoding, split=split)[:rows]

    report: StressReport | DiversityReport
    if isinstance(task.model, WritingModel):
        if named:
            raise DataError("another domain is for classification", where="--other", fix="leave it out")
        report = diversity(task, read(data), seed=seed)
    else:
        report = run(task, read(data), others={name: read(source) for name, source in named}, seed=seed)
    shown = language or report.language
    if out is not None:
        text = diversity_markdown(report, shown) if isinstance(report, DiversityReport) else stress_markdown(report, shown)
        out.write_text(text, encoding="utf-8")
    if as_json:
        print_json(report.to_dict())
    elif isinstance(report, DiversityReport):
        print(table(diversity_table(report, shown)))
    else:
        _show(report, shown)


def _named(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    if not equals or not name.strip() or not source.strip():
        raise DataError(f"{text!r} is not NAME=DATA", where="--other", fix="write --other hotels=hotels/test.jsonl")
    return name.strip(), source.strip()


def _show(report: "StressReport", language: str) -> None:
    found = report.accuracy
    print(f"accuracy {found.mean:.3f} ({found.low:.3f} to {found.high:.3f}) on {found.num_rows} rows as they are\n")
    lines = [["change", "rows", "before", "after", "95 % of the change", "turned"]]
    for trial in report.trials:
        span = "-" if trial.difference is None else f"{trial.difference.low:+.3f} to {trial.difference.high:+.3f}"
        shares = [f"{trial.before:.3f}", f"{trial.after:.3f}"] if trial.keeps_label else ["-", "-"]
        turned = "-" if trial.turned is None else f"{trial.turned:.3f}"
        lines.append([trial.title[language == "zh"], str(trial.num_changed), *shares, span, turned])
    print(table(lines))
    slices = [["slice", "value", "rows", "accuracy", "95 % interval"]]
    for one in report.slices:
        share = one.accuracy
        slices.append([one.by, one.value, str(share.num_rows), f"{share.mean:.3f}", f"{share.low:.3f} to {share.high:.3f}"])
    print(f"\n{table(slices)}")
    for reason in report.not_tried:
        print(f"not tried: {reason}")
