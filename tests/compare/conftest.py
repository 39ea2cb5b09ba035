"""Rows, and what all contenders are given, on tiny backbones."""

from collections.abc import Callable
from typing import Any

import pytest

from ptune.compare.contender import Setup
from ptune.data import Example
from summaries import make_rows
from tiny import example, tiny_backbone

TEXTS = {
    "yes": ["The film was great", "a good story", "It was good", "What a good day", "the service is great", "a great cast"],
    "no": ["the plot was bad", "It was bad", "What a bad day", "the end was bad", "a bad film", "bad food and bad service"],
}


@pytest.fixture
def examples() -> tuple[Example, ...]:
    """Twelve labelled rows."""
    return tuple(example(text, label) for label, texts in TEXTS.items() for text in texts)


@pytest.fixture
def words() -> dict[str, Any]:
    """The words of a recipe that takes a second on every method."""
    return {
        "train": make_rows(60),
        "test": make_rows(20, seed=1),
        "template": "{text}{soft:3} It was{mask}",
        "labels": {"yes": ["great"], "no": ["bad"]},
        "steps": 8,
        "batch_size": 4,
    }


@pytest.fixture
def setup_on() -> Callable[..., Setup]:
    """Kind of backbone (or none) -> what contenders are given."""

    def make(kind: str | None = None, **changes: object) -> Setup:
        recipe = {"template": "{text}{soft:3} It was{mask}", "labels": {"yes": ["great"], "no": ["bad"]}}
        backbone = None if kind is None else tiny_backbone(kind)
        return Setup(("yes", "no"), "en", recipe, backbone, steps=lambda num_rows: 12, batch_size=4, **changes)

    return make
