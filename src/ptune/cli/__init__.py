"""The command line: one file per verb, and here how they are put together and how they fail.

Exit codes: 0 done; 1 a fault of ptune's own; 2 a mistake in what was handed over, said in one line on standard error that
begins with `error:`; 130 stopped with Ctrl-C. Results go to standard output, everything else to standard error. Nothing heavy
is imported before a verb runs.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from ptune import __version__
from ptune.cli import data, models, runs, template
from ptune.cli.adapt import adapt
from ptune.cli.compare import compare
from ptune.cli.console import say
from ptune.cli.cot import cot
from ptune.cli.doctor import doctor
from ptune.cli.evaluate import evaluate
from ptune.cli.export import export
from ptune.cli.icl import icl
from ptune.cli.import_ import import_
from ptune.cli.init import init
from ptune.cli.inspect import inspect
from ptune.cli.mix import mix
from ptune.cli.pet import pet
from ptune.cli.plan import plan
from ptune.cli.predict import predict
from ptune.cli.push import push
from ptune.cli.recommend import recommend
from ptune.cli.search import app as search_app
from ptune.cli.serve import serve, serve_key
from ptune.cli.stress import stress
from ptune.cli.train import train
from ptune.errors import PtuneError

__all__ = ["app", "main"]

_DEBUG = "--debug"

app = typer.Typer(
    help="Adapt a frozen language model to your task by learning a prompt from a handful of labelled examples.",
    epilog="Start with: ptune init DATA, then ptune train recipe.yaml",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _verb in (
    init,
    plan,
    train,
    compare,
    recommend,
    stress,
    pet,
    icl,
    cot,
    adapt,
    mix,
    evaluate,
    predict,
    inspect,
    export,
    push,
):
    app.command()(_verb)
app.command("import")(import_)
for _group, _help in (
    (data, "Look at data."),
    (template, "Check and choose templates."),
    (models, "Small models to start with."),
):
    app.add_typer(_group.app, help=_help)
app.add_typer(search_app)
app.add_typer(runs.app, help="Look up and compare runs.")
app.command()(serve)
app.command()(serve_key)
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ptune {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the whole traceback of an error.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: as on the command line, without the program's name; None takes the real ones.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    is_debugging = _DEBUG in given
    words = [word for word in given if word != _DEBUG]
    notes = _Notes()
    logger = logging.getLogger("ptune")
    logger.addHandler(notes)
    try:
        code = typer.main.get_command(app).main(words, prog_name="ptune", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except PtuneError as error:
        say(f"error: {_one_line(error)}")
        for note in getattr(error, "__notes__", ()):
            say(note)
        return _failed(2, is_debugging)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if hasattr(error, "format_message"):  # a mistake in the options, found by typer
            context = getattr(error, "ctx", None)
            say(f"error: {_one_line(error.format_message())} (see `{context.command_path if context else 'ptune'} --help`)")
            return _failed(2, is_debugging)
        hint = "" if is_debugging else f"; `ptune {_DEBUG} {words[0]} ...` shows where"
        say(f"error: ptune failed: {type(error).__name__}: {_one_line(error)}{hint}")
        return _failed(1, is_debugging)
    finally:
        logger.removeHandler(notes)


def _one_line(thing: object) -> str:
    return " ".join(str(thing).split())


def _failed(code: int, is_debugging: bool) -> int:
    if is_debugging:
        traceback.print_exc()
    return code


class _Notes(logging.Handler):
    """What ptune has to say while it works, as `note: ...` on standard error; each thing once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            say(f"note: {message}")
        self._said.add(message)
