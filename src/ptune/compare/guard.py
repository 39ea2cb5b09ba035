"""Pass or fail, for automatic checks: a bar that accuracy must reach, and an earlier run that it must not fall behind.

In: a `Summary` and the row that counts. Out: what is wrong, empty where all is well. Against an earlier comparison on the same
test rows the difference is paired; against other rows, or a single run, intervals must at least overlap. A method that was
named is held against its own past, the recommended one against what was recommended then, by the same rules. What was earlier
is read before anything is run: the run may write to the same folder.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ptune.compare.recommendation import Recommendation, recommend
from ptune.compare.results import Row, Summary, read_summary
from ptune.compare.statistics import compare
from ptune.compare.wording import row_name
from ptune.data import did_you_mean
from ptune.errors import DataError, RecipeError

__all__ = ["Earlier", "behind", "below_bar", "guarded_row", "read_earlier", "read_results"]

Earlier = Summary | float
"""A comparison, or the accuracy of a single run."""

_SLACK = 1e-9


def read_results(folder: str | Path) -> Summary:
    """The results of a comparison.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise DataError("there is no comparison", where=str(folder), fix="name the folder that ptune compare wrote")
    try:
        return read_summary(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        what = f"the results cannot be read: {type(error).__name__}: {error}"
        raise DataError(what, where=str(path), fix="run the comparison again") from None


def guarded_row(summary: Summary, advice: Recommendation, method: str | None) -> Row:
    """The row that must pass: of the method named, on its best model; else the recommended one, else the best.

    Raises:
        RecipeError: no such method, or no figures.
    """
    rows = summary.of_shots(summary.main_shots)
    if method is not None:
        named = next((row for row in rows if row.method == method), None)
        if named is None:
            fix = did_you_mean(method, [row.method for row in rows], "name one that has figures")
            raise RecipeError(f"there are no figures of a method {method!r}", where="--of", fix=fix)
        return named
    row = advice.row or advice.best
    if row is None:
        raise RecipeError("no method gave figures, so nothing can pass", where="compare", fix="see the reasons in the report")
    return row


def below_bar(row: Row, bar: float) -> str:
    """Why the row fails the bar."""
    if row.mean >= bar - _SLACK:
        return ""
    return f"{row.method}: accuracy {row.mean:.3f} is under the bar of {bar:.3f}"


def read_earlier(run: str | Path) -> Earlier:
    """An earlier comparison or run.

    Raises:
        DataError: there is neither.
    """
    if (Path(run) / "results.json").is_file():
        return read_results(run)
    try:
        facts: dict[str, Any] = json.loads((Path(run) / "summary.json").read_text(encoding="utf-8"))
        return float(facts["tuned"]["accuracy"])
    except (OSError, ValueError, KeyError, TypeError):
        what = "there is neither a comparison nor a finished run with an accuracy"
        raise DataError(what, where=str(run), fix="name a folder that ptune compare or ptune train wrote") from None


def behind(row: Row, summary: Summary, earlier: Earlier, *, is_named: bool = True) -> str:
    """Why the row has fallen behind an earlier comparison or run.

    Args:
        row: which must pass.
        summary: that it is of.
        earlier: what it must not fall behind.
        is_named: whether its method was named; else it is the recommended one, and so is what it is compared with.

    Raises:
        DataError: the earlier one has no figure to compare with.
    """
    if isinstance(earlier, Summary):
        return _behind_comparison(row, summary, _own_past(row, earlier) if is_named else _recommended(row, earlier), earlier)
    if row.accuracy is None or row.accuracy.high >= earlier:
        return ""
    return f"{row.method}: accuracy {row.mean:.3f} ({row.accuracy.low:.3f} to {row.accuracy.high:.3f}) after {earlier:.3f}"


def _own_past(row: Row, earlier: Summary) -> Row:
    """The same method on the same model, with as many shots."""
    at = (row.method, row.backbone, row.shots)
    old = next((one for one in earlier.rows if (one.method, one.backbone, one.shots) == at and one.accuracy), None)
    if old is None:
        what = f"it has no figures of {row.method} with {row.shots} shots"
        raise DataError(what, where="--fail-if-worse-than", fix="name a comparison of the same methods")
    return old


def _recommended(row: Row, earlier: Summary) -> Row:
    """What an earlier comparison recommends, or its best, if with as many shots."""
    advice = recommend(earlier)
    old = advice.row or advice.best
    if old is None or old.shots != row.shots:
        what = f"it recommends nothing with {row.shots} shots"
        raise DataError(what, where="--fail-if-worse-than", fix="name a comparison with the same shots")
    return old


def _behind_comparison(row: Row, summary: Summary, old: Row, earlier: Summary) -> str:
    assert row.accuracy is not None and old.accuracy is not None
    after = (
        f"{old.mean:.3f}" if (old.method, old.backbone) == (row.method, row.backbone) else f"{old.mean:.3f} of {row_name(old)}"
    )
    now, then = dict(row.right), dict(old.right)
    seeds = [seed for seed in now if seed in then]
    if seeds and summary.data["test_fingerprint"] == earlier.data["test_fingerprint"]:
        difference = compare(*(np.array([[float(one) for one in side[seed]] for seed in seeds]) for side in (now, then)))
        if difference.verdict != "worse":
            return ""
        return (
            f"{row.method}: accuracy {row.mean:.3f} after {after}, "
            f"worse by {-difference.mean:.3f} ({-difference.high:.3f} to {-difference.low:.3f})"
        )
    if row.accuracy.high >= old.accuracy.low:
        return ""
    return f"{row.method}: accuracy {row.mean:.3f} after {after} on other test rows, and their intervals do not touch"
