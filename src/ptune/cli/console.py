"""Lines, tables and JSON: everything that a verb prints goes through here."""

import json
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["file_size", "print_json", "say", "table"]


def say(line: str) -> None:
    """One line for people: standard error, so that standard output holds results only."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """A result for machines."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def table(rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns, numbers to the right; Chinese characters take two cells.

    Args:
        rows: cells, the header first; all rows are of one length.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    to_right = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    return "\n".join("  ".join(map(_padded, row, widths, to_right)).rstrip() for row in cells)


def file_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _padded(cell: str, width: int, to_right: bool) -> str:
    blanks = " " * (width - _width(cell))
    return blanks + cell if to_right else cell + blanks


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(",", "").replace(".", "", 1).lstrip("-+").isdigit()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
