"""What a comparison has computed, on disk: one file for each fit and for its predictions, under a key of their content.

A fit's key is a hash of everything that decides it: the contender and its settings, the recipe keys and files it reads, the
model's fingerprint, training and validation rows, the seed, ptune's version. Predictions are kept text by text, so that a test
text that changed is the only one that is asked again. Small tasks are kept as bundles, from which further texts are answered
without learning anew. Files are written beside and swapped in: a killed run leaves whole files or none.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ptune.errors import TrainError
from ptune.train import replace

__all__ = ["Fit", "Store", "files_of", "key_of"]

_NAMED_FILES = (("method", "init_bundle"), ("calibration", "texts"))
"""Keys of a recipe that name what a method reads beside its rows and its model."""


def key_of(facts: Mapping[str, Any]) -> str:
    """A hash of plain values."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def files_of(words: Mapping[str, Any]) -> list[str]:
    """Hashes of the contents of files and folders that a recipe's words name: a bundle to start from, texts to calibrate by."""
    values = [(words.get(key), inner) for key, inner in _NAMED_FILES]
    named = [value.get(inner) if isinstance(value, Mapping) else getattr(value, inner, None) for value, inner in values]
    return [_content(Path(one).expanduser()) for one in named if isinstance(one, str | Path)]


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            digest.update(str(one.relative_to(path)).encode() + one.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Fit:
    """One contender with one setting on one seed's rows.

    Args:
        settings: which.
        accuracy, loss: on the validation rows.
        train_seconds: wall time of learning, looks at validation included; of one that failed, until then.
        memory_mb: by how much the process grew while learning, and the model's own weights.
        num_trained, num_bytes: parameters that learned; what a task stores.
        curve: looks at validation.
        facts: whatever the contender adds.
        failed: why there is nothing, else empty.
    """

    settings: dict[str, Any]
    accuracy: float = 0.0
    loss: float = 0.0
    train_seconds: float = 0.0
    memory_mb: int = 0
    num_trained: int = 0
    num_bytes: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""


class Store:
    """The folder of a comparison.

    Args:
        path: created when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fit(self, key: str) -> Fit | None:
        """A fit that was finished, or None."""
        content = self._read(self.path / "fits" / f"{key}.json")
        return None if content is None else Fit(**content)

    def put_fit(self, key: str, fit: Fit) -> None:
        """Keeps a fit."""
        self._write(self.path / "fits" / f"{key}.json", asdict(fit))

    def drop_fit(self, key: str) -> None:
        """Forgets one, so that it is tried again."""
        (self.path / "fits" / f"{key}.json").unlink(missing_ok=True)

    def bundle(self, key: str) -> Path:
        """Where a small task of this fit is kept."""
        return self.path / "bundles" / key

    def predictions(self, key: str) -> dict[str, list[float]]:
        """Text -> probabilities, as far as they are known."""
        content = self._read(self.path / "predictions" / f"{key}.json")
        return {} if content is None else content["texts"]

    def predict_seconds(self, key: str) -> float | None:
        """Seconds for a thousand texts, or None where none were asked."""
        content = self._read(self.path / "predictions" / f"{key}.json")
        return None if content is None else content["seconds_per_1000"]

    def put_predictions(self, key: str, texts: Mapping[str, Iterable[float]], seconds_per_1000: float | None) -> None:
        """Keeps predictions beside those that are there."""
        rounded = {text: [round(float(one), 8) for one in row] for text, row in texts.items()}
        content = {"seconds_per_1000": seconds_per_1000, "texts": {**self.predictions(key), **rounded}}
        self._write(self.path / "predictions" / f"{key}.json", content)

    def _read(self, path: Path) -> Any:
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainError(f"a kept result cannot be read: {error}", where=str(path), fix="delete the file") from None

    def _write(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(content, ensure_ascii=False).encode())
