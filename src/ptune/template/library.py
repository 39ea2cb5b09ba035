"""Templates to start from, with label words, in English and Chinese: data in `library/*.yaml`, read once.

An id says language, task and idea: `en/sentiment/it-was`. In a recipe, `library:en/sentiment/it-was` names one.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

from ptune.errors import TemplateError
from ptune.template.template import Template

__all__ = ["Entry", "resolve", "template", "templates"]

_PREFIX = "library:"


@dataclass(frozen=True)
class Entry:
    """One template of the library.

    Args:
        id: language, task and idea, such as `en/sentiment/it-was`.
        template: the template.
        task: what it is for, such as `sentiment`.
        language: `en` or `zh`.
        kinds: the kinds of backbone that it suits.
        labels: label to label words, the best first; empty where every data set names its labels differently.
        source: the paper whose pattern it follows, or `ptune`.
        note: when to take it.
    """

    id: str
    template: Template
    task: str
    language: str
    kinds: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]] = field(hash=False)
    source: str
    note: str


def templates(task: str | None = None, language: str | None = None) -> tuple[Entry, ...]:
    """Lists the library.

    Args:
        task: only templates for this task.
        language: only templates in this language, `en` or `zh`.

    Returns:
        The entries in the order of the files; none where nothing fits.
    """
    return tuple(entry for entry in _entries().values() if task in {None, entry.task} and language in {None, entry.language})


def template(id: str) -> Entry:
    """Returns the entry with this id.

    Raises:
        TemplateError: there is none; the message names the nearest.
    """
    entries = _entries()
    if id in entries:
        return entries[id]
    near = difflib.get_close_matches(id, entries, n=1, cutoff=0.3)
    fix = f'did you mean "{near[0]}"?' if near else f'take one such as "{next(iter(entries))}"'
    raise TemplateError(f'no template "{id}" in the library', where="template", fix=fix)


def resolve(source: str) -> Template:
    """Reads a template as a recipe gives it: `library:` and an id, or the template itself.

    Raises:
        TemplateError: an unknown id, or a mistake in the template.
    """
    if isinstance(source, str) and source.startswith(_PREFIX):
        return template(source.removeprefix(_PREFIX).strip()).template
    return Template.parse(source)


@cache
def _entries() -> Mapping[str, Entry]:
    entries: dict[str, Entry] = {}
    folder = files("ptune.template").joinpath("library")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            for row in yaml.safe_load(file.read_text(encoding="utf-8")):
                entry = _entry(row)
                if entry.id in entries:
                    raise ValueError(f"two library templates have the id {entry.id}")
                entries[entry.id] = entry
    return MappingProxyType(entries)


def _entry(row: dict[str, Any]) -> Entry:
    language, task, _ = row["id"].split("/")
    return Entry(
        id=row["id"],
        template=Template.parse(row["template"]),
        task=task,
        language=language,
        kinds=tuple(row["kinds"]),
        labels=MappingProxyType({label: tuple(words) for label, words in row["labels"].items()}),
        source=row["source"],
        note=row["note"],
    )
