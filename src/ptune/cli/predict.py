"""`ptune predict`: labels texts from the command line, from a file, or from standard input.

With a template of one field every text is a line or an argument; with several fields, each is a JSON object. Texts are read and
labelled a chunk at a time; an output file appears whole or not at all.
"""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson, BackboneName, BundlePath, Columns, Encoding, columns_of
from ptune.errors import DataError

if TYPE_CHECKING:
    from ptune.task import Prediction

__all__ = ["predict"]

_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_INPUTS = (*_TABLES, ".txt")
_OUTPUTS = (".jsonl", ".csv", ".tsv")

Row = Mapping[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class _Input:
    """Rows to label.

    Args:
        rows: fields by name, read as they are needed.
        columns: the names that occur, for the header of a table.
        is_file: whether they come from a file, so that results are meant for machines.
    """

    rows: Iterable[Row]
    columns: tuple[str, ...]
    is_file: bool = False


def predict(
    bundle: BundlePath,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT... | FILE | -", help="Texts, one file, or - for standard input.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here: .jsonl, .csv or .tsv.")] = None,
    columns: Columns = None,
    encoding: Encoding = None,
    backbone: BackboneName = None,
    int8: Annotated[bool, typer.Option("--int8", help="Use int8 weights: faster on many CPUs; see evaluate --int8.")] = False,
    as_json: AsJson = False,
) -> None:
    """Label texts."""
    from ptune.bundle import read_bundle
    from ptune.task import load
    from ptune.template import Template

    _check_output(out, texts)
    fields = Template.parse(read_bundle(bundle).card["task"]["template"]).field_names
    given = _input(texts, fields, columns_of(columns), encoding)
    task = load(bundle, backbone=backbone, dtype="int8" if int8 else "fp32")
    results = _results(task.stream, given.rows)
    if out is not None:
        _write(out, results, given.columns, task.labels, as_json=as_json)
        return
    for result in results:
        if as_json or given.is_file:
            print(json.dumps(result, ensure_ascii=False), flush=True)
        else:
            text = " | ".join(str(result[name]) for name in fields)
            print(f"{result['label']}  {max(result['probabilities'].values()):.2f}  {text}", flush=True)


def _results(stream: Callable[[Iterable[Row]], Iterator["Prediction"]], rows: Iterable[Row]) -> Iterator[Result]:
    """Each row with its label and probabilities; a label that it came with moves to `given_label`."""
    waiting: list[Row] = []

    def remembered() -> Iterator[Row]:
        for row in rows:
            waiting.append(row)
            yield row

    for prediction in stream(remembered()):
        row = dict(waiting.pop(0))
        if "label" in row:
            row["given_label"] = row.pop("label")
        yield {**row, **prediction.to_dict()}


# -- where texts come from -------------------------------------------------------------------------------------------


def _input(texts: Sequence[str], fields: tuple[str, ...], columns: Mapping[str, str] | None, encoding: str | None) -> _Input:
    if list(texts) == ["-"]:
        return _Input(_rows_of(_standard_input(encoding), fields), fields)
    path = Path(texts[0])
    if len(texts) > 1 or not _looks_like_file(path):
        return _Input(list(_rows_of(texts, fields)), fields)
    if path.suffix.lower() in _TABLES or not path.exists():
        return _table_input(path, fields, columns, encoding)
    if path.suffix.lower() != ".txt":
        raise DataError(f"{path.name} is no file of texts that ptune reads", where=str(path), fix=f"use {', '.join(_INPUTS)}")
    return _Input(list(_rows_of(_lines(path, encoding), fields)), fields, is_file=True)


def _looks_like_file(path: Path) -> bool:
    """A file, or what was surely meant as one; anything else is a text."""
    try:
        return path.is_file() or (path.suffix.lower() in _INPUTS and not any(map(str.isspace, str(path))))
    except (OSError, ValueError):  # a text too long for a path
        return False


def _table_input(path: Path, fields: tuple[str, ...], columns: Mapping[str, str] | None, encoding: str | None) -> _Input:
    from ptune.data import read_examples

    rows = [example.fields for example in read_examples(path, fields=fields, label=None, columns=columns, encoding=encoding)]
    return _Input(rows, tuple(dict.fromkeys(name for row in rows for name in row)), is_file=True)


def _lines(path: Path, encoding: str | None) -> list[str]:
    from ptune.data import decode

    return list(map(_without_line_end, io.StringIO(decode(path.read_bytes(), path.name, encoding), newline=None)))


def _standard_input(encoding: str | None) -> Iterator[str]:
    """Lines of standard input as they come; a byte order mark in front, as some shells write it, is dropped."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        _set_encoding(sys.stdin, encoding)
    try:
        for number, line in enumerate(sys.stdin):
            yield _without_line_end(line if number else line.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        what = f"byte 0x{error.object[error.start]:02X} is not {error.encoding.upper()} text"
        raise DataError(what, where="standard input", fix="name its encoding, as in --encoding gb18030") from error


def _set_encoding(stream: io.TextIOWrapper, encoding: str | None) -> None:
    try:
        stream.reconfigure(encoding=encoding)
    except LookupError as error:
        raise DataError(f"unknown encoding {encoding!r}", where="--encoding", fix="use utf-8 or gb18030, say") from error


def _without_line_end(line: str) -> str:
    return line.rstrip("\r\n")


def _rows_of(texts: Iterable[str], fields: tuple[str, ...]) -> Iterator[Row]:
    for number, text in enumerate(texts, 1):
        yield {fields[0]: text} if len(fields) == 1 else _object(text, fields, number)


def _object(text: str, fields: tuple[str, ...], number: int) -> Row:
    try:
        row = json.loads(text)
    except ValueError:
        row = None
    missing = [name for name in fields if not isinstance(row, dict) or name not in row]
    if missing:
        shape = "{" + ", ".join(f'"{name}": "..."' for name in fields) + "}"
        raise DataError(
            f"the template has the fields {', '.join(fields)}, and this text does not give {missing[0]!r}",
            where=f"text {number}",
            fix=f"write each as JSON: {shape}",
        )
    assert isinstance(row, dict)
    return row


# -- where results go ------------------------------------------------------------------------------------------------


def _check_output(out: Path | None, texts: Sequence[str]) -> None:
    if out is None:
        return
    if out.suffix.lower() not in _OUTPUTS:
        raise DataError(
            f"{out.name} is no file that predictions can be written to", where="--out", fix=f"use {', '.join(_OUTPUTS)}"
        )
    if not out.parent.is_dir():
        raise DataError(f"the folder {out.parent} does not exist", where="--out", fix="make it first")
    if any(_looks_like_file(Path(text)) and Path(text).resolve() == out.resolve() for text in texts):
        raise DataError("the output is the input file", where="--out", fix="name another file")


def _write(out: Path, results: Iterator[Result], columns: Sequence[str], labels: Sequence[str], *, as_json: bool) -> None:
    counts: Counter[str] = Counter()
    with _swapped_in(out) as file:
        put = _json_line if out.suffix.lower() == ".jsonl" else _table_line(file, out, columns, labels)
        for result in results:
            counts[result["label"]] += 1
            put(file, result)
    facts = {"out": str(out), "rows": counts.total(), "labels": {name: counts[name] for name in labels}}
    if as_json:
        print_json(facts)
    else:
        say(f"{counts.total()} rows written to {out} ({', '.join(f'{name} {counts[name]}' for name in labels)})")


@contextmanager
def _swapped_in(out: Path) -> Iterator[IO[str]]:
    """A file beside `out` that takes its place once it is complete."""
    fresh = out.with_name(f".{out.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as file:
            yield file
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)


def _json_line(file: IO[str], result: Result) -> None:
    file.write(json.dumps(result, ensure_ascii=False) + "\n")


def _table_line(file: IO[str], out: Path, columns: Sequence[str], labels: Sequence[str]) -> Callable[[IO[str], Result], None]:
    names = ["given_label" if name == "label" else name for name in columns]
    header = [*names, "label", *(f"probability of {name}" for name in labels)]
    writer = csv.writer(file, delimiter="\t" if out.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    writer.writerow(header)

    def put(_: IO[str], result: Result) -> None:
        cells = [result.get(name, "") for name in names]
        writer.writerow([*map(_cell, cells), result["label"], *(f"{result['probabilities'][name]:.6f}" for name in labels)])

    return put


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))
