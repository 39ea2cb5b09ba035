"""A run on disk: its events as JSON lines and its latest state, so that it can be watched, resumed and looked up.

Layout: `recipe.yaml`, `events.jsonl`, `state.pt` (parameters and optimiser, written whole and swapped in), `summary.json`,
`bundle/`. A state is read with torch's `weights_only` loader, which runs no code.
"""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptune.errors import TrainError

__all__ = ["RunFolder"]


class RunFolder:
    """One run's folder.

    Args:
        path: created when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events_path = path / "events.jsonl"
        self.state_path = path / "state.pt"
        self.summary_path = path / "summary.json"
        self.recipe_path = path / "recipe.yaml"
        self.bundle_path = path / "bundle"

    def append(self, event: Mapping[str, Any]) -> None:
        """Writes one event and hands it to the operating system at once."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.events_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")

    def events(self) -> Iterator[dict[str, Any]]:
        """All whole events; a line cut off by a kill is left out."""
        if not self.events_path.exists():
            return
        for line in self.events_path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return

    def rewind(self, step: int) -> None:
        """Drops events later than a saved step, so that the resumed run's trace has no step twice."""
        if not self.events_path.exists():
            return
        kept = [event for event in self.events() if event.get("step", 0) <= step and event.get("event") != "end"]
        replace(self.events_path, "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in kept).encode())

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replaces the state file whole: a kill leaves the old one or the new one."""
        import torch

        self.path.mkdir(parents=True, exist_ok=True)
        fresh = self.state_path.with_suffix(".new")
        torch.save(dict(state), fresh)
        fresh.replace(self.state_path)

    def load_state(self) -> dict[str, Any] | None:
        """The latest state, or None.

        Raises:
            TrainError: the file cannot be read.
        """
        if not self.state_path.exists():
            return None
        import torch

        broken = (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError)
        try:
            state: dict[str, Any] = torch.load(self.state_path, weights_only=True, map_location="cpu")
        except broken as error:
            raise TrainError(
                f"the saved state cannot be read: {error}", where=str(self.state_path), fix="start the run anew"
            ) from error
        return state

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        replace(self.path / name, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def replace(path: Path, content: bytes) -> None:
    """Writes a file beside and swaps it in."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)
