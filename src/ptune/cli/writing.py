"""What `ptune predict` has for tasks that write texts: settings as options, and answers that appear while they are written."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptune.errors import RecipeError

if TYPE_CHECKING:
    from ptune.task import Task

__all__ = [
    "Beams",
    "LengthPenalty",
    "MaxNewTokens",
    "Returns",
    "Seed",
    "Stop",
    "Temperature",
    "TopK",
    "TopP",
    "check_writing",
    "shows_pieces",
    "write_out",
    "writing_words",
]

_PANEL = "Tasks that write texts"

MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", metavar="N", help="Tokens that an answer may have.", rich_help_panel=_PANEL)
]
Beams = Annotated[
    int | None, typer.Option("--beams", metavar="N", help="Hypotheses that are followed at once.", rich_help_panel=_PANEL)
]
LengthPenalty = Annotated[
    float | None,
    typer.Option("--length-penalty", metavar="X", help="Of beams: above 0 favours longer texts.", rich_help_panel=_PANEL),
]
Returns = Annotated[
    int | None, typer.Option("--returns", metavar="N", help="Texts for each row: beams, or samples.", rich_help_panel=_PANEL)
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", metavar="X", help="0 takes the most probable token; above 0 draws, as 0.8.", rich_help_panel=_PANEL
    ),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", metavar="N", help="Draw from the N most probable tokens.", rich_help_panel=_PANEL)
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", metavar="X", help="Draw from the tokens that hold this probability.", rich_help_panel=_PANEL),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of what is drawn.", rich_help_panel=_PANEL)]
Stop = Annotated[
    list[str] | None, typer.Option("--stop", metavar="TEXT", help="End there; may be repeated.", rich_help_panel=_PANEL)
]


def writing_words(**options: Any) -> dict[str, Any]:
    """The options that were given, as the keywords of `Task.predict`."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def check_writing(card: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    """Refuses settings by a bundle's card alone, so that a mistake fails before the model is loaded.

    Raises:
        RecipeError: the task writes no texts, or the settings do not fit together.
    """
    from ptune.decode import DecodeSettings
    from ptune.model import WritingModel, task_class

    kind = card["task"].get("kind", "classification")
    if not words:
        return
    if not issubclass(task_class(kind), WritingModel):
        option = "--" + next(iter(words)).replace("_", "-")
        raise RecipeError(f"{option} is for tasks that write texts, this one is {kind}", where="predict")
    DecodeSettings.of({**(card["task"].get("decode") or {}), **words})


def shows_pieces(task: "Task", words: Mapping[str, Any]) -> bool:
    """Whether answers can be shown while they are written: one text, and no beams."""
    from ptune.model import WritingModel

    if not isinstance(task.model, WritingModel):
        return False
    settings = task.model.settings_of(words)
    return settings.beams == settings.returns == 1


def write_out(task: "Task", rows: Iterable[Mapping[str, Any]], words: Mapping[str, Any]) -> None:
    """Writes each row's answer to standard output, piece by piece, and a line break behind it."""
    for row in rows:
        for piece in task.stream_text(row, **words):
            print(piece, end="", flush=True)
        print(flush=True)
