"""`prompt_card.json`: what a folder of another format cannot hold of a ptune task, beside that format's own files.

In: a bundle's card and how its learned rows lie in the other format. Out: a JSON file that `ptune import` reads, so that a
task comes back with its template, label words and figures. PEFT never looks at it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptune.data import listed
from ptune.errors import BundleError

__all__ = ["PROMPT_CARD", "PromptCard", "check_folder", "read_prompt_card"]

PROMPT_CARD = "prompt_card.json"
_FORMAT = 1


@dataclass(frozen=True)
class PromptCard:
    """The rest of a task.

    Args:
        card: the bundle's `bundle.json`.
        learned: which learned row each virtual token is, -1 for a word or special token; empty for keys and values.
    """

    card: Mapping[str, Any]
    learned: tuple[int, ...] = ()

    def write(self, folder: Path) -> None:
        """Writes the file."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False, indent=2)
        (folder / PROMPT_CARD).write_text(text + "\n", encoding="utf-8")


def read_prompt_card(folder: Path) -> PromptCard | None:
    """The card beside an adapter, or None where there is none.

    Raises:
        BundleError: it is broken, or of a newer format.
    """
    file = folder / PROMPT_CARD
    if not file.is_file():
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["format"] != _FORMAT:
            raise BundleError(
                f"{PROMPT_CARD} has format {kept['format']}, this ptune reads {_FORMAT}", where=str(file), fix="update ptune"
            )
        return PromptCard(kept["card"], tuple(kept["learned"]))
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        what = f"{PROMPT_CARD} cannot be read: {error}"
        raise BundleError(what, where=str(file), fix="delete it, and give --template and --labels") from None


def check_folder(folder: Path, own: tuple[str, ...]) -> None:
    """Refuses a place that holds anything else than files of an earlier export.

    Raises:
        BundleError: a file of that name, or foreign files.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError("there is a file of that name", where=str(folder), fix="choose another folder")
    others = sorted(path.name for path in folder.iterdir() if path.name not in own) if folder.exists() else []
    if others:
        raise BundleError(f"the folder holds {listed(others)} already", where=str(folder), fix="choose another folder")
