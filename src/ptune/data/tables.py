"""A file's text or rows in memory go in; a `Table` of raw rows comes out, each row knowing where it stands.

One function per format: CSV and TSV, JSON Lines, JSON, Parquet, memory; columns of tokens are `ptune.data.conll`'s. Values are
still what the format held; turning them into text and labels is the business of `ptune.data.rows`.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ptune.data.conll import COLUMN_SUFFIXES, read_columns
from ptune.data.encoding import decode
from ptune.data.example import Example
from ptune.data.names import listed
from ptune.errors import DataError, notice

__all__ = ["SUFFIXES", "Row", "RowLike", "Table", "memory_table", "read_table"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", *COLUMN_SUFFIXES)

RowLike = Mapping[str, object] | str | Example

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class Row:
    """One raw row.

    Args:
        values: column name to value.
        where: its place (`train.csv:7`, `data.json row 7`, `row 7`).
        is_named: its columns have their final names, as an `Example`'s have.
    """

    values: Mapping[str, object]
    where: str
    is_named: bool = False


@dataclass(frozen=True)
class Table:
    """The raw rows of one file or list.

    Args:
        name: the file's name, for messages.
        rows: at least one row.
        columns: the column names where the format declares them (CSV, Parquet), else None.
        header_where: where the columns are declared.
        numbers_are_text: the format knows texts only (CSV).
    """

    name: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...] | None = None
    header_where: str = ""
    numbers_are_text: bool = False


def read_table(path: Path, encoding: str | None = None) -> Table:
    """Reads one file by its suffix.

    Args:
        path: an existing file; a .txt file, which a folder of splits passes over, is read as columns of tokens and tags.
        encoding: see `decode`; Parquet ignores it.

    Returns:
        The table, with at least one row.

    Raises:
        DataError: the suffix is not supported, the file cannot be read or parsed, or it has no rows.
    """
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, ".txt"):
        kind = f"'{suffix}' files" if suffix else "files without a suffix"
        raise DataError(f"{kind} cannot be read", where=path.name, fix=f"save it as one of {', '.join(SUFFIXES)}")
    table = _read_parquet(path) if suffix == ".parquet" else _read_text(path, suffix, encoding)
    if not table.rows:
        raise DataError("the file is empty: it has no rows", where=path.name, fix="add rows or name another file")
    return table


def memory_table(rows: Iterable[RowLike], label: str | None = "label") -> Table:
    """Makes a table of rows in memory: mappings, bare texts (the field `text`), or `Example`s, labelled under `label`.

    Raises:
        DataError: there are no rows, or a row is something else.
    """
    made = tuple(_memory_row(row, number, label) for number, row in enumerate(rows, start=1))
    if not made:
        raise DataError("there are no rows: the list is empty", fix="pass at least one row")
    return Table("rows", made)


def _memory_row(row: object, number: int, label: str | None) -> Row:
    match row:
        case str():
            return Row({"text": row}, f"row {number}")
        case Example():
            labelled = {} if label is None else {label: row.label}
            return Row({**row.fields, **labelled}, row.where or f"row {number}", is_named=True)
        case Mapping():
            return Row(row, f"row {number}")
        case _:
            raise DataError(
                f"the row is a {type(row).__name__}",
                where=f"row {number}",
                fix="pass a mapping of column names to values, or a text",
            )


def _read_text(path: Path, suffix: str, encoding: str | None) -> Table:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    text, name = decode(raw, path.name, encoding), path.name
    match suffix:
        case ".jsonl":
            return Table(name, tuple(_jsonl_rows(text, name)))
        case ".json":
            return Table(name, tuple(_json_rows(text, name)))
        case ".conll" | ".bio" | ".iob" | ".txt":
            sentences = read_columns(text, name)
            return Table(name, tuple(Row(sentence.columns, f"{name}:{sentence.line}") for sentence in sentences))
        case _:
            return _csv_table(text, name, "\t" if suffix == ".tsv" else _csv_delimiter(text))


# ---- CSV and TSV


def _csv_delimiter(text: str) -> str:
    """A comma, unless the header has none but a tab or a semicolon."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return next((mark for mark in (",", "\t", ";") if mark in header), ",")


