"""Helps people who mistyped a name: a name and the names that exist go in, the one that was probably meant comes out.

Used wherever a message can say "did you mean": files, columns, labels, splits, models, recipe keys.
"""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "listed", "nearest"]

_NUM_LISTED = 8


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, regardless of case; None where nothing comes close.

    Args:
        name: what was written.
        candidates: the names that exist; of two that are alike when folded, the first counts.

    Returns:
        One of `candidates`, or None.
    """
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, candidates: Iterable[str], otherwise: str = "") -> str:
    """A remedy for an error message: "did you mean 'x'?", or `otherwise` where nothing is near."""
    match = nearest(name, candidates)
    return f"did you mean '{match}'?" if match is not None else otherwise


def listed(names: Iterable[str]) -> str:
    """Names in quotes, separated by commas; a long list is cut and says how many are left out."""
    quoted = [f"'{name}'" for name in names]
    rest = len(quoted) - _NUM_LISTED
    return ", ".join(quoted) if rest <= 0 else f"{', '.join(quoted[:_NUM_LISTED])} and {rest} more"
