"""The training loop, its settings, and a run on disk. The loop, which needs torch, is looked up when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ptune.train.progress import progress
from ptune.train.run_folder import RunFolder, replace
from ptune.train.settings import TrainSettings

if TYPE_CHECKING:
    from ptune.train.learner import Learner
    from ptune.train.loop import Listener, TrainEvent, TrainResult, train

__all__ = ["Learner", "Listener", "RunFolder", "TrainEvent", "TrainResult", "TrainSettings", "progress", "replace", "train"]


def __getattr__(name: str) -> Any:
    if name not in ("Learner", "Listener", "TrainEvent", "TrainResult", "train"):
        raise AttributeError(f"module 'ptune.train' has no attribute {name!r}")
    value = getattr(import_module(f"ptune.train.{'learner' if name == 'Learner' else 'loop'}"), name)
    globals()[name] = value
    return value
