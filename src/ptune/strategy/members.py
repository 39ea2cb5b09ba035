"""The models of a PET run that are trained already, so that a run that was stopped need not train them again.

In: what each model says of the unlabelled and the judged texts. Out: one file for each, by generation and number. The run's
identity (recipe, settings, rows) stands beside them, and a run goes on only where it is the same.
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptune.errors import TrainError
from ptune.train import RunFolder, replace

__all__ = ["Member", "MemberFiles"]

_IDENTITY = "pet.json"


@dataclass(frozen=True)
class Member:
    """One pattern's model.

    Args:
        pattern: its number.
        seed: of its training.
        before: accuracy on the labelled rows before training, which is its weight.
        accuracy: on the rows that the recipe judges on, or None.
        num_rows: rows that it learned from.
        scores: [U, C] of the unlabelled texts.
        judged: [N, C] of the judged rows, or None.
    """

    pattern: int
    seed: int
    before: float
    accuracy: float | None
    num_rows: int
    scores: Tensor
    judged: Tensor | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the scores left out."""
        kept = ("pattern", "seed", "before", "accuracy", "num_rows")
        return {key: value for key, value in asdict(self).items() if key in kept}


class MemberFiles:
    """Members of one run on disk.

    Args:
        out: folder of the run, None to keep nothing.
        identity: plain values that decide what the members are.
        resume: whether to go on with what is there.

    Raises:
        TrainError: a folder with something in it, nothing to go on with, or another run's.
    """

    def __init__(self, out: str | Path | None, identity: dict[str, Any], *, resume: bool) -> None:
        self._folder = None if out is None else RunFolder(Path(out))
        if self._folder is None:
            if resume:
                raise TrainError("resume needs the folder of the run", where="out", fix="give out=")
            return
        path, where = self._folder.path / _IDENTITY, str(self._folder.path)
        if not resume:
            if self._folder.path.exists() and any(self._folder.path.iterdir()):
                raise TrainError("the run folder is not empty", where=where, fix="name another folder with --out, or resume")
            return
        if not path.is_file():
            raise TrainError("there is no run to resume", where=where, fix="leave resume out")
        before = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in identity if before.get(key) != json.loads(json.dumps(identity[key]))]
        if differing:
            raise TrainError(f"the run was begun with other {differing[0]}", where=where, fix="name another folder")

    def begin(self, identity: dict[str, Any]) -> None:
        """Writes what the run is, once all input has been read."""
        if self._folder is not None:
            self._folder.write_json(_IDENTITY, identity)

    def find(self, name: str) -> Member | None:
        """A member that was trained before."""
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        values: dict[str, Any] = torch.load(path, weights_only=True)
        return Member(**values)

    def keep(self, name: str, member: Member) -> None:
        """Writes a member, whole."""
        path = self._path(name)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save({key: getattr(member, key) for key in Member.__dataclass_fields__}, content)
        replace(path, content.getvalue())

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder.path / "members" / f"{name}.pt"
