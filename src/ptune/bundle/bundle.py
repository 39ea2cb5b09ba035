"""A trained task on disk: JSON and safetensors, a few kilobytes, nothing executable.

`bundle.json` says what the task is (its kind, template, label words, method, which backbone with its content fingerprint, data
fingerprint, figures, versions); `prompt.safetensors` holds the learned rows, a head if there is one, and the prior. The
backbone's own weights are only there when the run trained them (`tune: lm` or `lm-head`). `README.md` tells people the same.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptune.bundle.hub import fetch_bundle, hub_name
from ptune.bundle.model_card import MODEL_CARD, model_card
from ptune.data import listed
from ptune.errors import BundleError

__all__ = ["CARD", "FORMAT", "Bundle", "read_bundle"]

FORMAT = 1
CARD = "bundle.json"
_PROMPT = "prompt.safetensors"
_TUNED = "tuned.safetensors"
_REQUIRED = ("format", "task", "backbone", "versions")
_REQUIRED_IN = {
    "task": ("template", "method", "max_length", "tune"),
    "backbone": ("name", "kind", "fingerprint", "text_start"),
}
CLASSIFICATION = "classification"
"""The kind of a task whose card names none: bundles that were written before there were others."""
_OF_CLASSIFICATION = ("labels", "verbalizer", "pool", "fill")


@dataclass(frozen=True)
class Bundle:
    """A task as data.

    Args:
        card: what `bundle.json` holds.
        tensors: the prompt's (`rows`, `deep.*`, `gate.*`), and the kind's (`prior`, `head.*`, ...).
        tuned: weights of the language model that the run changed; usually empty.
    """

    card: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    tuned: Mapping[str, Tensor] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the bundle whole: a folder of that name is only replaced once the new one is complete.

        Raises:
            BundleError: the place is taken by a file, or by a folder that holds anything else than a bundle.
        """
        folder = folder.expanduser().resolve()
        _check_place(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            (fresh / CARD).write_text(json.dumps(self.card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            (fresh / MODEL_CARD).write_text(model_card(self.card), encoding="utf-8")
            save_file(_ready(self.tensors), fresh / _PROMPT, metadata={"format": "pt"})
            if self.tuned:
                save_file(_ready(self.tuned), fresh / _TUNED, metadata={"format": "pt"})
            _open_to_readers(fresh)
            if folder.exists():
                shutil.rmtree(folder)
            fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @property
    def num_bytes(self) -> int:
        """Size of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.tensors.values(), *self.tuned.values()))


def read_bundle(folder: str | Path) -> Bundle:
    """Reads a bundle; nothing in it is executed.

    Args:
        folder: where it is; or a repository of a hub, `hub:owner/name` or `owner/name` where there is no folder `owner`.

    Raises:
        BundleError: no bundle there, an unreadable or incomplete one, or one of a newer format.
    """
    name = hub_name(folder)
    path = Path(folder) if name is None else fetch_bundle(name)
    card_path = path / CARD
    if not card_path.is_file():
        inner = path / "bundle"
        hint = f"did you mean {inner}?" if (inner / CARD).is_file() else "name the folder that ptune train or task.save wrote"
        raise BundleError(f"there is no bundle in {path}", where=str(path), fix=hint)
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"bundle.json cannot be read: {error}", where=str(card_path)) from None
    missing = [key for key in _REQUIRED if not isinstance(card, dict) or key not in card]
    if missing:
        raise BundleError(f"bundle.json lacks {', '.join(missing)}", where=str(card_path), fix="save the task again")
    if card["format"] != FORMAT:
        raise BundleError(
            f"the bundle has format {card['format']}, this ptune reads {FORMAT}", where=str(card_path), fix="update ptune"
        )
    missing = [f"{part}.{key}" for part, keys in _REQUIRED_IN.items() for key in keys if key not in card[part]]
    is_classification = card["task"].get("kind", CLASSIFICATION) == CLASSIFICATION
    missing += [f"task.{key}" for key in _OF_CLASSIFICATION if is_classification and key not in card["task"]]
    if missing:
        raise BundleError(f"bundle.json lacks {', '.join(missing)}", where=str(card_path), fix="save the task again")
    try:
        tensors = load_file(path / _PROMPT)
        tuned = load_file(path / _TUNED) if (path / _TUNED).is_file() else {}
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"the tensors cannot be read: {error}", where=str(path / _PROMPT), fix="save the task again"
        ) from None
    if is_classification and "prior" not in tensors:
        raise BundleError("the tensors lack the prior", where=str(path / _PROMPT), fix="save the task again")
    return Bundle(card, tensors, tuned)


def _check_place(folder: Path) -> None:
    """Refuses a place whose content would be lost: a bundle's folder is replaced as a whole."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError("there is a file of that name", where=str(folder), fix="choose another folder")
    names = sorted(path.name for path in folder.iterdir())
    if names and CARD not in names:
        raise BundleError("the folder is not empty and holds no bundle", where=str(folder), fix="choose another folder")
    others = [name for name in names if name not in (CARD, MODEL_CARD, _PROMPT, _TUNED)]
    if others:
        what = f"beside a bundle the folder holds {listed(others)}, which would be lost"
        raise BundleError(what, where=str(folder), fix="choose another folder, or move them away")


def _open_to_readers(folder: Path) -> None:
    """Lets everyone read the tensors and enter the folder who may read the card: both are made for their owner alone."""
    mode = (folder / CARD).stat().st_mode & 0o777  # as the umask wants files
    for path in folder.iterdir():
        path.chmod(mode)
    folder.chmod(mode | (mode & 0o444) >> 2)


def _ready(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
