"""`ptune cot`: chain of thought, reasoning before the answer, with a vote of several samples."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson, Override
from ptune.errors import RecipeError

__all__ = ["cot"]


def cot(
    recipe: Annotated[Path, typer.Argument(help="The recipe, with a section cot: (see docs/strategies.md).")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer, in place of judging the recipe's test rows.")
    ] = None,
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Let the model reason before it answers (chain of thought)."""
    from ptune.recipe import parse_override
    from ptune.strategy import ChainOfThoughtSettings, read_section, run_chain_of_thought

    changed = dict(parse_override(text) for text in overrides or ())
    if texts:
        changed |= {"test": None, "validation": None, "hold_out": None}
    chosen, settings = read_section(recipe, "cot", ChainOfThoughtSettings, changed)
    if not texts and chosen.test is None and chosen.validation is None and chosen.hold_out is None:
        raise RecipeError("there is nothing to answer", where=str(recipe), fix="set test: in the recipe, or give texts")
    reasoner, report = run_chain_of_thought(chosen, settings, say=say)
    found = [one.to_dict() for one in reasoner.answer(reasoner.examples(texts))] if texts else []
    if as_json:
        print_json({"report": None if report is None else report.to_dict(), "answers": found})
        return
    if report is not None:
        print(report)
    for one in found:
        print(json.dumps(one, ensure_ascii=False))
