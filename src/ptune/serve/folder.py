"""What lies in the folder of bundles: names, whether they may be served, and whether they changed; nothing is opened here.

In: the folder. Out: `Place`s by name. A bundle is `DIR/NAME` or, as `ptune train` leaves it, `DIR/NAME/bundle`. Names are
checked before they become paths, and a path that a symbolic link leads out of the folder is refused. Hidden folders are passed
over: a bundle that is being written has such a name until it is whole.
"""

import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ptune.bundle import CARD

__all__ = ["Place", "Signature", "look", "name_problem"]

Signature = tuple[tuple[str, int, int, int, int], ...]

_NAME = re.compile(r"\w[\w.-]{0,63}")
_INNER = "bundle"


@dataclass(frozen=True)
class Place:
    """Where a task's bundle should be.

    Args:
        path: the bundle's folder with no link left in it, or None where it may not be served.
        signature: name, device, inode, size and time of the folder and its files; another one means another content.
        problem: why it may not be served; empty where it may.
    """

    path: Path | None
    signature: Signature = ()
    problem: str = ""


def name_problem(name: str) -> str:
    """Why this is no task's name; empty where it is one."""
    if not _NAME.fullmatch(name):
        return "a task's name is 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
    if unicodedata.normalize("NFC", name) != name:
        return "a task's name is written with composed letters (Unicode NFC)"
    return ""


def look(folder: Path) -> dict[str, Place]:
    """All bundles in a folder, and what is there in the place of one.

    Args:
        folder: as the server was told.

    Returns:
        Places by name; folders without a bundle in them and hidden ones are left out.

    Raises:
        OSError: the folder itself cannot be read, so that nothing is known of what lies in it.
    """
    root = folder.resolve()
    names = sorted(entry.name for entry in os.scandir(root) if not entry.name.startswith("."))
    found = {name: _place(root, name) for name in names}
    return {name: place for name, place in found.items() if place is not None}


def _place(root: Path, name: str) -> Place | None:
    try:
        inner = _bundle_folder(root / name)
        if inner is None:
            return None
        problem = name_problem(name)
        if problem:
            return Place(None, problem=problem)
        resolved = inner.resolve(strict=True)
        if not resolved.is_relative_to(root):
            return Place(None, problem="a symbolic link leads out of the folder")
        signature = signature_of(resolved)
        if any(not (resolved / one[0]).resolve(strict=True).is_relative_to(root) for one in signature):
            return Place(None, problem="a symbolic link leads out of the folder")
        return Place(resolved, signature)
    except FileNotFoundError:  # half replaced, or a link to nothing
        return Place(None, problem="a symbolic link leads nowhere") if _is_link(root / name) else None
    except (OSError, RuntimeError) as error:  # no right to read, a loop of links
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it cannot be looked at"
        return Place(None, problem=reason.lower())


def _is_link(path: Path) -> bool:
    return any(place.is_symlink() for place in (path, path / _INNER, path / CARD, path / _INNER / CARD))


def _bundle_folder(path: Path) -> Path | None:
    if not path.is_dir():
        return None
    for place in (path, path / _INNER):
        if (place / CARD).is_symlink() or (place / CARD).exists():
            return place
    return None


def signature_of(path: Path) -> Signature:
    """Of a bundle's folder and its files."""
    own = path.stat()
    rows = [(".", own.st_dev, own.st_ino, 0, own.st_mtime_ns)]
    for entry in sorted(os.scandir(path), key=lambda one: one.name):
        facts = entry.stat()
        if stat.S_ISREG(facts.st_mode):
            rows.append((entry.name, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(rows)
