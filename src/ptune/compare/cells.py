"""One cell of a comparison: a contender on a model, with so many shots, on one seed. What is kept is not computed again.

In: a contender, its `Setup`, the rows. Out: `Cell` with the choice among trials and the probabilities of each test set, or the
reason why there is nothing. The choice is made on validation rows alone (accuracy, then loss, then order); test rows are only
ever predicted, with the chosen setting. Predictions are timed on some of the rows, with nothing kept from other cells.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ptune.backbone import SharedContexts
from ptune.compare.baselines.optional import MissingPackage, need, package_version
from ptune.compare.contender import Contender, Fitted, Probabilities, Setup, look_of
from ptune.compare.memory import MemoryPeak
from ptune.compare.samples import Pools, SeedRows, digest
from ptune.compare.store import Fit, Store, files_of, key_of
from ptune.data import Example, fingerprint
from ptune.errors import PtuneError
from ptune.template import resolve

__all__ = ["Cell", "CellRunner"]

_NUM_TIMED = 32
_ENOUGH_TO_TIME = 10
_FORMAT = 3
_WORTH_COLLECTING = 50


@dataclass(frozen=True)
class Cell:
    """What one cell gave.

    Args:
        method, backbone, shots, seed: which; `backbone` is empty for contenders that need none.
        fit: the chosen one, None where there is only a reason.
        key: under which the chosen fit is kept.
        num_trials: settings that were tried for the choice.
        learn_seconds: of all trials together, failed ones too.
        probabilities: of each test set, in its order.
        predict_seconds: of a thousand texts.
        num_unlabelled: texts without labels that it was given.
        reason: why there is nothing; empty where there is something.
        was_computed: whether anything was computed now, rather than kept from before.
        was_learned: whether all of its fits were computed now.
    """

    method: str
    backbone: str
    shots: int
    seed: int
    fit: Fit | None = None
    key: str = ""
    num_trials: int = 0
    learn_seconds: float = 0.0
    probabilities: Mapping[str, Probabilities] = field(default_factory=dict)
    predict_seconds: float | None = None
    num_unlabelled: int = 0
    reason: str = ""
    was_computed: bool = False
    was_learned: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the probabilities."""
        left_out = ("probabilities", "was_computed", "was_learned")
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {**values, "fit": None if self.fit is None else asdict(self.fit)}


