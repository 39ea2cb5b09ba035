"""Bundles and requests for the load of a server: tasks of several kinds, untrained (speed does not depend on what was learned).

In: a loaded backbone, a folder. Out: a bundle for each task, and texts by number. Learned tokens differ in number from task to
task, label words in number and tokens; every second task of a kind is deep (learned keys and values) where the kind says so.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ptune
from ptune.model import KINDS
from ptune.task import Task

__all__ = ["MIX", "build_task", "build_tasks", "texts"]

MIX = {"classification": 60, "deep": 20, "tagging": 10, "generation": 10}
"""Tasks of each kind among a hundred."""

_WORDS = [
    {"a": "good", "b": "bad"},
    {"world": "World", "sports": "Sports", "business": "Business", "science": "Science"},
    {"a": "yes", "b": "no", "c": "maybe"},
    {"praise": "very good", "complaint": "very bad", "question": "a question"},
]
_WHO = [
    "The hinge",
    "My neighbour",
    "This small shop",
    "The new timetable",
    "A second parcel",
    "Our usual driver",
    "The old lamp",
]
_DID = ["broke", "came early", "was late again", "looked better than before", "cost more than we had planned", "made us laugh"]
_WHEN = [
    "in the first week",
    "on a rainy Tuesday",
    "without a word of warning",
    "after the long holidays",
    "while we were away",
]
_THEN = [
    "so I wrote to them",
    "and nobody answered",
    "which pleased all of us",
    "but it was mended at once",
    "and I would do it again",
]


def texts(num: int, seed: int) -> list[str]:
    """Made-up messages of one to four clauses; the same seed gives the same ones."""
    chance = random.Random(seed)
    made = []
    for _ in range(num):
        clauses = [" ".join(map(chance.choice, (_WHO, _DID, _WHEN, _THEN))) for _ in range(chance.randint(1, 4))]
        made.append(". ".join(clauses) + ".")
    return made


def build_tasks(folder: Path, backbone: ptune.Backbone, mix: dict[str, int]) -> dict[str, list[str]]:
    """Writes the bundles of a mix.

    Args:
        folder: of the server.
        backbone: that they are for.
        mix: number of tasks of each kind.

    Returns:
        Names by kind; kinds that this ptune does not have are left out.
    """
    names: dict[str, list[str]] = {}
    for kind, num in mix.items():
        if kind in ("tagging", "generation") and kind not in KINDS:
            continue
        for number in range(num):
            name = f"{kind}-{number:03d}"
            build_task(kind, backbone, number).save(folder / name)
            names.setdefault(kind, []).append(name)
    return names


def build_task(kind: str, backbone: ptune.Backbone, number: int) -> Task:
    """One task; its number decides its sizes and draws its prompt."""
    soft = 5 + number * 7 % 26
    settings: dict[str, Any] = {"backbone": backbone, "seed": number}
    if kind == "classification":
        template = f"{{soft:{soft}}}Message: {{text}}\nIt says:{{mask}}"
        model: Any = ptune.PromptModel.build(template=template, labels=_WORDS[number % 4], method="p-tuning", **settings)
    elif kind == "deep":
        method = {"name": ("prefix-tuning", "p-tuning-v2")[number % 2], "num_tokens": soft}
        template = "Message: {text}\nIt says:{mask}"
        model = ptune.PromptModel.build(template=template, labels=_WORDS[number % 4], method=method, **settings)
    elif kind == "tagging":
        model = KINDS["tagging"].build(
            template=f"{{soft:{soft}}}{{tokens}}", labels=["PER", "LOC", "ORG"], method="p-tuning", **settings
        )
    else:
        template = f"{{soft:{soft}}}Message: {{text}}\nAnswer:{{mask}}"
        model = KINDS["generation"].build(template=template, method="p-tuning", max_new_tokens=16, **settings)
    if kind == "deep":
        with torch.no_grad():  # keys and values of a size that changes answers
            for parameter in model.prompt.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.02)
    return Task(model.requires_grad_(False))


def row_of(kind: str, text: str) -> str | dict[str, Sequence[str]]:
    """A text as the kind's tasks read it."""
    return {"tokens": text.replace(".", " .").split()} if kind == "tagging" else text
