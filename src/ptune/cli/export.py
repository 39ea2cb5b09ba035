"""`ptune export`: a trained task's prompt in the form that other tools read, and what of the task is not in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ptune.cli.console import file_size, print_json, say
from ptune.cli.options import AsJson, BackboneName, BundlePath
from ptune.errors import BundleError, DataError

__all__ = ["export"]

_TARGETS = ("peft", "prompt-embeds", "vocabulary")


def export(
    bundle: BundlePath,
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new folder; with prompt-embeds a .safetensors file.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="peft (an adapter), prompt-embeds (one text's embeddings, as vLLM takes "
            "them) or vocabulary (a model folder whose tokenizer knows the learned tokens).",
        ),
    ],
    text: Annotated[
        str | None, typer.Option("--text", help="With prompt-embeds: the text, for a template of one field.")
    ] = None,
    row: Annotated[str | None, typer.Option("--row", metavar="JSON", help="With prompt-embeds: the fields of a row.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the learned tokens alone, though scores will differ.")] = False,
    backbone: BackboneName = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained task's prompt for other tools."""
    if to not in _TARGETS:
        raise BundleError(f"there is no format {to!r}", where="--to", fix=f"use {', '.join(_TARGETS)}")
    if (to == "prompt-embeds") != (text is not None or row is not None):
        what = "prompt-embeds needs the text" if to == "prompt-embeds" else f"{to} holds no text"
        raise BundleError(what, where="--text", fix="give --text or --row with prompt-embeds, and only there")
    from ptune.bundle import export_peft, export_prompt_embeds, export_vocabulary
    from ptune.task import load

    task = load(bundle, backbone=backbone)
    model = task.model
    if to == "prompt-embeds":
        fields = _row(text, row, model.template.field_names)
        done = export_prompt_embeds(model, fields, destination, force=force)
    elif to == "vocabulary":
        done = export_vocabulary(model, destination, force=force)
    else:
        done = export_peft(model, destination, facts=task.facts, force=force)
    if as_json:
        print_json({"path": str(done.path), "what": done.what, "lost": list(done.lost)})
        return
    for lost in done.lost:
        say(f"not in it: {lost}")
    print(f"{done.path}: {done.what}, {file_size(done.path) / 1000:,.1f} kB")


def _row(text: str | None, row: str | None, fields: tuple[str, ...]) -> Mapping[str, Any]:
    """The fields from either option.

    Raises:
        DataError: both, a text for several fields, or a row that is no mapping.
    """
    if text is not None and row is not None:
        raise DataError("a text and a row are given", where="--text", fix="give one of them")
    if text is not None:
        if len(fields) != 1:
            what = f"the template has the fields {', '.join(fields) or 'none'}, so a text is not enough"
            raise DataError(what, where="--text", fix="give --row '{...}'")
        return {fields[0]: text}
    try:
        given = json.loads(row or "")
    except json.JSONDecodeError as error:
        raise DataError(f"the row is no JSON: {error}", where="--row") from None
    if not isinstance(given, dict):
        raise DataError("the row is no mapping", where="--row", fix='write {"text": "..."}')
    return given