class CellRunner:
    """Computes cells, or takes them from the store.

    Args:
        store: the comparison's folder.
        pools: its rows.
        retry: whether fits that failed are tried again.
    """

    def __init__(self, store: Store, pools: Pools, *, retry: bool = False) -> None:
        self.store, self.pools, self.retry = store, pools, retry

    def run(
        self,
        contender: Contender,
        setup: Setup,
        rows: SeedRows,
        *,
        backbone: str,
        shots: int,
        seed: int,
        trials: Sequence[dict[str, Any]],
    ) -> Cell:
        """One cell.

        Args:
            contender: the method, which refuses nothing here.
            setup: what it is given.
            rows: of this seed.
            backbone: what the model is called; empty for none.
            shots: of each class.
            seed: of the draw and of everything random.
            trials: settings to choose from.
        """
        cell, tally = Cell(contender.name, backbone, shots, seed), _Tally()
        try:
            best, failed = self._best(contender, setup, rows, seed, trials, tally)
        except MissingPackage as error:
            return replace(cell, reason=str(error))
        were_all_learned, num_trials = tally.computed == len(trials), contender.num_trials(trials)
        cell = replace(cell, num_trials=num_trials, learn_seconds=tally.seconds, was_learned=were_all_learned)
        if best is None:
            return replace(cell, reason=failed, was_computed=tally.computed > 0)
        key, fit, fitted = best
        try:
            probabilities, seconds = self._predictions(contender, setup, rows, seed, key, fit, fitted, tally)
        except Exception as error:  # a run of hours goes on
            return replace(cell, reason=_reason(error), was_computed=True)
        return replace(
            cell,
            fit=fit,
            key=key,
            probabilities=probabilities,
            predict_seconds=seconds,
            num_unlabelled=len(setup.unlabelled[: contender.most_unlabelled]) if contender.uses_unlabelled else 0,
            was_computed=tally.computed > 0,
        )

    def is_kept(
        self, contender: Contender, setup: Setup, rows: SeedRows, *, seed: int, trials: Sequence[dict[str, Any]]
    ) -> bool:
        """Whether a cell costs next to nothing: its fits are all there, and so are their answers, or a task that gives them."""
        kept = {key: self._kept(key) for key in (self.key(contender, setup, rows, seed, settings) for settings in trials)}
        fits = {key: fit for key, fit in kept.items() if fit is not None}
        if len(fits) < len(kept):
            return False
        best = max((key for key in fits if not fits[key].failed), key=lambda key: _look(fits[key]), default=None)
        return best is None or self.store.bundle(best).exists() or not self._missing(best)

    def key(self, contender: Contender, setup: Setup, rows: SeedRows, seed: int, settings: Mapping[str, Any]) -> str:
        """Under which a fit is kept: everything that decides it, and nothing else."""
        facts: dict[str, Any] = {
            "format": _FORMAT,
            "ptune": version("ptune"),
            "contender": contender.identity,
            "packages": [package_version(name) for name in dict.fromkeys(name for name, _ in contender.packages)],
            "settings": settings,
            "labels": setup.labels,
            "language": setup.language,
            "steps": setup.steps(len(rows.train)),
            "batch_size": setup.batch_size,
            "train": fingerprint(rows.train),
            "validation": fingerprint(rows.validation),
            "seed": seed,
        }
        if contender.needs == "nothing":
            facts["fields"] = resolve(setup.recipe["template"]).field_names
        else:
            model = setup.model()
            facts |= {"recipe": setup.recipe, "files": files_of(setup.recipe), "backbone": model.fingerprint}
            facts |= {"dtype": str(model.dtype), "text_start": model.text_start}
        if contender.uses_label_counts:
            facts["label_counts"] = setup.label_counts
        if contender.uses_unlabelled:
            facts["unlabelled"] = fingerprint(setup.unlabelled[: contender.most_unlabelled])
        return key_of(facts)

    def _best(
        self,
        contender: Contender,
        setup: Setup,
        rows: SeedRows,
        seed: int,
        trials: Sequence[dict[str, Any]],
        tally: "_Tally",
    ) -> tuple[tuple[str, Fit, Fitted | None] | None, str]:
        """The trial that did best on validation, and why the first one failed; only the best stays in memory."""
        best, failed = None, ""
        for settings in trials:
            one = self._trial(contender, setup, rows, seed, settings, tally)
            tally.seconds += one[1].train_seconds
            if one[1].failed:
                failed = failed or one[1].failed
            elif best is None or _look(one[1]) > _look(best[1]):
                best = one
        return best, failed

    def _trial(
        self,
        contender: Contender,
        setup: Setup,
        rows: SeedRows,
        seed: int,
        settings: dict[str, Any],
        tally: "_Tally",
    ) -> tuple[str, Fit, Fitted | None]:
        """A fit with its key, and what was learned where it was learned just now."""
        key = self.key(contender, setup, rows, seed, settings)
        kept = self._kept(key)
        if kept is not None:
            return key, kept, None
        tally.computed += 1
        fit, fitted = _learned(contender, setup, rows, seed, settings, self.store.bundle(key))
        self.store.put_fit(key, fit)
        return key, fit, fitted

    def _kept(self, key: str) -> Fit | None:
        """A fit that is not computed again."""
        kept = self.store.fit(key)
        return None if kept is not None and kept.failed and self.retry else kept

    def _missing(self, key: str) -> dict[str, Example]:
        """Test texts that were never asked."""
        known = self.store.predictions(key)
        wanted = {digest(row): row for test in self.pools.tests.values() for row in test}
        return {text: row for text, row in wanted.items() if text not in known}

    def _predictions(
        self,
        contender: Contender,
        setup: Setup,
        rows: SeedRows,
        seed: int,
        key: str,
        fit: Fit,
        fitted: Fitted | None,
        tally: "_Tally",
    ) -> tuple[dict[str, Probabilities], float | None]:
        """Of all test sets; only texts that were never asked are asked.

        A task that was just loaded is slow at first: its time counts only where there is no other.
        """
        missing = self._missing(key)
        if missing:
            tally.computed += 1
            is_cold = fitted is None and self.store.bundle(key).exists()
            if is_cold:
                fitted = contender.load(self.store.bundle(key), setup)
            if fitted is None:
                fitted = contender.fit(setup, rows.train, rows.validation, seed=seed, settings=fit.settings)
            asked = [Example(row.fields, where=row.where) for row in missing.values()]
            found, seconds = _answers(fitted, setup.kept, asked)
            old = self.store.predict_seconds(key)
            timed = old if old is not None and (is_cold or len(missing) < _ENOUGH_TO_TIME) else seconds
            self.store.put_predictions(key, dict(zip(missing, found, strict=True)), timed)
        known = self.store.predictions(key)
        tests = {name: np.array([known[digest(row)] for row in test]) for name, test in self.pools.tests.items()}
        return tests, self.store.predict_seconds(key)


