"""Every error that a user can cause, as one readable line.

A `PtuneError` says what is wrong, where, and what to do about it. The command line prints that line and exits with
code 2; Python users catch `PtuneError` or one of its kinds. `notice` is for things worth knowing that stop nothing.
"""

import logging

__all__ = [
    "BackboneError",
    "BundleError",
    "DataError",
    "PromptError",
    "PtuneError",
    "RecipeError",
    "TemplateError",
    "TrainError",
    "VerbalizerError",
    "notice",
]

_LOGGER = logging.getLogger("ptune")


class PtuneError(Exception):
    """A mistake in what the user handed over: `what` is wrong, `where` it stands, what to do to `fix` it.

    Args:
        what: the fact, with the offending value quoted.
        where: file and line, recipe key, or place in a template; empty where nothing more is known.
        fix: the remedy as an imperative; empty where `what` already says it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" ({self.fix})" if self.fix else ""
        return f"{place}{self.what}{remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[PtuneError], what: str, where: str, fix: str) -> PtuneError:
    return kind(what, where=where, fix=fix)


class DataError(PtuneError):
    """A file, row, field or label that cannot be used."""


class TemplateError(PtuneError):
    """A template that cannot be parsed, rendered or fitted into the model."""


class VerbalizerError(PtuneError):
    """Label words that cannot be told apart or scored."""


class PromptError(PtuneError):
    """A prompt method, its options or its initialisation."""


class BackboneError(PtuneError):
    """A model that cannot be found, loaded or served."""


class RecipeError(PtuneError):
    """A key or value of a recipe."""


class TrainError(PtuneError):
    """A run that cannot start, go on or be resumed."""


class BundleError(PtuneError):
    """A saved task that cannot be written, read or used with this backbone."""


def notice(message: str) -> None:
    """Tells the user something worth knowing without stopping: one line to the `ptune` logger."""
    _LOGGER.warning(message)