def _csv_table(text: str, name: str, delimiter: str) -> Table:
    try:
        records = list(_csv_records(text, name, delimiter))
    except DataError as error:
        if delimiter != "\t":
            raise
        # Many TSV files (GLUE's, for one) quote nothing: a quotation mark in them is only a quotation mark.
        records = list(_csv_records(text, name, delimiter, quoted=False))
        if any(len(cells) != len(records[0][1]) for _, cells in records):
            raise
        notice(f"{error.where}: the file's quotation marks do not pair up; all of them are read as plain characters")
    if not records:
        return Table(name, ())
    (header_line, header), *body = records
    header_where = f"{name}:{header_line}"
    columns = _csv_columns(header, header_where)
    rows = tuple(_csv_row(columns, cells, f"{name}:{line}", delimiter) for line, cells in body)
    return Table(name, rows, tuple(filter(None, columns)), header_where, numbers_are_text=True)


def _csv_records(text: str, name: str, delimiter: str, *, quoted: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yields each record with the physical line on which it begins; blank lines are skipped."""
    csv.field_size_limit(max(csv.field_size_limit(), min(len(text), 2**31 - 1)))
    lines = io.StringIO(text, newline="")
    if quoted:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"a quoted cell does not end where it should ({error})",
                where=f"{name}:{line}",
                fix='close the quotation mark, and write "" for a quotation mark inside a quoted cell',
            ) from error
        if cells:
            yield line, cells


def _csv_columns(header: list[str], where: str) -> list[str]:
    columns = [cell.strip() for cell in header]
    twice = next((column for column in columns if column and columns.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"the header names column '{twice}' twice", where=where, fix="rename one of the two")
    return columns


def _csv_row(columns: list[str], cells: list[str], where: str, delimiter: str) -> Row:
    if len(cells) != len(columns):
        mark = _DELIMITER_NAMES[delimiter]
        raise DataError(
            f"cells in the row: {len(cells)}, in the header: {len(columns)}",
            where=where,
            fix=f'put a cell that holds a {mark} into quotation marks ("...")'
            if len(cells) > len(columns)
            else f"add the missing cells; they are separated by a {mark}",
        )
    # A column without a name is an index that was written along (pandas does); it holds no data.
    return Row({column: cell for column, cell in zip(columns, cells, strict=True) if column}, where)


# ---- JSON


def _jsonl_rows(text: str, name: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        record = _parse_json(content, name, line, fix="each line must be one JSON object")
        if not isinstance(record, dict):
            raise DataError(
                f"the row is {_json_kind(record)}, not an object",
                where=f"{name}:{line}",
                fix='write each row as {"text": ..., "label": ...}',
            )
        yield Row(record, f"{name}:{line}")


def _json_rows(text: str, name: str) -> Iterator[Row]:
    if not text.strip():
        return
    content = _parse_json(text, name, 1, fix="one object a line? then call the file .jsonl")
    records = content.get("data") if isinstance(content, dict) else content
    if not isinstance(records, list):
        _refuse_json(content, name)
    for number, record in enumerate(records, start=1):
        where = f"{name} row {number}"
        if not isinstance(record, dict):
            raise DataError(f"the row is {_json_kind(record)}, not an object", where=where, fix="write an object a row")
        yield Row(record, where)


def _refuse_json(content: object, name: str) -> NoReturn:
    held = f"an object with {listed(content)}" if isinstance(content, dict) and content else _json_kind(content)
    fix = 'write a list of objects, or an object whose "data" is such a list; one object a line is .jsonl'
    raise DataError(f"the file holds {held}", where=name, fix=fix)


def _parse_json(text: str, name: str, first_line: int, *, fix: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{name}:{first_line + error.lineno - 1}:{error.colno}"
        raise DataError(f"invalid JSON: {error.msg}", where=where, fix=fix) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists without end
        raise DataError(f"JSON that cannot be read: {error}", where=f"{name}:{first_line}", fix=fix) from error


def _json_kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an empty object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")


# ---- Parquet


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        fix = "pip install ptune[parquet]"
        raise DataError("reading Parquet needs the package pyarrow", where=path.name, fix=fix) from error
    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        fix = "write the file again, or save it as .jsonl"
        raise DataError(f"the Parquet file cannot be read: {reason}", where=path.name, fix=fix) from error
    rows = (Row(values, f"{path.name} row {number}") for number, values in enumerate(table.to_pylist(), start=1))
    return Table(path.name, tuple(rows), tuple(table.column_names), path.name)