@dataclass
class _Tally:
    """How many pieces of a cell were computed now, and how long all its trials took."""

    computed: int = 0
    seconds: float = 0.0


def _answers(fitted: Fitted, kept: SharedContexts, rows: Sequence[Example]) -> tuple[Probabilities, float]:
    """Probabilities of rows, and the seconds of a thousand: by some rows spread over all, as if no other cell had read them."""
    timed = list(range(0, len(rows), -(-len(rows) // _NUM_TIMED)))
    rest = sorted({*range(len(rows))} - {*timed})
    started = time.perf_counter()
    with kept.aside():
        first = fitted.predict([rows[at] for at in timed])
    seconds = time.perf_counter() - started
    found = np.zeros((len(rows), first.shape[1]))
    found[timed] = first
    if rest:
        found[rest] = fitted.predict([rows[at] for at in rest])
    return found, 1000 * seconds / len(timed)


def _look(fit: Fit) -> tuple[float, float]:
    """What the choice among trials goes by."""
    return fit.accuracy, -fit.loss


def _learned(
    contender: Contender, setup: Setup, rows: SeedRows, seed: int, settings: dict[str, Any], bundle: Path
) -> tuple[Fit, Fitted | None]:
    """Learns, looks at validation, and keeps a small task, from which further texts are answered; or says why it failed."""
    backbone = setup.backbone
    own = 0 if backbone is None else sum(one.numel() * one.element_size() for one in backbone.model.parameters()) // 10**6
    started = time.perf_counter()
    try:
        for package, module in contender.packages:  # before the clock and the look at memory
            need(module, package)
        with MemoryPeak(thorough=own > _WORTH_COLLECTING) as peak:
            started = time.perf_counter()
            fitted = contender.fit(setup, rows.train, rows.validation, seed=seed, settings=settings)
            seconds = time.perf_counter() - started
        accuracy, loss = look_of(fitted.predict(rows.validation), setup.classes(rows.validation))
        fitted.save(bundle)
    except MissingPackage:
        raise
    except Exception as error:  # becomes the cell's reason
        return Fit(settings, train_seconds=time.perf_counter() - started, failed=_reason(error)), None
    fit = Fit(
        settings,
        accuracy,
        loss,
        seconds,
        max(peak.mb, own) if contender.copies_model else peak.mb + own,
        fitted.num_trained,
        fitted.num_bytes,
        [point.to_dict() for point in fitted.curve],
        fitted.facts,
    )
    return fit, fitted


def _reason(error: Exception) -> str:
    """What went wrong in one line; our own errors say it themselves."""
    return str(error) if isinstance(error, PtuneError) else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
