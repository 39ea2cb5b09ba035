"""Honest prices: what a method takes in time and memory is its own, as if it ran alone."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from ptune.backbone import SharedContexts, context_bytes
from ptune.compare.cells import _answers, _learned
from ptune.compare.contender import Contender, Fitted, Paradigm, Probabilities, Registry, Setup
from ptune.compare.memory import MemoryPeak
from ptune.compare.run import run_comparison
from ptune.compare.samples import SeedRows
from ptune.compare.summary import summarise
from ptune.compare.wording import cost_class, file_size
from ptune.data import Example
from summaries import make_row, make_rows, spec_of
from tiny import example, tiny_backbone

SetupOn = Callable[..., Setup]
Words = dict[str, Any]


def test_kept_contexts_have_a_bound() -> None:
    backbone = tiny_backbone("gpt2")
    kept = SharedContexts(max_bytes=context_bytes(backbone, 20))
    first = kept.of(backbone, [range(10), range(10)])
    assert first is not None and kept.of(backbone, [range(1, 11)]) is first
    assert kept.of(backbone, [range(2, 12)]) is None  # there is no more room while the first two are held
    del first
    anew = kept.of(backbone, [range(2, 12)])
    assert anew is not None and kept.of(backbone, [range(21)]) is None
    with kept.aside():
        assert kept.of(backbone, [range(10)]) is None
    assert kept.of(backbone, [range(2, 12)]) is anew


@dataclass(kw_only=True)
class Listening(Fitted):
    """Says the number that a row holds, and notes whether anything may be kept."""

    kept: SharedContexts
    asked: list[tuple[int, bool]]

    def predict(self, rows: Sequence[Example]) -> Probabilities:
        self.asked.append((len(rows), self.kept.of(tiny_backbone("gpt2"), [[5]]) is not None))
        return np.array([[float(str(row.fields["text"])), 0.0] for row in rows])


def test_answers_are_timed_with_nothing_kept() -> None:
    fitted = Listening(kept=SharedContexts(), asked=[])
    found, seconds = _answers(fitted, fitted.kept, [example(str(number)) for number in range(70)])
    assert fitted.asked == [(24, False), (46, True)] and seconds > 0
    assert found[:, 0].tolist() == list(range(70))


@dataclass
class Peak:
    """A measurement by order."""

    mb: int = 100
    thorough: bool = True

    def __enter__(self) -> "Peak":
        return self

    def __exit__(self, *rest: object) -> None:
        return


class Learner(Contender):
    """Learns nothing, perhaps in a copy."""

    name, title = "learner", "learner"
    paradigm: Paradigm = "prompting"

    def __init__(self, *, copies: bool) -> None:
        self.copies_model = copies

    def trials(self, count: int) -> list[dict[str, Any]]:
        return [{}]

    def fit(self, setup: Setup, train: Any, validation: Any, **rest: Any) -> Fitted:
        return Registry.get("majority").fit(setup, train, validation, **rest)


def test_memory_counts_the_model_once(
    setup_on: SetupOn, examples: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ptune.compare.cells.MemoryPeak", Peak)
    setup = replace(setup_on(), backbone=SimpleNamespace(model=nn.Linear(1024, 1024, bias=False)))  # type: ignore[arg-type]
    rows = SeedRows(examples, examples)
    fits = [_learned(Learner(copies=copies), setup, rows, 1, {}, tmp_path)[0] for copies in (False, True)]
    assert [fit.memory_mb for fit in fits] == [104, 100]
    copying = {name for name, contender in Registry.contenders.items() if contender.copies_model}
    rivals = {"lora", "peft-prompt-tuning", "peft-prefix-tuning", "peft-p-tuning"}
    assert copying == {"fine-tuning", "head-fine-tuning", "setfit", "template-fine-tuning", *rivals}


def test_packages_are_imported_before_anything_is_measured(
    setup_on: SetupOn, examples: tuple[Example, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their import is no part of the first method's time and memory."""
    (tmp_path / "rarely_used.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    was_there: list[bool] = []

    class Watching(Peak):
        def __enter__(self) -> Peak:
            was_there.append("rarely_used" in sys.modules)
            return self

    monkeypatch.setattr("ptune.compare.cells.MemoryPeak", Watching)
    monkeypatch.setattr(Learner, "packages", (("rarely-used", "rarely_used"),))
    _learned(Learner(copies=False), setup_on(), SeedRows(examples, examples), 1, {}, tmp_path / "bundle")
    assert was_there == [True]
    sys.modules.pop("rarely_used")
    needed = {name: {package for package, _ in contender.packages} for name, contender in Registry.contenders.items()}
    wanted = {
        "lora": "peft",
        "setfit": "setfit",
        "bilstm": "gensim",
        "tfidf-svm": "scikit-learn",
        "linear-probe": "scikit-learn",
    }
    assert all(package in needed[name] for name, package in wanted.items()) and needed["majority"] == set()
    assert all("torch" in needed[name] for name, one in Registry.contenders.items() if one.needs == "backbone")


def test_a_megabyte_is_a_million_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([10**9, *[10**9 + 3 * 10**6 - 1] * 9])
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=next(sizes)))
    monkeypatch.setattr("ptune.compare.memory.psutil.Process", lambda: process)
    monkeypatch.setattr("ptune.compare.memory._SECONDS", 60)
    with MemoryPeak(thorough=False) as peak:
        pass
    assert peak.mb == 2
    row = make_row("a", 0.9, num_bytes=10**6)
    assert file_size(row.num_bytes) == "1.0 MB" and cost_class(row) == 3 and cost_class(replace(row, num_bytes=10**6 - 1)) == 2


def test_computing_time_is_that_of_all_trials(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Registry.get("tfidf-svm").fit

    def slow(*args: Any, **keywords: Any) -> Fitted:
        time.sleep(0.1)
        if keywords["settings"]["C"] != 1.0:
            raise RuntimeError("too slow")
        return real(*args, **keywords)

    monkeypatch.setattr(Registry.get("tfidf-svm"), "fit", slow)
    spec = spec_of(words, methods=["tfidf-svm"], seeds=[1], trials=3, tests={"other": make_rows(8, seed=5)})
    outcome = run_comparison(spec, tmp_path)
    (cell,) = outcome.cells
    fits = [json.loads(path.read_text())["train_seconds"] for path in (tmp_path / "fits").iterdir()]
    assert len(fits) == 3 and min(fits) >= 0.1 and cell.predict_seconds is not None
    assert summarise(outcome).seconds == pytest.approx(sum(fits) + cell.predict_seconds * 28 / 1000)
    again = run_comparison(spec, tmp_path)
    assert again.num_computed == 0 and summarise(again).seconds == summarise(outcome).seconds
