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
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson, BackboneName, BundlePath, Columns, Encoding, columns_of
from ptune.cli.writing import (
    Beams,
    LengthPenalty,
    MaxNewTokens,
    Returns,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    check_writing,
    shows_pieces,
    write_out,
    writing_words,
)
from ptune.errors import DataError

if TYPE_CHECKING:
    from ptune.model import TaskPrediction

__all__ = ["predict"]

_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".conll", ".bio", ".iob")
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
    max_new_tokens: MaxNewTokens = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
    returns: Returns = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    stop: Stop = None,
) -> None:
    """Answer texts with a trained task."""
    from ptune.bundle import read_bundle
    from ptune.task import load

    words = writing_words(
        max_new_tokens=max_new_tokens,
        beams=beams,
        length_penalty=length_penalty,
        returns=returns,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop=stop,
    )
    _check_output(out, texts)
    card = read_bundle(bundle).card
    check_writing(card, words)
    needed, fields = _fields(card["task"])
    given = _input(texts, needed, fields, columns_of(columns), encoding)
    task = load(bundle, backbone=backbone, dtype="int8" if int8 else "fp32")
    if out is None and not (as_json or given.is_file) and shows_pieces(task, words):
        write_out(task, given.rows, words)
        return
    answered = _answered(partial(task.stream, **words), given.rows)
    if out is not None:
        labels = task.labels if task.model.kind == "classification" else ()
        _write(out, map(_result, answered), given.columns, labels, as_json=as_json)
        return
    for row, prediction in answered:
        if as_json or given.is_file:
            print(json.dumps(_result((row, prediction)), ensure_ascii=False), flush=True)
        else:
            print(f"{prediction}  {' | '.join(_cell(row[name]) for name in fields)}", flush=True)


def _fields(task: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a row needs, by a bundle's card alone, so that bad input fails before the model is loaded; and what texts fill."""
    from ptune.model import task_class
    from ptune.template import Template

    kind = task_class(task.get("kind", "classification"))
    columns = (task.get("columns", {}).get(key, key) for key in kind.input_keys)
    needed = tuple(dict.fromkeys((*kind.fields_read(Template.parse(task["template"])), *columns)))
    return needed, needed if kind.plain_column is None else (kind.plain_column,)


def _answered(
    stream: Callable[[Iterable[Row]], Iterator["TaskPrediction"]], rows: Iterable[Row]
) -> Iterator[tuple[Row, "TaskPrediction"]]:
    """Each row with what the task says about it."""
    waiting: list[Row] = []

    def remembered() -> Iterator[Row]:
        for row in rows:
            waiting.append(row)
            yield row

    for prediction in stream(remembered()):
        yield waiting.pop(0), prediction


def _result(answered: tuple[Row, "TaskPrediction"]) -> Result:
    """A row with its answer; a column that the answer takes (`label`) moves to `given_label`."""
    row, answer = dict(answered[0]), answered[1].to_dict()
    for name in [name for name in row if name in answer]:
        row[f"given_{name}"] = row.pop(name)
    return {**row, **answer}


# -- where texts come from -------------------------------------------------------------------------------------------


def _input(
    texts: Sequence[str],
    needed: tuple[str, ...],
    fields: tuple[str, ...],
    columns: Mapping[str, str] | None,
    encoding: str | None,
) -> _Input:
    if list(texts) == ["-"]:
        return _Input(_rows_of(_standard_input(encoding), fields), fields)
    path = Path(texts[0])
    if len(texts) > 1 or not _looks_like_file(path):
        return _Input(list(_rows_of(texts, fields)), fields)
    if path.suffix.lower() in _TABLES or not path.exists():
        return _table_input(path, needed, columns, encoding)
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
        num_rows = 0
        for result in results:
            num_rows += 1
            if labels:
                counts[result["label"]] += 1
            put(file, result)
    facts: dict[str, Any] = {"out": str(out), "rows": num_rows}
    if labels:
        facts["labels"] = {name: counts[name] for name in labels}
    if as_json:
        print_json(facts)
    else:
        each = f" ({', '.join(f'{name} {counts[name]}' for name in labels)})" if labels else ""
        say(f"{num_rows} rows written to {out}{each}")


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
    writer = csv.writer(file, delimiter="\t" if out.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    if not labels:
        return _any_line(writer)
    names = ["given_label" if name == "label" else name for name in columns]
    header = [*names, "label", *(f"probability of {name}" for name in labels)]
    writer.writerow(header)

    def put(_: IO[str], result: Result) -> None:
        cells = [result.get(name, "") for name in names]
        writer.writerow([*map(_cell, cells), result["label"], *(f"{result['probabilities'][name]:.6f}" for name in labels)])

    return put


def _any_line(writer: Any) -> Callable[[IO[str], Result], None]:
    """A line for each result of a kind of task without fixed columns: the first result's names are the header."""
    header: list[str] = []

    def put(_: IO[str], result: Result) -> None:
        if not header:
            header.extend(result)
            writer.writerow(header)
        writer.writerow([_plain_cell(result.get(name, "")) for name in header])

    return put


def _plain_cell(value: Any) -> Any:
    """A value that is no text and no number as JSON."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else value


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))
