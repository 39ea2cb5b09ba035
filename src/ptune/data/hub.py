"""A data set's id on a hub goes in (`owner/name`, `name`, with `:config` where it has several), its splits come out.

Uses the optional package `datasets`, imported here and only when called; which hub it asks is its own `HF_ENDPOINT`.
Class numbers become class names where the data set declares them.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ptune.data.tables import Row, Table
from ptune.errors import DataError

__all__ = ["hub_tables", "is_hub_id"]

_PREFIX = "hub:"
_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[\w.+-]+)?")
_FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")


def is_hub_id(source: str) -> bool:
    """Whether `source` can be an id: marked by `hub:`, or `owner/name` or `name` without a file's suffix."""
    if source.startswith(_PREFIX):
        return True
    return _ID.fullmatch(source) is not None and _FILE_SUFFIX.search(source) is None


def hub_tables(source: str) -> dict[str, Callable[[], Table]]:
    """Loads a data set from the hub.

    Args:
        source: the id, with or without `hub:` in front and `:config` behind.

    Returns:
        Each split's name with a function that makes its table.

    Raises:
        DataError: `datasets` is not installed, the id is malformed, or the data set cannot be loaded.
    """
    name = source.removeprefix(_PREFIX)
    no_path = "" if source.startswith(_PREFIX) else f"there is no file or folder '{name}', and "
    if not _ID.fullmatch(name):
        raise DataError(f"'{name}' is not the id of a data set", fix="write hub:owner/name or hub:owner/name:config")
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{no_path}loading '{name}' from the hub needs the package datasets",
            fix="check the path, or pip install ptune[hub]" if no_path else "pip install ptune[hub]",
        ) from error
    repository, _, config = name.partition(":")
    try:
        splits = datasets.load_dataset(repository, name=config or None)
    except Exception as error:  # whatever network, hub or builder raise, the user needs one line
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"{no_path}data set '{name}' cannot be loaded from the hub: {reason}",
            fix="check the name (owner/name, or owner/name:config), the network and HF_ENDPOINT",
        ) from error
    return {str(split): partial(_table, rows, f"{name}[{split}]") for split, rows in splits.items()}


def _table(rows: Any, name: str) -> Table:
    class_names = {column: names for column in rows.column_names if (names := _class_names(rows.features[column]))}
    made = tuple(Row(_named(values, class_names), f"{name} row {number}") for number, values in enumerate(rows, 1))
    if not made:
        raise DataError("the split is empty: it has no rows", where=name, fix="name another split")
    return Table(name, made, tuple(rows.column_names), name)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a `ClassLabel`, known by its attribute so that its class need not be imported."""
    names = getattr(feature, "names", None)
    return names if isinstance(names, list) else None


def _named(values: Mapping[str, object], class_names: Mapping[str, list[str]]) -> dict[str, object]:
    """Replaces class numbers; -1 is the hub's mark for a hidden label."""
    replaced = dict(values)
    for column, names in class_names.items():
        number = values[column]
        if isinstance(number, int):
            replaced[column] = names[number] if 0 <= number < len(names) else None
    return replaced
