"""Column files of tagged tokens go in (CoNLL, BIO, IOB), one row for each sentence comes out: its tokens, its tags.

One token a line with its tag in the last column, parted by tabs or else spaces; blank lines part sentences. `-DOCSTART-` lines
and comments (a `#` line with another number of columns at the beginning of a sentence) are skipped. The columns in between are
kept as `column_2`, `column_3`, so that renaming picks another one: `columns: {tags: ner, column_2: tags}`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ptune.errors import DataError

__all__ = ["COLUMN_SUFFIXES", "Sentence", "read_columns"]

COLUMN_SUFFIXES = (".conll", ".bio", ".iob")

_BLANKS = " \t\r"
_SPACES = re.compile(r"[ \t]+")  # not \s: a token may be a wide space or a line separator
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """One sentence: column name to that column's cells, all of one length, and the line on which it begins."""

    columns: dict[str, list[str]]
    line: int


def read_columns(text: str, name: str) -> tuple[Sentence, ...]:
    """Reads the sentences of a column file.

    Args:
        text: the file's content.
        name: its name, for messages.

    Returns:
        Sentences with the columns `tokens`, `column_2` and so on where there are more than two, and `tags`; only `tokens` where
        the file has one column.

    Raises:
        DataError: a line with more or fewer columns than the first one, or without a token.
    """
    lines = [(number, line.rstrip(_BLANKS)) for number, line in enumerate(text.split("\n"), start=1)]
    first = _first_line(lines)
    if first is None:
        return ()
    number_of_first, content = first
    has_tabs = "\t" in content
    names = _column_names(len(_cells(content, has_tabs)))
    sentences: list[Sentence] = []
    for first_number, rows in _blocks(lines, has_tabs, len(names)):
        for number, cells in rows:
            if len(cells) != len(names):
                what = f"columns in the line: {len(cells)}, in line {number_of_first}: {len(names)}"
                raise DataError(what, where=f"{name}:{number}", fix=_column_fix(has_tabs, name))
            if not cells[0]:
                raise DataError("the line has no token", where=f"{name}:{number}", fix="fill it in or remove the line")
        columns = [list(column) for column in zip(*(cells for _, cells in rows), strict=True)]
        sentences.append(Sentence(dict(zip(names, columns, strict=True)), first_number))
    return tuple(sentences)


def _first_line(lines: list[tuple[int, str]]) -> tuple[int, str] | None:
    """The first line that surely holds a token; it says how many columns there are."""
    held = [(number, line) for number, line in lines if line.strip(_BLANKS) and not line.startswith(_DOCUMENT)]
    return next((pair for pair in held if not pair[1].startswith("#")), held[0] if held else None)


def _blocks(
    lines: list[tuple[int, str]], has_tabs: bool, num_columns: int
) -> Iterator[tuple[int, list[tuple[int, list[str]]]]]:
    """The lines of each sentence, cut into cells, with the number of the first one."""
    rows: list[tuple[int, list[str]]] = []
    for number, line in [*lines, (len(lines) + 1, "")]:
        if not line.strip(_BLANKS) or line.startswith(_DOCUMENT):
            if rows:
                yield rows[0][0], rows
            rows = []
            continue
        cells = _cells(line, has_tabs)
        if rows or not line.startswith("#") or len(cells) == num_columns:
            rows.append((number, cells))


def _cells(line: str, has_tabs: bool) -> list[str]:
    return line.split("\t") if has_tabs else _SPACES.split(line.lstrip(_BLANKS))


def _column_names(count: int) -> list[str]:
    if count == 1:
        return ["tokens"]
    return ["tokens", *(f"column_{place}" for place in range(2, count)), "tags"]


def _column_fix(has_tabs: bool, name: str) -> str:
    if name.lower().endswith(".txt"):
        return "a .txt file is read as one token and its tag a line; save rows of texts as .csv or .jsonl"
    return f"separate the columns by {'tabs' if has_tabs else 'spaces'} and sentences by a blank line"
