"""A recipe with a section of a strategy's own: `pet:` beside the usual keys, read and checked together.

In: a YAML file. Out: the recipe without the section, and the section as the strategy's settings. A data file that the section
names is seen from the recipe's folder, as all others are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ptune.data import did_you_mean, label_text
from ptune.errors import RecipeError
from ptune.recipe import Recipe, read_values

__all__ = ["read_section", "section_of"]

S = TypeVar("S", bound=BaseModel)
SECTIONS = ("pet", "icl", "cot", "search", "refine", "search_template")
"""All there are: one recipe may hold several, and each strategy reads its own."""
_FILES = ("unlabelled", "words")
"""Keys of sections that may name a file."""
_SEEK_WORDS = ("search", "refine")
"""Sections of strategies that look for label words, so that labels may be names alone."""


def read_section(
    path: str | Path, name: str, settings: type[S], overrides: Mapping[str, Any] | None = None
) -> tuple[Recipe, S]:
    """The recipe of a file and its section `name`; a file without the section takes the strategy's defaults.

    Where label words are looked for, labels that are names alone stand for themselves.

    Raises:
        RecipeError: see `read_recipe`; or a key or value of the section that cannot be.
    """
    values = read_values(path, overrides)
    section = values.pop(name, None) or {}
    for other in SECTIONS:
        values.pop(other, None)
    if not isinstance(section, dict):
        raise RecipeError(f"{name} is no mapping of keys to values", where=str(path), fix="see docs/strategies.md")
    for key in _FILES:
        if isinstance(section.get(key), str):
            beside = Path(path).parent / section[key]
            section[key] = str(beside) if beside.exists() else section[key]
    if name in _SEEK_WORDS and isinstance(values.get("labels"), list):
        names = [label_text(label) for label in values["labels"]]
        values["labels"] = {label: [label] for label in names} if len(set(names)) == len(names) else names
    return Recipe.of(values, where=str(path)), section_of(section, name, settings, where=str(path))


def section_of(values: Mapping[str, Any], name: str, settings: type[S], *, where: str) -> S:
    """A strategy's settings from their words.

    Raises:
        RecipeError: an unknown key, or a value that does not fit.
    """
    for key in values:
        if key not in settings.model_fields:
            fix = did_you_mean(str(key), settings.model_fields, f"{name} takes {', '.join(settings.model_fields)}")
            raise RecipeError(f"there is no key '{name}.{key}'", where=where, fix=fix)
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *map(str, first["loc"])])
        if first["type"] == "missing":
            raise RecipeError(
                f"the key {place!r} is missing", where=where, fix="see docs/strategies.md for an example"
            ) from None
        raise RecipeError(
            f"{place}: {first['msg'].removeprefix('Value error, ')}", where=where, fix="see docs/strategies.md"
        ) from None
