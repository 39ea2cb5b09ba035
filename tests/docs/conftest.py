"""A tiny random model as a folder, and the repository's pages."""

from collections.abc import Callable

import pytest

from tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Kind -> folder of that tiny model."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> str:
        path = root / kind
        if not path.exists():
            tiny_model(kind).save_pretrained(path)
            tiny_tokenizer(kind).save_pretrained(path)
        return str(path)

    return folder
