"""`ptune inspect`: a trained task's card, and what its prompt has learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptune.cli.console import file_size, print_json, table
from ptune.cli.figures import figure_lines
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

if TYPE_CHECKING:
    from ptune.data import Example
    from ptune.task import Inspection

__all__ = ["inspect"]


def inspect(
    bundle: BundlePath,
    data: Annotated[str | None, typer.Option(help="Labelled rows that show what each learned token is worth.")] = None,
    label: LabelColumn = None,
    columns: Columns = None,
    encoding: Encoding = None,
    split: Split = None,
    backbone: BackboneName = None,
    as_json: AsJson = False,
) -> None:
    """Show a trained task's card and what its prompt has learned."""
    from ptune.bundle import read_bundle
    from ptune.task import inspect_task, load

    card = read_bundle(bundle).card
    renamed = columns_of(columns)
    task = load(bundle, backbone=backbone)
    examples: Sequence[Example] = ()
    if data is not None:
        examples = labelled_rows(task, data, label=label, columns=renamed, encoding=encoding, split=split)
    inspection = inspect_task(task, examples)
    if as_json:
        print_json({"card": card, "inspection": inspection.to_dict()})
        return
    print("\n".join(_card_lines(card, bundle)))
    print("\n" + "\n".join(_token_lines(inspection)))


def _card_lines(card: Mapping[str, Any], bundle: Path) -> list[str]:
    task, backbone = card["task"], card["backbone"]
    words = (task.get("verbalizer") or {}).get("words", {})
    labels = [f"{name} ({', '.join(words[name])})" if name in words else name for name in task.get("labels", ())]
    lines = [
        f"bundle              {bundle} ({file_size(bundle) / 1000:,.1f} kB)",
        f"task                {task.get('kind', 'classification')}",
        f"template            {task['template']!r}",
        *([f"labels              {', '.join(labels)}"] if labels else []),
        f"method              {task['method']['name']}",
        f"backbone            {backbone['name']} ({backbone['kind']}, {backbone['fingerprint'][:12]})",
    ]
    if "data" in card:
        lines.append(
            f"training rows       {card['data']['train_rows']} ({card['data']['train_fingerprint'][:12]}), seed {card['seed']}"
        )
    if "trained_parameters" in card:
        lines += figure_lines(card)
    versions = {"ptune": card.get("ptune", "?"), **card["versions"]}
    return [*lines, f"versions            {', '.join(f'{name} {number}' for name, number in versions.items())}"]


def _token_lines(inspection: "Inspection") -> list[str]:
    metric = inspection.metric.replace("_", " ")
    lines = [f"prompt              {inspection.drawing!r}"]
    if inspection.accuracy is not None:
        lines.append(f"{metric:<20}{inspection.accuracy:.3f} on the rows given")
    if not inspection.tokens:
        return [*lines, "nothing is learned in this prompt"]
    has_drops = inspection.accuracy is not None
    rows = [
        ["token", "nearest words (similarity)", "norm", "of a usual one", *([f"{metric} lost without"] if has_drops else [])]
    ]
    for token in inspection.tokens:
        nearest = ", ".join(f"{word.strip() or repr(word)} ({value:.2f})" for word, value in token.nearest)
        drop = [f"{token.drop:+.3f}"] if token.drop is not None else []
        rows.append([str(token.row), nearest, f"{token.norm:.2f}", f"{token.relative_norm:.2f}", *drop])
    return [*lines, "", table(rows)]
