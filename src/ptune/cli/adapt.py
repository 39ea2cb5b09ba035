"""`ptune adapt`: the model reads unlabelled texts of the field, and is written as a new backbone."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import file_size, print_json, say
from ptune.cli.options import AsJson

__all__ = ["adapt"]


def adapt(
    texts: Annotated[str, typer.Argument(help="File, folder or hub id of texts; labels in them are not looked at.")],
    backbone: Annotated[str, typer.Option(help="A masked or causal model.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the model is written to its folder model/.")],
    column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    max_length: Annotated[int, typer.Option(help="Tokens of a row; longer texts are cut into several.")] = 128,
    hold_out: Annotated[float, typer.Option(help="Share of the texts to judge by; 0 for none.")] = 0.1,
    epochs: Annotated[int, typer.Option(help="Passes over the texts.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, in place of passes.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a step.")] = 16,
    learning_rate: Annotated[float | None, typer.Option(help="5e-5 if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the order and what is hidden.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Let a model read unlabelled texts before a task is learned on it (continued pre-training)."""
    from ptune.strategy import AdaptSettings, section_of
    from ptune.strategy import adapt as read_on
    from ptune.train import progress

    words = {
        "column": column,
        "max_length": max_length,
        "hold_out": hold_out,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    found = read_on(
        texts,
        backbone=backbone,
        out=out,
        settings=section_of(words, "adapt", AdaptSettings, where="options"),
        resume=resume,
        listeners=[progress(enabled=not quiet)],
        say=(lambda line: None) if quiet else say,
    )
    if as_json:
        print_json({**found.facts, "model": str(found.folder)})
        return
    before, after = found.perplexity
    print(f"perplexity          {before:,.2f} before, {after:,.2f} after, on {found.facts['judged_on']}")
    print(f"backbone            {found.folder} ({file_size(found.folder) / 1e6:,.1f} MB)")
