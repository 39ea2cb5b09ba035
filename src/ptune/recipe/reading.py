"""Recipes from files and from the command line: YAML and `--set key=value`, paths as seen from the recipe's folder.

In: a file, overrides. Out: a `Recipe`, or its keys before they are checked; an error names file and line.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ptune.data import label_text
from ptune.errors import RecipeError
from ptune.recipe.paths import beside, with_paths
from ptune.recipe.recipe import Recipe

__all__ = ["parse_override", "parse_yaml", "read_recipe", "read_values"]


class _Loader(yaml.SafeLoader):
    """YAML in which `yes`, `no`, `on` and `off` are words, as labels often are, and no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different.

        Raises:
            yaml.YAMLError: one stands twice.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse_yaml(text: str) -> Any:
    """YAML as recipes are read: `yes`, `no`, `on` and `off` are words, and no key may stand twice.

    Raises:
        yaml.YAMLError: no YAML.
    """
    return yaml.load(text, _Loader)


def read_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a YAML recipe.

    Args:
        path: the file; paths in it are relative to its folder.
        overrides: values that replace the file's (`method.encoder` reaches into a mapping).

    Raises:
        RecipeError: no such file, no YAML, or see `Recipe.of`.
    """
    return Recipe.of(read_values(path, overrides), where=str(path))


def read_values(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The keys of a YAML recipe with overrides and whole paths, not yet checked.

    Raises:
        RecipeError: no such file, or no YAML.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError("there is no such recipe", where=str(file), fix="write one with `ptune init DATA`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe cannot be read: {error}", where=str(file), fix="save it as UTF-8 text") from None
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise _yaml_error(error, text, file) from None
    if not isinstance(values, dict):
        raise RecipeError("the recipe is empty or no mapping of keys to values", where=str(file), fix="see `ptune init DATA`")
    values = with_paths(values, lambda value, key: beside(value, file.parent, key))
    for key, value in (overrides or {}).items():
        _put(values, key, value)
    return values


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` from the command line; the value is YAML, but a template stays text.

    Raises:
        RecipeError: no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"{text!r} is not key=value", where="--set", fix="write --set seed=2")
    key = key.strip()
    if key in ("template", "terminator"):
        return key, value
    try:
        return key, parse_yaml(value)
    except yaml.YAMLError:
        return key, value


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a key, or a key inside a mapping: `method.encoder` turns `method: p-tuning` into a mapping first."""
    head, dot, rest = key.partition(".")
    if not dot:
        values[key] = value
        return
    inner = values.get(head)
    if head == "method" and not isinstance(inner, Mapping):
        inner = {"name": inner or Recipe.model_fields["method"].default}
    if not isinstance(inner, Mapping | None):
        raise RecipeError(f"{head} is {inner!r}, so no {key} can be set in it", where="--set", fix=f"write --set {head}=...")
    same = next((name for name in inner or () if label_text(name) == rest), rest)
    values[head] = {**(inner or {}), same: value}


def _yaml_error(error: yaml.YAMLError, text: str, file: Path) -> RecipeError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    number = mark.line if mark is not None else 0
    lines = text.splitlines()
    for at in range(min(number, len(lines) - 1), max(-1, number - 3), -1):
        key, _, value = lines[at].partition(":")
        if value.strip().startswith("{") and key.strip() in ("template", "text"):
            return RecipeError(
                "the template is not quoted, so YAML reads {...} as a mapping",
                where=f"{file}:{at + 1}",
                fix=f"write {key.strip()}: '{value.strip()}'",
            )
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return RecipeError(f"this is no YAML: {problem}", where=f"{file}:{number + 1}", fix="check quotes, colons and indentation")
