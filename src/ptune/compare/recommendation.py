"""What to use, in words, by rules that follow from the numbers; the rules stand in the report beside what they gave.

In: a `Summary`. Out: `Recommendation`: the row that is recommended for the largest number of shots that all methods have, and
findings, each with the rule that it comes from, in English and Chinese (`sentences.yaml`). No rule knows a method by name, but
for the majority label.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ptune.compare.results import Row, Summary
from ptune.compare.wording import Both, cost_class, file_size, in_chinese, points, row_name

__all__ = ["MARGIN", "Finding", "Recommendation", "finding", "recommend", "rules"]

MARGIN = 0.03
"""How far below the best a method may lie and still count as its equal, where their difference may be chance as well."""
_FEW_SEEDS, _FEW_ROWS, _MANY_METHODS = 3, 100, 10
_OVERCONFIDENT = 0.1
_FAR_DROP = 0.05
_SETTLED = 0.01


@dataclass(frozen=True)
class Finding:
    """A sentence and the rule it follows from.

    Args:
        rule: key of `rules()`.
        english, chinese: the sentence.
    """

    rule: str
    english: str
    chinese: str

    def to_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"rule": self.rule, "en": self.english, "zh": self.chinese}


@dataclass(frozen=True)
class Recommendation:
    """What to use.

    Args:
        row: the recommended method, None where nothing was learned.
        best: the most accurate one, None where there are no figures.
        findings: why, and what else should be known.
    """

    row: Row | None
    best: Row | None
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        named = {key: None if one is None else _named(one) for key, one in (("recommended", self.row), ("best", self.best))}
        return {**named, "findings": [one.to_dict() for one in self.findings]}


def rules() -> dict[str, Both]:
    """Each rule in words."""
    numbers = {
        "margin": points(MARGIN),
        "overconfident": f"{_OVERCONFIDENT:.2f}",
        "settled": points(_SETTLED),
        "far": points(_FAR_DROP),
        "few_seeds": _FEW_SEEDS,
        "few_rows": _FEW_ROWS,
        "many": _MANY_METHODS,
    }
    return {key: (text["en"].format(**numbers), text["zh"].format(**numbers)) for key, text in _words()["rules"].items()}


def recommend(summary: Summary) -> Recommendation:
    """Applies the rules to the rows of the largest number of shots that all methods have."""
    rows = summary.of_shots(summary.main_shots)
    best = next((row for row in rows if row.is_best), None)
    if best is None:
        return Recommendation(None, None, (finding("learned", "no_figures"),))
    learned = [row for row in rows if _has_learned(row) and len(row.seeds) == len(best.seeds)]
    if not learned:
        values = {"shots": best.shots, **_name(best), "accuracy": f"{best.mean:.3f}"}
        found = [finding("learned", "nothing_learned", **values), *_evidence(summary, best, rows)]
        return Recommendation(None, best, tuple(found))
    equals = [row for row in learned if _is_equal(row, best)] or learned[:1]  # which begin with the most accurate
    chosen = min(equals, key=lambda row: (cost_class(row), -row.mean, row.predict_seconds))
    findings = [
        *_choice(chosen, best, equals),
        *_more_labels(summary, chosen),
        *_confidence(chosen),
        *_steps(chosen),
        *_domains(chosen),
        *_evidence(summary, best, rows),
    ]
    return Recommendation(chosen, best, tuple(findings))


# -- rules -----------------------------------------------------------------------------------------------------------


def _has_learned(row: Row) -> bool:
    """Better than the majority label; where that was not compared, nothing speaks against it."""
    return row.method != "majority" and (row.from_majority is None or row.from_majority.low > 0)


def _is_equal(row: Row, best: Row) -> bool:
    if row is best:
        return True
    difference = row.from_best
    may_be_chance = difference is not None and difference.verdict == "no difference"
    return may_be_chance and len(row.seeds) == len(best.seeds) and row.mean >= best.mean - MARGIN


def _choice(chosen: Row, best: Row, equals: list[Row]) -> Iterator[Finding]:
    assert chosen.accuracy is not None
    low, high = chosen.accuracy.low, chosen.accuracy.high
    yield finding("cheapest", "use", **_price(chosen), low=f"{low:.3f}", high=f"{high:.3f}", shots=chosen.shots)
    others = [row for row in equals if row is not chosen]
    if chosen is best:
        names = ", ".join(map(row_name, others)), "、".join(map(in_chinese, others))
        yield finding("equals", "with_equals" if others else "alone", names=names)
        return
    gap = points(best.mean - chosen.mean)
    if not _has_learned(best):
        yield finding("learned", "best_unsure", **_name(best), accuracy=f"{best.mean:.3f}", gap=gap)
        return
    assert chosen.from_best is not None  # it is an equal
    span = {"low": points(-chosen.from_best.high), "high": points(-chosen.from_best.low)}
    yield finding("more", "best_costs", **_price(best), gap=gap, **span)


def _more_labels(summary: Summary, chosen: Row) -> Iterator[Finding]:
    gain = chosen.from_fewer
    if gain is None:
        return
    yield finding(
        "labels",
        "labels_help" if gain.verdict == "better" else "labels_may_help",
        fewer=max(shots for shots in summary.shots if shots < chosen.shots),
        shots=chosen.shots,
        gain=points(gain.mean),
        low=points(gain.low),
        high=points(gain.high),
    )


def _confidence(chosen: Row) -> Iterator[Finding]:
    if chosen.calibration_error > _OVERCONFIDENT:
        yield finding("confidence", "confidence", error=f"{chosen.calibration_error:.2f}")


def _steps(chosen: Row) -> Iterator[Finding]:
    if len(chosen.curve) < 4:
        return
    last_step, last = chosen.curve[-1]
    settled = next(step for step, accuracy in chosen.curve if accuracy >= last - _SETTLED)
    if settled <= last_step / 2:
        yield finding("steps", "steps", step=settled, last=last_step)


def _domains(chosen: Row) -> Iterator[Finding]:
    for test, found in chosen.others:
        drop = chosen.mean - found.mean
        key = "does_not_carry" if drop >= _FAR_DROP else "carries_over"
        yield finding("domains", key, test=test, accuracy=f"{found.mean:.3f}", drop=points(drop))


def _evidence(summary: Summary, best: Row, rows: list[Row]) -> Iterator[Finding]:
    assert best.accuracy is not None
    seeds, judged = best.accuracy.num_seeds, best.accuracy.num_rows
    if seeds < _FEW_SEEDS or judged < _FEW_ROWS:
        yield finding("evidence", "too_few", seeds=seeds, rows=judged)
    fewer = [row for row in rows if len(row.seeds) < len(best.seeds)]
    if fewer:
        yield finding("evidence", "fewer_seeds", names=(", ".join(map(row_name, fewer)), "、".join(map(in_chinese, fewer))))
    if len(rows) > _MANY_METHODS:
        yield finding("evidence", "many_methods", number=len(rows))
    all_rows = [row for row in summary.rows if row.shots == best.shots]
    if len(all_rows) > len(rows):
        yield finding("evidence", "without_figures", number=len(all_rows) - len(rows), total=len(all_rows))


# -- words -----------------------------------------------------------------------------------------------------------


def _named(row: Row) -> dict[str, Any]:
    return {"method": row.method, "backbone": row.backbone, "shots": row.shots, "accuracy": row.mean}


def _name(row: Row) -> dict[str, Both]:
    return {"name": (row_name(row), in_chinese(row))}


def _price(row: Row) -> dict[str, Any]:
    """What a method gives and takes."""
    seconds = {"train": _seconds(row.train_seconds), "answer": _seconds(row.predict_seconds)}
    return {**_name(row), "accuracy": f"{row.mean:.3f}", "stored": file_size(row.num_bytes), **seconds}


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def finding(rule: str, key: str, **values: Any) -> Finding:
    """A sentence of `sentences.yaml` with its values; a pair gives each language its own."""
    text = _words()["advice" if rule == "advice" else "sentences"][key]
    english, chinese = (
        text[language].format(**{name: value[at] if isinstance(value, tuple) else value for name, value in values.items()})
        for at, language in enumerate(("en", "zh"))
    )
    return Finding(rule, english, chinese)


@cache
def _words() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files("ptune.compare").joinpath("sentences.yaml").read_text(encoding="utf-8"))
    return found
