"""Shared by the tests of the data room: write a file, catch an error's one line, find the real data sets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ptune.errors import DataError

SHARED_DATA = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file under a temporary folder, byte for byte."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def fails() -> Callable[..., str]:
    """Calls a function that must raise a DataError of one line, and returns the line."""

    def call(function: Callable[..., object], *args: object, **kwargs: object) -> str:
        with pytest.raises(DataError) as caught:
            function(*args, **kwargs)
        line = str(caught.value)
        assert "\n" not in line
        return line

    return call


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is not checked out."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {SHARED_DATA}")
    return SHARED_DATA
