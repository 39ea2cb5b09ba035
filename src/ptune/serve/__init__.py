"""One server, many tasks, one frozen model. `ptune serve DIR` starts it; `Client` asks it.

What needs the web framework is looked up when first used (`pip install 'ptune[serve]'`); the client needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptune.serve.app import build_app
    from ptune.serve.client import Client
    from ptune.serve.keys import add_key
    from ptune.serve.refusals import ServeError
    from ptune.serve.run import serve
    from ptune.serve.settings import Limits, ServeSettings

_FILE_OF = {
    "Client": "client",
    "Limits": "settings",
    "ServeError": "refusals",
    "ServeSettings": "settings",
    "add_key": "keys",
    "build_app": "app",
    "serve": "run",
}

__all__ = ["Client", "Limits", "ServeError", "ServeSettings", "add_key", "build_app", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module 'ptune.serve' has no attribute {name!r}")
    value = getattr(import_module(f"ptune.serve.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value
