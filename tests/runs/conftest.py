"""A tiny model on disk and a few rows, for runs in this process and in others."""

from pathlib import Path

import pytest

from tiny import tiny_model, tiny_tokenizer

TEXTS = {
    "good": ["The film was great", "a good story", "It was good", "What a good day", "the service is great", "a great cast"],
    "bad": ["the plot was bad", "It was bad", "What a bad day", "the end was bad", "a bad film", "bad food and bad service"],
}


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 as a model folder."""
    folder = tmp_path_factory.mktemp("gpt2")
    tiny_model("gpt2").save_pretrained(folder)
    tiny_tokenizer("gpt2").save_pretrained(folder)
    return folder


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
