"""`ptune plan`: what of a row a run computes once and what in each step, what that costs and gains; nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptune.cli.console import print_json, table
from ptune.cli.options import AsJson, Override

if TYPE_CHECKING:
    from ptune.recipe import Plan
    from ptune.recipe.keeping import Keeping
    from ptune.recipe.phases import Phase

__all__ = ["plan"]

_WIDTH = 24


def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Override = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run will keep, compute and gain, before it begins."""
    from ptune.recipe import parse_override, plan_recipe, read_recipe

    chosen = read_recipe(recipe, dict(parse_override(text) for text in overrides or ()))
    planned = plan_recipe(chosen)
    if as_json:
        print_json(planned.to_dict())
    else:
        print("\n\n".join(_sections(planned)))


def _sections(planned: "Plan") -> list[str]:
    head = [
        f"template  {planned.template!r}",
        f"backbone  {planned.backbone} ({planned.kind}), {planned.num_parameters:,} parameters without embeddings",
        f"counted   {planned.num_rows} of {planned.num_train_rows} training rows; numbers of tokens are means",
    ]
    parts = ["\n".join(head)]
    if planned.training is None:
        parts.append("training: nothing learns")
    else:
        parts.append("\n".join([*_phase_lines(planned.training), _line("contexts", _contexts(planned))]))
    parts.append("\n".join(_phase_lines(planned.inference)))
    if planned.hints:
        parts.append("\n".join(f"hint: {hint}" for hint in planned.hints))
    return parts


def _phase_lines(phase: "Phase") -> list[str]:
    rows = [["segment", "tokens", "decision", "why"]]
    rows += [[part.name, f"{part.tokens:.1f}", part.decision, part.reason] for part in phase.segments]
    cost, plain, many = phase.cost, phase.plain, phase.num_candidates
    live = f"{cost.live_tokens:,.1f} an example"
    if cost.decoder_tokens:
        live += f", and {cost.decoder_tokens:,.1f} of the decoder"
    flops = f"{_flops(cost.flops)} an example ({_flops(cost.output_flops)} of it in the output layer)"
    if phase.stage == "training":
        flops += f", {_flops(phase.flops_per_step)} a step of {phase.examples_per_step}"
    plain_way = (
        f"{plain.live_tokens:,.1f} tokens, {_flops(plain.flops)} an example (nothing kept, all logits everywhere, as PEFT)"
    )
    lines = [phase.stage, table(rows), _line("live tokens", live), _line("FLOPs", flops)]
    if many > 1:
        each = f"{cost.live_tokens / many:,.1f} live tokens, {_flops(cost.flops / many)} an example"
        lines.append(_line(f"each of {many} candidates", each))
    lines += [_line("the plain way", plain_way), _line("predicted gain", f"{phase.gain:.1f} times")]
    return [*lines, _line("counted as", phase.formula)]


def _contexts(planned: "Plan") -> str:
    kept, looked = planned.contexts, planned.validation_contexts
    if not kept.is_kept:
        return f"not kept: {kept.reason}"
    held, rows, more = [kept], f"{planned.num_train_rows} rows", ""
    if looked is not None and not looked.is_kept:
        more = f"; those of {planned.num_validation_rows} validation rows are not kept: {looked.reason}"
    elif looked is not None:
        held, rows = [kept, looked], f"{planned.num_train_rows} training and {planned.num_validation_rows} validation rows"
    if kept.place == "batch":
        if len(held) > 1:
            more = f"; {_held(held[1:], f'{planned.num_validation_rows} validation rows')}"
        return f"no training row is read twice, so each is computed with its batch and none is held{more}"
    return f"{_held(held, rows)}{more}"


def _held(kept: list["Keeping"], rows: str) -> str:
    """Together: memory left by the first is what there is for the next."""
    num_bytes, num_tokens = sum(one.num_bytes for one in kept), sum(one.num_tokens for one in kept)
    size = f"{num_bytes / 2**20:,.1f} MiB for {num_tokens:,} tokens of {rows}"
    limit = f"{kept[0].memory_bytes / 2**20:,.0f} MiB of context_memory"
    is_over = any(one.place == "file" for one in kept)
    return f"{size}, what is over {limit} in a temporary file" if is_over else f"{size}, in memory ({limit})"


def _line(title: str, text: str) -> str:
    return f"{title:<{_WIDTH}}{text}"


def _flops(number: float) -> str:
    """With a unit: 1.2 GFLOP."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.1f} {unit}FLOP"
    return f"{number / 1e3:.1f} kFLOP" if number else "0 FLOP"
