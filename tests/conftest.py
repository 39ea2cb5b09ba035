"""Shared by all tests: annotations of the tensor rooms are checked at run time, and tiny backbones are at hand."""

from collections.abc import Callable

import jaxtyping
import pytest

# Before the first import of these rooms: every call in a test checks its shapes and types.
jaxtyping.install_import_hook(
    ["ptune.inputs", "ptune.prompt", "ptune.readout", "ptune.backbone", "ptune.objective", "ptune.decode", "ptune.model"],
    "typechecker.checked",
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models are slower on several threads, and bytes must not depend on their number."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Kind -> folder of that tiny random model, which is how a user would name a model of his own."""
    from tiny import tiny_model, tiny_tokenizer

    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> str:
        path = root / kind
        if not path.exists():
            tiny_model(kind).save_pretrained(path)
            tiny_tokenizer(kind).save_pretrained(path)
        return str(path)

    return folder
