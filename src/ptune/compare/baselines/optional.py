"""Packages that only baselines need: imported when a baseline runs, with an error that says how to get them."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from ptune.errors import RecipeError

__all__ = ["MissingPackage", "need", "package_version"]


class MissingPackage(RecipeError):
    """A package that a baseline needs is not here; once it is, the baseline is tried again."""


def need(module: str, package: str = "") -> Any:
    """The module.

    Raises:
        MissingPackage: the package is not installed, or cannot be imported.
    """
    name = package or module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        missing = (getattr(error, "name", "") or "").partition(".")[0] == module.partition(".")[0]
        what = f"this needs the package {name}" if missing else f"the package {name} cannot be imported: {error}"
        raise MissingPackage(what, where="compare", fix="pip install 'ptune[compare]', or leave the method out") from None


def package_version(package: str) -> str:
    """As in `setfit 1.2.0`; the name alone where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except ModuleNotFoundError:
        return package
