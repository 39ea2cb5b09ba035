"""`ptune import`: a prompt that PEFT, P-Tuning v2 or ChatGLM's code has trained, as a bundle of ptune's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ptune.cli.console import file_size, print_json
from ptune.cli.options import AsJson, BackboneName
from ptune.errors import DataError

__all__ = ["import_"]


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An adapter's folder, or a checkpoint with a prefix encoder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write.")],
    backbone: BackboneName = None,
    task: Annotated[str | None, typer.Option(help="Kind of task; else that of the file's head, or classification.")] = None,
    template: Annotated[
        str | None, typer.Option(help="The words around the text, as in a recipe; such files do not hold them.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels", metavar="NAME=WORD,...", help="A label and its words, or its name alone for a head; repeated."
        ),
    ] = None,
    task_id: Annotated[int | None, typer.Option("--task-id", help="Which task of a multitask prompt.")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", help="Tokens that a text with its prompt may have.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle of a prompt that other tools have trained."""
    from ptune.bundle import bundle_of, import_prompt

    given = labels_of(labels)
    done = import_prompt(
        source, backbone=backbone, task=task, template=template, labels=given, task_id=task_id, max_length=max_length
    )
    bundle_of(done.model, done.facts).write(out)
    if as_json:
        print_json(
            {"path": str(out), "what": done.what, "template": str(done.model.template), "labels": done.model.label_names}
        )
        return
    print(f"{out}: {done.what}, {file_size(out) / 1000:,.1f} kB")
    print(f"template {str(done.model.template)!r}, labels {', '.join(done.model.label_names)}")


def labels_of(given: Sequence[str] | None) -> dict[str, Any] | list[str] | None:
    """`["good=great,fine", "bad=terrible"]` as label words by label, or names alone as a list.

    Raises:
        DataError: some labels with words and some without, or an empty name or word.
    """
    if not given:
        return None
    pairs = [text.partition("=") for text in given]
    names = [name.strip() for name, _, _ in pairs]
    if not all(names):
        raise DataError("a label has no name", where="--labels", fix="write --labels positive=great,good")
    if not any(sign for _, sign, _ in pairs):
        return names
    words = {
        name: [word.strip() for word in rest.split(",") if word.strip()]
        for name, (_, _, rest) in zip(names, pairs, strict=True)
    }
    bare = next((name for name, listed in words.items() if not listed), None)
    if bare is not None:
        raise DataError(f"the label {bare!r} has no words", where="--labels", fix=f"write --labels {bare}=great")
    return words
