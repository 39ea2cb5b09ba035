"""The way in: a path, a folder of splits, a hub id or rows in memory go in, checked `Example`s come out.

Which file holds which split goes by its name: train, validation (also dev, val, valid), test. What a format means is
in `ptune.data.tables`, what a row means in `ptune.data.rows`.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ptune.data.example import Example
from ptune.data.hub import hub_tables, is_hub_id
from ptune.data.names import did_you_mean, listed, nearest
from ptune.data.rows import Reading, to_examples
from ptune.data.tables import SUFFIXES, RowLike, Table, memory_table, read_table
from ptune.errors import DataError

__all__ = ["Source", "has_splits", "load_splits", "read_examples"]

Source = str | os.PathLike[str] | Iterable[RowLike]
"""A path, a hub id, or rows in memory: mappings, texts, `Example`s."""

_Loader = Callable[[], Table]

_SPLITS = ("train", "validation", "test")
_OTHER_NAMES = {"training": "train", "dev": "validation", "val": "validation", "valid": "validation"}
_SPLIT_STEM = re.compile(rf"({'|'.join((*_SPLITS, *_OTHER_NAMES))})([._-].+)?", re.IGNORECASE)


def read_examples(
    source: Source,
    *,
    fields: Sequence[str] | None = None,
    label: str | None = "label",
    encoding: str | None = None,
    require_label: bool = False,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[Example, ...]:
    """Reads the rows of one file, one split of a folder or hub data set, or rows in memory.

    Args:
        source: a .csv, .tsv, .jsonl, .json, .parquet, .conll, .bio or .iob file; a folder of splits; a hub id (`owner/name`,
            `name`, `owner/name:config`, or any of them behind `hub:`) where there is no such path; or rows.
        fields: columns that each row must have, with a value; other columns are kept too.
        label: the label's column (after renaming); None where there is none.
        encoding: of a text file; None detects UTF-8, UTF-16 with its mark, and Chinese GB18030.
        require_label: whether a row without a label is an error.
        split: which split of a folder or hub data set: train, validation, test, or a file's own name such as `train_0`.
        columns: old column name to new, as in `{"review": "text"}`; `Example`s have been read before and keep their names.

    Returns:
        One example a row, in order; `where` is `file:line`, or `file row N` where rows have no lines.

    Raises:
        DataError: anything that keeps the rows from being read, with its place and remedy.
    """
    loader = _pick(source, _loaders(source, encoding, label), split)
    return to_examples(loader(), _reading(fields, label, require_label, columns))


def load_splits(
    source: Source,
    *,
    fields: Sequence[str] | None = None,
    label: str | None = "label",
    encoding: str | None = None,
    require_label: bool = False,
    columns: Mapping[str, str] | None = None,
) -> dict[str, tuple[Example, ...]]:
    """Reads all splits of a source; the arguments are those of `read_examples`.

    Returns:
        `train`, `validation` and `test`, as far as they exist, of a folder or hub data set; the one entry `data` of a
        file or of rows in memory. Further files of a folder, such as `train_0`, are left to `read_examples`; they are
        read here only where there is none of the three.

    Raises:
        DataError: as `read_examples`, for any of the splits.
    """
    loaders = _loaders(source, encoding, label)
    names: list[str | None] = [name for name in _SPLITS if name in loaders]
    reading = _reading(fields, label, require_label, columns)
    return {name or "data": to_examples(_pick(source, loaders, name)(), reading) for name in names or loaders}


def _reading(
    fields: Sequence[str] | None, label: str | None, require_label: bool, columns: Mapping[str, str] | None
) -> Reading:
    return Reading((fields,) if isinstance(fields, str) else tuple(fields or ()), label, require_label, columns or {})


def _loaders(source: Source, encoding: str | None, label: str | None) -> dict[str | None, list[_Loader]]:
    """Each split of the source with what reads it; the key None stands for a source that has no splits."""
    if not isinstance(source, str | os.PathLike):
        return {None: [partial(memory_table, _rows_of(source), label)]}
    path = Path(source).expanduser()
    if _exists(path):
        if path.is_dir():
            return _folder_loaders(path, encoding)
        return {None: [partial(read_table, path, encoding)]}
    slip = "/" not in str(source) and nearest(str(source), [there.name for there in Path().iterdir()]) is not None
    if isinstance(source, str) and is_hub_id(source) and not slip and not ("/" in source and _exists(path.parent)):
        loaders: dict[str | None, list[_Loader]] = {}
        for name, loader in hub_tables(source).items():
            loaders.setdefault(_canonical(name), []).append(loader)
        return loaders
    raise _no_such_file(path)


def has_splits(source: Source) -> bool:
    """Whether a split has to be named to read from `source`: a folder, or the id of a hub data set."""
    if not isinstance(source, str | os.PathLike):
        return False
    path = Path(source).expanduser()
    return path.is_dir() or (not _exists(path) and isinstance(source, str) and is_hub_id(source))


def _rows_of(source: Iterable[RowLike]) -> Iterable[RowLike]:
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        fix = "pass a path, a hub id, or a list of mappings or texts"
        raise DataError(f"a {type(source).__name__} is not a source of rows", fix=fix)
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        raise DataError("a data frame iterates over its columns", fix='pass frame.to_dict("records")')
    return source


def _pick(source: Source, loaders: Mapping[str | None, list[_Loader]], split: str | None) -> _Loader:
    """The one loader for `split`."""
    if None in loaders:
        if split is not None:
            what = f"there are no splits to choose '{split}' from"
            raise DataError(what, where=_name(source), fix="leave split out, or name a folder of splits")
        return loaders[None][0]
    names = [str(name) for name in loaders]
    if split is None:
        what = f"a source with splits: {listed(names)}"
        raise DataError(what, where=_name(source), fix=f"say which one of them, for example split: {names[0]}")
    found = loaders.get(_canonical(split))
    if found is None:
        fix = did_you_mean(split, names, "name one that exists")
        raise DataError(f"there is no split '{split}'; there are {listed(names)}", where=_name(source), fix=fix)
    if len(found) > 1:
        what = f"split '{_canonical(split)}' stands in more than one file"
        raise DataError(what, where=_name(source), fix="keep one of them, or name the file itself")
    return found[0]


def _folder_loaders(folder: Path, encoding: str | None) -> dict[str | None, list[_Loader]]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    by_split: dict[str, list[_Loader]] = {}
    for path in files:
        if _SPLIT_STEM.fullmatch(path.stem):
            by_split.setdefault(_canonical(path.stem), []).append(partial(read_table, path, encoding))
    if not by_split:
        held = f"it holds {listed(path.name for path in files)}" if files else "it holds no data file"
        fix = f"name a file itself, or call the files train, validation, test ({', '.join(SUFFIXES)})"
        raise DataError(f"the folder has no splits: {held}", where=str(folder), fix=fix)
    return {name: by_split[name] for name in sorted(by_split, key=_split_order)}


def _canonical(split: str) -> str:
    folded = split.lower()
    return folded if folded in _SPLITS else _OTHER_NAMES.get(folded, split)


def _split_order(split: str) -> tuple[int, str]:
    return (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that was passed for a path: too long, or with a NUL
        return False


def _no_such_file(path: Path) -> DataError:
    if not _exists(path.parent):
        return DataError(f"no such file: the folder '{path.parent}' does not exist", where=str(path), fix="check it")
    otherwise = "check the path; a data set on a hub is written hub:owner/name"
    names = (entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else ()
    return DataError("no such file", where=str(path), fix=did_you_mean(path.name, names, otherwise))


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "rows"
