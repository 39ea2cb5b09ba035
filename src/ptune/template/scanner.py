"""Reads a template's characters: where a brace closes, which words and strings stand inside it, where a mistake is.

Both forms of the template language (`ptune.template.parser`, `ptune.template.openprompt`) are read with these pieces.
Nothing here evaluates anything. Positions count characters of the whole template from 0; columns that a user sees
count from 1.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from ptune.errors import TemplateError

__all__ = ["Token", "caret", "closing_brace", "error_at", "quoted", "tokens", "whole_number"]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_WORD = re.compile(r"""[^\s:=,"'{}]+""")
_NUMBER = re.compile(r"[0-9]{1,9}")
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n"}


@dataclass(frozen=True)
class Token:
    """A word, a string (quotes taken off, escapes resolved) or one of the signs `:` `=` `,` inside braces."""

    kind: Literal["word", "string", "sign"]
    text: str
    start: int


def caret(source: str, column: int) -> str:
    """Draws the line of `source` that holds a place, with a caret under the place.

    Args:
        source: the whole template, of one or several lines.
        column: the place, counted in characters of the whole template from 1.

    Returns:
        Two lines; characters of double width (Chinese) are allowed for.
    """
    position = column - 1
    start = source.rfind("\n", 0, position) + 1
    end = source.find("\n", position)
    line = source[start : end if end >= 0 else len(source)]
    return f"{line}\n{''.join(map(_blank, source[start:position]))}^"


def _blank(char: str) -> str:
    """The white space that takes up as much room as `char` does on a terminal."""
    if char == "\t":
        return "\t"
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return ""
    return "  " if unicodedata.east_asian_width(char) in {"W", "F"} else " "


def error_at(source: str, position: int, what: str, fix: str = "") -> TemplateError:
    """Makes the error for a mistake at `position`: one line that names the column, and the picture as a note."""
    line = source.count("\n", 0, position) + 1
    column = position - source.rfind("\n", 0, position)
    place = f"line {line}, column {column}" if "\n" in source.rstrip("\n") else f"column {column}"
    one_line = what.replace("\n", "\\n")
    error = TemplateError(f"{one_line} at {place}", where="template", fix=fix)
    error.add_note(caret(source, position + 1))
    return error


def closing_brace(source: str, opening: int) -> int:
    """Finds the `}` that closes the `{` at `opening`; braces inside strings do not count.

    Raises:
        TemplateError: another `{` or the end of the template comes first, or a string is not closed.
    """
    literal = "close it with }, or write {{ for a brace that is meant as text"
    position = opening + 1
    while position < len(source):
        char = source[position]
        if char == "}":
            return position
        if char == "{":
            raise error_at(source, position, "a brace inside braces", literal)
        if char in "\"'":
            string = _STRING.match(source, position)
            if string is None:
                raise error_at(source, position, f"a quote {char} that is never closed", f"close it with {char}")
            position = string.end()
        else:
            position += 1
    raise error_at(source, opening, "a brace that is never closed", literal)


def tokens(source: str, start: int, end: int) -> tuple[Token, ...]:
    """Splits what stands between two braces into words, strings and signs."""
    found: list[Token] = []
    position = start
    while position < end:
        char = source[position]
        if string := _STRING.match(source, position):
            found.append(Token("string", _unquoted(source, position, string.end()), position))
            position = string.end()
        elif word := _WORD.match(source, position):
            found.append(Token("word", word.group(), position))
            position = word.end()
        else:
            if not char.isspace():
                found.append(Token("sign", char, position))
            position += 1
    return tuple(found)


def _unquoted(source: str, start: int, end: int) -> str:
    """The text of the string that stands, with its quotes, from `start` to `end`."""
    text: list[str] = []
    position = start + 1
    while position < end - 1:
        if source[position] == "\\":
            position += 1
            if source[position] not in _ESCAPES:
                fix = r"""write \\ for a backslash; \" and \' and \n are the other escapes"""
                raise error_at(source, position - 1, f"the unknown escape \\{source[position]}", fix)
            text.append(_ESCAPES[source[position]])
        else:
            text.append(source[position])
        position += 1
    return "".join(text)


def whole_number(token: Token) -> int | None:
    """Returns the number that a word spells in ASCII digits, or None."""
    return int(token.text) if token.kind == "word" and _NUMBER.fullmatch(token.text) else None


def quoted(text: str) -> str:
    """Writes `text` as a string of the template language, in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
