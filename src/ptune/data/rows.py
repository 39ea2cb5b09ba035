"""Raw rows go in, `Example`s come out: columns renamed, values turned into text, required fields and labels checked.

Numbers and truth values become text as JSON writes them; a list of plain values stays a list; anything nested is kept
as JSON text. A null, a NaN or an absent key is missing; an empty text is a text, but not a label.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ptune.data.example import Example, FieldValue
from ptune.data.names import did_you_mean, listed, nearest
from ptune.data.tables import Row, Table
from ptune.errors import DataError

__all__ = ["Reading", "to_examples"]

_WHOLE_FLOAT = re.compile(r"-?\d+\.0+")
_MISSING_TYPES = {"NAType", "NaTType"}  # pandas' own nulls, known by name so that pandas need not be there


@dataclass(frozen=True)
class Reading:
    """How rows become examples.

    Args:
        fields: names that every row must have, after renaming.
        label: the label's column after renaming; None where there is none.
        require_label: whether a row without a label is an error.
        columns: old column name to new.
    """

    fields: tuple[str, ...] = ()
    label: str | None = "label"
    require_label: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


def to_examples(table: Table, reading: Reading) -> tuple[Example, ...]:
    """Turns a table's rows into examples, in order.

    Raises:
        DataError: a required field or label is missing, a value cannot be used, or a renaming does not fit.
    """
    if reading.label is not None and reading.label in reading.fields:
        fix = "take it out of fields, or name another column as label"
        raise DataError(f"'{reading.label}' is asked for as a field and as the label", where=table.name, fix=fix)
    _check_renaming(table, reading.columns)
    if table.columns is not None:
        _check_header(table.columns, table.header_where, reading)
    return tuple(_to_example(row, reading, table) for row in table.rows)


def _check_renaming(table: Table, columns: Mapping[str, str]) -> None:
    if all(row.is_named for row in table.rows):
        return
    present = _column_names(table) if columns else {}
    for old in columns:
        if old not in present:
            fix = did_you_mean(old, present, "name a column that exists")
            what = f"columns renames '{old}', which is not there; the columns are {listed(present)}"
            raise DataError(what, where=table.header_where or table.name, fix=fix)


def _column_names(table: Table) -> dict[str, None]:
    """Every column of the table, in order of appearance."""
    return dict.fromkeys(table.columns or (name for row in table.rows for name in row.values))


def _check_header(columns: tuple[str, ...], where: str, reading: Reading) -> None:
    names = [reading.columns.get(column, column) for column in columns]
    wanted = (*reading.fields, *([reading.label] if reading.label is not None and reading.require_label else []))
    for name in wanted:
        if name not in names:
            what = f"the header lacks column '{name}'; it has {listed(names)}"
            raise DataError(what, where=where, fix=_rename_hint(name, columns, reading))


def _to_example(row: Row, reading: Reading, table: Table) -> Example:
    named = row.values if row.is_named else _rename(row, reading.columns)
    values = {name: _plain(value) for name, value in named.items()}
    given = {name: value for name, value in values.items() if not _is_missing(value)}
    label = _label_text(given.pop(reading.label, None), row.where, table) if reading.label is not None else None
    if reading.require_label and not label:
        raise _no_label(row, reading, values)
    for name in reading.fields:
        if name not in given:
            raise _no_field(name, row, reading, values)
    return Example({name: _field_value(value, name, row.where) for name, value in given.items()}, label, row.where)


def _rename(row: Row, columns: Mapping[str, str]) -> dict[str, object]:
    renamed = {columns.get(name, name): value for name, value in row.values.items()}
    if len(renamed) < len(row.values):
        names = [columns.get(name, name) for name in row.values]
        twice = next(name for name in names if names.count(name) > 1)
        fix = f"rename the other one too, for example columns: {{{twice}: {twice}_old}}"
        raise DataError(f"after renaming, two columns are called '{twice}'", where=row.where, fix=fix)
    return renamed


# ---- values


def _is_missing(value: object) -> bool:
    return value is None or type(value).__name__ in _MISSING_TYPES or (isinstance(value, float) and value != value)


def _plain(value: object) -> object:
    """NumPy's scalars and arrays as Python's."""
    to_list = getattr(value, "tolist", None)
    return to_list() if callable(to_list) else value


def _field_value(value: object, name: str, where: str) -> FieldValue:
    if isinstance(value, list | tuple) and not any(isinstance(item, list | tuple | Mapping) for item in value):
        return tuple(_text(item, name, where) for item in value)
    return _text(value, name, where)


def _text(value: object, name: str, where: str) -> str:
    match value:
        case str():
            text = value
        case bool():
            text = "true" if value else "false"
        case None:
            text = ""
        case bytes():
            text = value.decode("utf-8", "replace")
        case list() | tuple() | Mapping():
            text = json.dumps(value, ensure_ascii=False, default=str)
        case _:
            text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"field '{name}' holds half a character (\\u{ord(text[error.start]):04x})"
        raise DataError(what, where=where, fix="remove it: it is left over from a text that was cut") from error
    return text


def _label_text(value: object, where: str, table: Table) -> str | None:
    if isinstance(value, list | tuple | Mapping):
        kind = "an object" if isinstance(value, Mapping) else "a list"
        raise DataError(f"the label is {kind}", where=where, fix="give each row one label")
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = _text(value, "label", where)
    # Where numbers are texts, a column of whole ones that once had a gap was written as 1.0, 2.0.
    return text.partition(".")[0] if table.numbers_are_text and _WHOLE_FLOAT.fullmatch(text) else text


# ---- messages


def _no_field(name: str, row: Row, reading: Reading, values: Mapping[str, object]) -> DataError:
    if name in values:
        fix = "fill it in or remove the row"
        return DataError(f"field '{name}' is missing: its value is null", where=row.where, fix=fix)
    what = f"field '{name}' is missing; the row has {listed(values) or 'nothing'}"
    fix = "give the examples that field" if row.is_named else _rename_hint(name, row.values, reading)
    return DataError(what, where=row.where, fix=fix)


def _no_label(row: Row, reading: Reading, values: Mapping[str, object]) -> DataError:
    name = str(reading.label)
    if name in values:
        fix = "fill it in or remove the row"
        return DataError(f"the row has no label: '{name}' is empty", where=row.where, fix=fix)
    what = f"the row has no label: column '{name}' is missing; the row has {listed(values) or 'nothing'}"
    fix = did_you_mean(name, values, "name the column that holds the label")
    return DataError(what, where=row.where, fix=f"{fix} Set label: ..." if fix.endswith("?") else f"{fix}: label: ...")


def _rename_hint(name: str, columns: Iterable[str], reading: Reading) -> str:
    """What to write to make one of the columns the one that is asked for."""
    spare = [old for old in columns if old not in (reading.label, *reading.fields)]
    match = nearest(name, spare)
    if match is not None:
        return f"did you mean '{match}'? rename it with columns: {{{match}: {name}}}"
    example = spare[0] if spare else "old"
    return f"rename the column that holds it, for example columns: {{{example}: {name}}}"
