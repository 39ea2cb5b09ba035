"""A run's facts as lines for people: what the prompt gained, on what, at what price."""

from collections.abc import Mapping
from typing import Any

__all__ = ["FIGURES", "figure_lines", "figure_of", "score_of"]

FIGURES = {
    "zero-shot": ("zero_shot", "score"),
    "zero-shot, prior corrected": ("prior_corrected", "score"),
    "tuned": ("tuned", "score"),
    "macro-F1": ("tuned", "macro_f1"),
    "steps": ("training", "steps"),
    "last loss": ("training", "last_loss"),
    "seconds": ("training", "seconds"),
    "trained parameters": ("trained_parameters",),
    "peak memory (MB)": ("peak_memory_mb",),
}
"""Figures by which runs are compared, and where they stand in the facts; `score` is the main one of the kind of task."""


def figure_of(facts: Mapping[str, Any], name: str) -> Any:
    """One of `FIGURES`, or None where the run has none."""
    value: Any = facts
    for key in FIGURES[name]:
        if not isinstance(value, Mapping):
            return None
        value = score_of(value) if key == "score" else value.get(key)
    return value


def score_of(report: Mapping[str, Any]) -> Any:
    """The main figure of a report's JSON: `score`, or a classification's accuracy."""
    return report.get("score", report.get("accuracy"))


def figure_lines(facts: Mapping[str, Any]) -> list[str]:
    """The summary of a run, line by line."""
    return [*_scores(facts), *_price(facts)]


def _scores(facts: Mapping[str, Any]) -> list[str]:
    judged = facts.get("judged_on")
    if judged is None or "tuned" not in facts:
        return ["judged on           none: the recipe has neither test nor validation rows"]
    tuned = facts["tuned"]
    is_share = tuned.get("metric", "accuracy") == "accuracy"  # which has an interval
    what = "95 % interval in brackets" if is_share else tuned["metric"].replace("_", " ")
    lines = [f"judged on           {judged}, {tuned['num_rows']} rows ({what})"]
    for title, key in (("zero-shot", "zero_shot"), ("  prior corrected", "prior_corrected"), ("tuned", "tuned")):
        if key in facts:
            interval = "  ({:.3f} to {:.3f})".format(*facts[key]["interval"]) if is_share else ""
            lines.append(f"{title:<20}{score_of(facts[key]):.3f}{interval}")
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
