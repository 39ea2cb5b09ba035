"""A run's facts as lines for people: what the prompt gained, on what, at what price."""

from collections.abc import Mapping
from typing import Any

__all__ = ["FIGURES", "figure_lines", "figure_of"]

FIGURES = {
    "zero-shot": ("zero_shot", "accuracy"),
    "zero-shot, prior corrected": ("prior_corrected", "accuracy"),
    "tuned": ("tuned", "accuracy"),
    "macro-F1": ("tuned", "macro_f1"),
    "steps": ("training", "steps"),
    "last loss": ("training", "last_loss"),
    "seconds": ("training", "seconds"),
    "trained parameters": ("trained_parameters",),
    "peak memory (MB)": ("peak_memory_mb",),
}
"""Figures by which runs are compared, and where they stand in the facts."""


def figure_of(facts: Mapping[str, Any], name: str) -> Any:
    """One of `FIGURES`, or None where the run has none."""
    value: Any = facts
    for key in FIGURES[name]:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def figure_lines(facts: Mapping[str, Any]) -> list[str]:
    """The summary of a run, line by line."""
    return [*_accuracies(facts), *_price(facts)]


def _accuracies(facts: Mapping[str, Any]) -> list[str]:
    judged = facts.get("judged_on")
    if judged is None or "tuned" not in facts:
        return ["judged on           none: the recipe has neither test nor validation rows"]
    lines = [f"judged on           {judged}, {facts['tuned']['num_rows']} rows (95 % interval in brackets)"]
    for title, key in (("zero-shot", "zero_shot"), ("  prior corrected", "prior_corrected"), ("tuned", "tuned")):
        if key in facts:
            low, high = facts[key]["interval"]
            lines.append(f"{title:<20}{facts[key]['accuracy']:.3f}  ({low:.3f} to {high:.3f})")
    return lines


def _price(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    if "trained_parameters" in facts:
        share = f"{100 * facts.get('trained_share', 0):.4f} % of the backbone"
        lines.append(f"trained parameters  {facts['trained_parameters']:,} ({share})")
    training = facts.get("training")
    if training:
        early = f", best at step {training['best_step']}" if training["best_step"] != training["steps"] else ""
        lines.append(f"training            {training['steps']} steps in {training['seconds']:.1f} s{early}")
    if "peak_memory_mb" in facts:
        lines.append(f"peak memory         {facts['peak_memory_mb']:,} MB")
    return lines
