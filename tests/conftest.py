"""Shared by all tests: annotations of the tensor rooms are checked at run time, and tiny backbones are at hand."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jaxtyping
import pytest

if TYPE_CHECKING:
    from ptune.backbone import Backbone

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


@pytest.fixture(scope="module")
def smollm2() -> "Backbone":
    """The catalogue's small causal model with its real weights, pulled where it is not here."""
    from ptune.backbone import entry, load_backbone, local_folder
    from ptune.backbone.fetch import pull
    from ptune.errors import BackboneError

    if local_folder(entry("smollm2-135m-q4")) is None:
        try:
            pull("smollm2-135m-q4", say=print)
        except BackboneError as error:
            pytest.skip(f"SmolLM2 cannot be pulled here: {error}")
    return load_backbone("smollm2-135m-q4")
