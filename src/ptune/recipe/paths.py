"""Paths in a recipe: relative to its file, with environment variables, and written whole where a run keeps it."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ptune.errors import RecipeError

__all__ = ["beside", "whole", "with_paths"]

_PATHS = ("train", "validation", "test", "backbone", "method.init_bundle", "calibration.texts")
"""Keys of a recipe that name files or folders."""
_FILES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".conll", ".bio", ".iob", ".txt", ".gguf")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def with_paths(values: Mapping[str, Any], change: Callable[[Any, str], Any]) -> dict[str, Any]:
    """A recipe's keys with every path changed.

    Args:
        values: the keys.
        change: (value, key) -> value; the key is there for messages.
    """
    out = dict(values)
    for key in _PATHS:
        outer, _, inner = key.partition(".")
        if not inner and outer in out:
            out[outer] = change(out[outer], key)
        elif isinstance(out.get(outer), Mapping) and inner in out[outer]:
            out[outer] = {**out[outer], inner: change(out[outer][inner], key)}
    return out


def beside(value: Any, folder: Path, key: str) -> Any:
    """A path as seen from the recipe's folder, where something is there; anything else as it is.

    Args:
        value: of the recipe; `$NAME` and `${NAME}` stand for environment variables.
        folder: of the recipe's file.
        key: whose value it is, for messages.

    Raises:
        RecipeError: a variable that is not set.
    """
    if not isinstance(value, str):
        return value
    path = Path(_VARIABLE.sub(lambda match: _variable(match[1] or match[2], key), value)).expanduser()
    if path.is_absolute():
        return str(path)
    looks_like_file = path.suffix.lower() in _FILES
    return str(folder / path) if (folder / path).exists() or looks_like_file else str(path) if "$" in value else value


def whole(value: Any) -> Any:
    """A path that exists as it is seen from anywhere; anything else as it is."""
    if not isinstance(value, str) or not Path(value).expanduser().exists():
        return value
    return str(Path(value).expanduser().resolve())


def _variable(name: str, key: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise RecipeError(
            f"the environment variable {name} is not set", where=key, fix=f"set it, as in {name}=../data ptune ..."
        )
    return value
