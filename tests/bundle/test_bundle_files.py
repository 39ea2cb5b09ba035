"""A bundle's files on disk: who may read them is what the umask says, whatever wrote them."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ptune
from ptune.task import Task
from tiny import tiny_backbone


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(
    ("mask", "of_files", "of_folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_whoever_may_read_the_card_may_read_the_tensors(tmp_path: Path, mask: int, of_files: int, of_folder: int) -> None:
    words = {"yes": "great", "no": "bad"}
    model = ptune.PromptModel.build(
        backbone=tiny_backbone("llama"), template="{soft:3} {text} It was{mask}", labels=words, method="p-tuning"
    )
    with umask(mask):
        place = Task(model.requires_grad_(False)).save(tmp_path / "one")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}
    assert modes == dict.fromkeys(("README.md", "bundle.json", "prompt.safetensors"), of_files)
    assert stat.S_IMODE(place.stat().st_mode) == of_folder
