"""Shared by all tests: annotations of the tensor rooms are checked at run time, and tiny backbones are at hand."""

import jaxtyping
import pytest

# Before the first import of these rooms: every call in a test checks its shapes and types.
jaxtyping.install_import_hook(
    ["ptune.inputs", "ptune.prompt", "ptune.readout", "ptune.backbone", "ptune.objective", "ptune.model"], "typechecker.checked"
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models are slower on several threads, and bytes must not depend on their number."""
    import torch

    torch.set_num_threads(1)
