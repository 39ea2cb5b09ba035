"""The catalogue: small models that `ptune models pull` can fetch, and where the fetched ones live.

In: `catalogue.yaml` beside this file, one entry per model. Out: `ModelEntry` objects and folders of the cache.
A folder of the cache is whole or absent: it is filled in a hidden folder beside its place, then renamed in one step,
and its `ptune-model.json` lists what it must hold. Nothing here imports torch or transformers: listing is quick.
"""

import difflib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import yaml
from platformdirs import user_cache_path

from ptune.errors import BackboneError

__all__ = [
    "CARD",
    "ModelEntry",
    "Wheel",
    "cache_dir",
    "catalogue",
    "check_disk",
    "entry",
    "file_sha256",
    "is_whole",
    "local_folder",
    "model_folder",
    "whole_folder",
]

CARD = "ptune-model.json"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Wheel:
    """A pip package that carries (a part of) a model.

    Args:
        package: its name on the package index.
        version: the one version that was tried.
        sha256: of the wheel file.
        members: the files that are taken out of it, in order.
    """

    package: str
    version: str
    sha256: str
    members: tuple[str, ...]

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalogue.

    Args:
        name: what a recipe or the command line calls it.
        title: one line for people.
        kind: `encoder`, `decoder` or `encoder-decoder`.
        hub_id: the original model on the Hugging Face hub.
        licence: its name; `licence_url` is its text.
        note: what to know before using it.
        languages: ISO 639 codes, the best first; `mul` stands for many more.
        parameters: their number.
        memory_mb: of the weights in fp32.
        disk_mb: of the folder in the cache.
        download_mb: of all wheels.
        text_start: the token that plain text starts with; empty where the tokenizer's special tokens do that.
        masked_lm: whether it can fill masks (an encoder with a masked-LM head).
        wheels: where it comes from.
        gguf_sha256: of the GGUF file that the wheels' members make when joined; empty where they are a model folder.
    """

    name: str
    title: str
    kind: str
    hub_id: str
    licence: str
    licence_url: str
    note: str
    languages: tuple[str, ...]
    parameters: int
    memory_mb: int
    disk_mb: int
    download_mb: int
    text_start: str
    masked_lm: bool
    wheels: tuple[Wheel, ...]
    gguf_sha256: str = ""

    @property
    def sha256(self) -> str:
        """What identifies the content: the GGUF file's hash, else the wheel's."""
        return self.gguf_sha256 or self.wheels[0].sha256


@cache
def catalogue() -> Mapping[str, ModelEntry]:
    """All models that can be pulled, by name."""
    entries = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8"))
    return MappingProxyType({name: _read(name, fields) for name, fields in entries.items()})


def entry(name: str) -> ModelEntry:
    """The model of that name.

    Raises:
        BackboneError: the catalogue has no such model.
    """
    if name in catalogue():
        return catalogue()[name]
    near = difflib.get_close_matches(name, catalogue(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise BackboneError(f"no model {name!r} in the catalogue", fix=f"{hint}`ptune models list` shows all")


def cache_dir() -> Path:
    """Where models are kept: `PTUNE_CACHE` where it is set, else the user's cache folder."""
    chosen = os.environ.get("PTUNE_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("ptune", appauthor=False)


def model_folder(model: ModelEntry) -> Path:
    """Where the model goes when it is pulled."""
    return cache_dir() / "models" / model.name


def local_folder(model: ModelEntry) -> Path | None:
    """The folder of a model that has been pulled, or None where it is absent, damaged or of another version."""
    folder = model_folder(model)
    return folder if is_whole(folder, model.sha256) else None


def is_whole(folder: Path, sha256: str) -> bool:
    """Whether the folder was made from that content and every file on its card is there in full length."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["sha256"] != sha256:
            return False
        return all((folder / file).stat().st_size == size for file, size in card["files"].items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


@contextmanager
def whole_folder(folder: Path, *, sha256: str, **facts: object) -> Iterator[Path]:
    """Lets the caller fill a folder that then appears in one step, or not at all.

    Several processes may do so at once: the first one wins, the others throw their copy away.

    Args:
        folder: its final place in the cache.
        sha256: of the content that it is made from, for its card.
        facts: what else the card should say.

    Yields:
        An empty folder to fill. Its parent is scratch space on the same disk that is removed afterwards.

    Raises:
        BackboneError: the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        scratch = TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BackboneError(
            f"the cache cannot be written: {reason}",
            where=str(folder.parent),
            fix="set PTUNE_CACHE to a folder of yours",
        ) from error
    with scratch as name:
        fresh = Path(name, "model")
        fresh.mkdir()
        yield fresh
        _write_card(fresh, {"sha256": sha256, **facts})
        _put(fresh, folder, sha256)


def check_disk(folder: Path, need_mb: int, what: str) -> None:
    """Refuses to begin what would fill the disk.

    Args:
        folder: where it would go; it need not exist yet.
        need_mb: how much it takes.
        what: the subject of the message.

    Raises:
        BackboneError: less than that is free.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free_mb = shutil.disk_usage(there).free // 10**6
    if free_mb < need_mb:
        raise BackboneError(
            f"{what} needs {need_mb} MB of disk, {free_mb} MB are free",
            where=str(there),
            fix="make room, or set PTUNE_CACHE to a folder on another disk",
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(name: str, fields: dict[str, Any]) -> ModelEntry:
    wheels = tuple(Wheel(**{**wheel, "members": tuple(wheel["members"])}) for wheel in fields["wheels"])
    return ModelEntry(name=name, **{**fields, "languages": tuple(fields["languages"]), "wheels": wheels})


def _write_card(folder: Path, facts: Mapping[str, object]) -> None:
    versions = {package: metadata.version(package) for package in ("ptune", "torch", "transformers", "gguf")}
    files = {file.relative_to(folder).as_posix(): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    card = json.dumps({**facts, "versions": versions, "files": files}, indent=2, ensure_ascii=False)
    (folder / CARD).write_text(card + "\n", encoding="utf-8")


def _put(fresh: Path, folder: Path, sha256: str) -> None:
    """Renames `fresh` to `folder`; what is there already stays if it is whole and goes if it is not."""
    if not is_whole(folder, sha256):
        with suppress(FileNotFoundError):
            folder.replace(fresh.with_name("old"))
    try:
        fresh.replace(folder)
    except OSError:
        if not is_whole(folder, sha256):  # else another process was first, with the same content
            raise


def _sweep(parent: Path) -> None:
    """Removes scratch folders that a killed process left behind more than a day ago."""
    for left in parent.glob(".*-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left)
