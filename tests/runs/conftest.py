"""A few rows and the keywords of a short run, for runs in this process and in others."""

from collections.abc import Callable
from pathlib import Path

import pytest

TEXTS = {
    "good": ["The film was great", "a good story", "It was good", "What a good day", "the service is great", "a great cast"],
    "bad": ["the plot was bad", "It was bad", "What a bad day", "the end was bad", "a bad film", "bad food and bad service"],
}


@pytest.fixture(scope="session")
def gpt2_folder(tiny_folder: Callable[[str], str]) -> Path:
    """A tiny GPT-2 as a model folder."""
    return Path(tiny_folder("gpt2"))


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """Twelve labelled rows."""
    return [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts]


@pytest.fixture
def words(gpt2_folder: Path, rows: list[dict[str, str]]) -> dict[str, object]:
    """The keywords of a fit that takes a second."""
    return {
        "train": rows,
        "template": "{text}{soft:3} It was{mask}",
        "labels": {"good": ["good"], "bad": ["bad"]},
        "backbone": str(gpt2_folder),
        "steps": 12,
        "batch_size": 4,
        "seed": 3,
    }
