"""What counts as kept: for a budget, for the rates that a budget goes by, and for the time of answers."""

from pathlib import Path
from typing import Any

import pytest

from ptune.compare.contender import Fitted, Registry
from ptune.compare.run import run_comparison
from summaries import make_rows, spec_of


def test_a_kept_fit_is_not_a_kept_cell(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a new test text, what keeps no task has to learn again, which a budget may have no room for."""
    methods = ["tfidf-logistic", "zero-shot"]
    run_comparison(spec_of(words, methods=methods, seeds=[1]), tmp_path)
    test = [*words["test"], {"text": "an entirely different text", "label": "yes"}]
    monkeypatch.setattr("ptune.compare.timing.Clock.estimate", lambda *args: 100.0)
    outcome = run_comparison(spec_of({**words, "test": test}, methods=methods, seeds=[1]), tmp_path, budget_seconds=5.0)
    assert [bool(cell.reason) for cell in outcome.cells] == [True, False]


def test_what_failed_is_kept_unless_it_is_tried_again(
    words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **keywords: Any) -> Fitted:
        raise RuntimeError("shapes do not fit")

    spec = spec_of(words, methods=["tfidf-svm"], seeds=[1])
    monkeypatch.setattr(Registry.get("tfidf-svm"), "fit", broken)
    run_comparison(spec, tmp_path)
    monkeypatch.setattr("ptune.compare.timing.Clock.estimate", lambda *args: 100.0)
    reasons = [run_comparison(spec, tmp_path, budget_seconds=5.0, retry=again).cells[0].reason for again in (False, True)]
    assert reasons[0].startswith("RuntimeError") and reasons[1].startswith("no time left")


def test_a_partly_kept_cell_teaches_no_rate(words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[str] = []
    monkeypatch.setattr("ptune.compare.timing.Clock.learn", lambda clock, line, *rest: learned.append(line.contender.name))
    settings = {"methods": ["tfidf-logistic", "p-tuning"], "seeds": [1]}
    run_comparison(spec_of(words, **settings, trials=1), tmp_path)
    assert learned == ["tfidf-logistic", "p-tuning"]
    outcome = run_comparison(spec_of(words, **settings, trials=2), tmp_path)  # the second trial is new
    assert outcome.num_computed == 2 and len(learned) == 2


def test_a_task_that_was_just_loaded_is_not_timed_anew(
    words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answers are slow; those of the run that learned it were not."""
    methods = ["p-tuning", "tfidf-svm"]
    warm = run_comparison(spec_of(words, methods=methods, seeds=[1]), tmp_path)
    monkeypatch.setattr("ptune.compare.cells._answers", lambda fitted, kept, rows: (fitted.predict(rows), 1e6))
    other = spec_of({**words, "test": make_rows(20, seed=9)}, methods=methods, seeds=[1])
    found = {cell.method: cell.predict_seconds for cell in run_comparison(other, tmp_path).cells}
    assert found == {"p-tuning": warm.cells[0].predict_seconds, "tfidf-svm": 1e6}  # the latter has learned again
