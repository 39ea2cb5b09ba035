"""ptune: adapt a frozen language model to your task by learning a prompt from a handful of labelled examples.

Names are looked up when first used, so that `import ptune` and `ptune --help` load neither torch nor transformers.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptune.backbone import Backbone, load_backbone, sharing_contexts
    from ptune.data import Example, read_examples
    from ptune.errors import PtuneError
    from ptune.model import PromptModel
    from ptune.objective import Report
    from ptune.readout import Verbalizer
    from ptune.recipe import Recipe, fit
    from ptune.task import Prediction, Task, load, predict_mixed
    from ptune.template import Template

try:
    __version__ = version("ptune")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

_ROOM_OF = {
    "Backbone": "backbone",
    "Example": "data",
    "Prediction": "task",
    "PromptModel": "model",
    "PtuneError": "errors",
    "Recipe": "recipe",
    "Report": "objective",
    "Task": "task",
    "Template": "template",
    "Verbalizer": "readout",
    "fit": "recipe",
    "load": "task",
    "load_backbone": "backbone",
    "predict_mixed": "task",
    "read_examples": "data",
    "sharing_contexts": "backbone",
}

__all__ = [
    "Backbone",
    "Example",
    "Prediction",
    "PromptModel",
    "PtuneError",
    "Recipe",
    "Report",
    "Task",
    "Template",
    "Verbalizer",
    "__version__",
    "fit",
    "load",
    "load_backbone",
    "predict_mixed",
    "read_examples",
    "sharing_contexts",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'ptune' has no attribute {name!r}")
    value = getattr(import_module(f"ptune.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
