"""Runs a comparison: every method on every model, with every number of shots, on every seed.

In: a `Spec` and a folder. Out: `Outcome`: all cells, each with figures or with the reason why it has none. Loaded models and
kept contexts are shared by all cells of a process. Seeds are the outermost loop, so that a run that ends early has all methods
on few seeds rather than few methods on all. With a budget a cell only begins where it is expected to end in time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ptune.backbone import Backbone, SharedContexts, load_backbone
from ptune.compare.cells import Cell, CellRunner
from ptune.compare.contender import Setup
from ptune.compare.samples import Pools, SeedRows, make_pools, ranked, rows_of_seed
from ptune.compare.spec import Line, Spec, name_of
from ptune.compare.store import Store
from ptune.compare.timing import Clock
from ptune.data import Example, has_splits, read_examples
from ptune.errors import PtuneError
from ptune.recipe import Recipe, read_splits
from ptune.template import dominant_script

__all__ = ["Comparison", "Outcome", "run_comparison"]

Say = Callable[[str], None]
_MOST_TEXTS_FOR_SCRIPT = 100
_OF_ONE_RUN = ("shots", "hold_out", "augment", "patience", "keep_candidates", "temperature")
"""Recipe keys that choose rows, or that are only allowed where rows were chosen."""


@dataclass(frozen=True)
class Outcome:
    """What a comparison gave.

    Args:
        spec: what was asked for.
        pools: the rows.
        labels: names in order.
        language: of the texts.
        cells: in the order of methods, models, shots and seeds.
        seconds: of this call.
        num_computed: cells that were computed in it; the others were there.
    """

    spec: Spec
    pools: Pools
    labels: tuple[str, ...]
    language: str
    cells: tuple[Cell, ...]
    seconds: float
    num_computed: int


@dataclass
class Comparison:
    """A comparison that is ready to run.

    Args:
        spec: what is asked for.
        folder: where results are kept.
        retry: whether fits that failed are tried again.
        num_processes: that run it side by side, and share the memory for contexts: a quarter of what is free.
    """

    spec: Spec
    folder: Path
    retry: bool = False
    num_processes: int = 1
    _chosen: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    _loaded: dict[str, Backbone | PtuneError] = field(default_factory=dict)
    _rows: dict[tuple[int, int], SeedRows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe = Recipe.of(
            {key: value for key, value in self.spec.recipe.items() if key not in _OF_ONE_RUN}, where=self.spec.name
        )
        splits = read_splits(recipe)
        settings = self.spec.settings
        self.labels = recipe.label_names()
        others = {name: _other_rows(source, recipe) for name, source in settings.tests.items()}
        further = (name for contender in self.spec.contenders for name in contender.own_fields)
        self.pools = make_pools(
            splits.train,
            splits.validation,
            splits.test,
            labels=self.labels,
            test_rows=settings.test_rows,
            fields=tuple(dict.fromkeys((*recipe.parsed_template().field_names, *further))),
            others=others,
            other_rows=settings.other_rows,
        )
        self._label_counts = tuple(sum(row.label == name for row in self.pools.train) for name in self.labels)
        unlabelled = ranked(self.pools.train, "unlabelled")[: settings.unlabelled]
        self.unlabelled = tuple(Example(row.fields) for row in unlabelled)
        self.kept = SharedContexts(psutil.virtual_memory().available // (4 * self.num_processes))
        self.runner = CellRunner(Store(self.folder), self.pools, retry=self.retry)
        self._steps = recipe.train_settings().num_steps
        self._batch_size = recipe.batch_size
        for shots in self.spec.all_shots:
            for seed in settings.seeds:  # too few rows are an error before any work
                self.rows(shots, seed)

    def rows(self, shots: int, seed: int) -> SeedRows:
        """What a seed learns from and chooses on."""
        if (shots, seed) not in self._rows:
            wanted = self.spec.settings.validation_shots or shots
            self._rows[shots, seed] = rows_of_seed(self.pools, self.labels, shots, wanted, seed)
        return self._rows[shots, seed]

    def cell(self, line: Line, seed: int) -> Cell:
        """One cell of a line that can run; the first seed of a line chooses for all, or each for itself."""
        at = (line.contender.name, line.backbone_name, line.shots)
        cell = self.runner.run(
            line.contender,
            self._setup(line),
            self.rows(line.shots, seed),
            backbone=line.backbone_name,
            shots=line.shots,
            seed=seed,
            trials=self.trials(line, seed),
        )
        if cell.fit is not None:
            carried = line.contender.carried(cell.fit.settings, cell.fit.facts)
            self._chosen.setdefault(at, carried)  # of the first seed that gave figures
        return cell

    def refusal(self, line: Line) -> str:
        """Why a line cannot run, however much time there is; empty where it can. Its model is loaded for that."""
        loaded = None if line.backbone is None else self._load(line.backbone)
        if isinstance(loaded, PtuneError):
            return str(loaded)
        return line.contender.refusal(self._setup(line))

    def trials(self, line: Line, seed: int) -> list[dict[str, Any]]:
        """The settings of a cell: all of them on the first seed, then the one that was chosen there."""
        settings = self.spec.settings
        chosen = self._chosen.get((line.contender.name, line.backbone_name, line.shots))
        if settings.tune_on == "first" and seed != settings.seeds[0] and chosen is not None:
            return [chosen]
        return line.contender.trials(settings.trials)

    def is_kept(self, line: Line, seed: int) -> bool:
        """Whether a cell is there, so that it costs next to nothing."""
        rows, trials = self.rows(line.shots, seed), self.trials(line, seed)
        return self.runner.is_kept(line.contender, self._setup(line), rows, seed=seed, trials=trials)

    def num_steps(self, num_rows: int) -> int:
        """Optimiser steps for so many rows: what the recipe says, the same for all."""
        return self._steps(num_rows)

    def _setup(self, line: Line) -> Setup:
        backbone = None if line.backbone is None else self._load(line.backbone)
        assert not isinstance(backbone, PtuneError)  # see `refusal`
        return Setup(
            self.labels,
            self.language,  # type: ignore[arg-type]
            self.spec.words,
            backbone,
            self.num_steps,
            self._batch_size,
            self.unlabelled,
            self._label_counts,
            self.kept,
        )

    @property
    def language(self) -> str:
        """Of the training texts."""
        names = Recipe.of(self.spec.recipe, where=self.spec.name).parsed_template().field_names
        texts = [str(row.fields[name]) for row in self.pools.train[:_MOST_TEXTS_FOR_SCRIPT] for name in names]
        return "zh" if dominant_script("\n".join(texts)) == "unspaced" else "en"

    def _load(self, source: Any) -> Backbone | PtuneError:
        """A model, loaded once; one that cannot be loaded gives its reason to each of its cells."""
        name = name_of(source)
        if name not in self._loaded:
            words = {key: self.spec.recipe[key] for key in ("dtype", "device", "text_start") if key in self.spec.recipe}
            try:
                self._loaded[name] = load_backbone(source, **words)
            except PtuneError as error:
                self._loaded[name] = error
        return self._loaded[name]


def run_comparison(
    spec: Spec,
    folder: str | Path,
    *,
    budget_seconds: float | None = None,
    retry: bool = False,
    share: tuple[int, int] | None = None,
    say: Say = lambda line: None,
) -> Outcome:
    """Runs a comparison, or goes on with it.

    Args:
        spec: what to compare.
        folder: where results are kept; what is there already is not computed again.
        budget_seconds: how long this call may take; cells that would take longer get that as their reason.
        retry: try again what failed.
        share: (number, of how many): this process runs every so manieth line only, others run the rest.
        say: told what happens.

    Raises:
        PtuneError: rows that cannot be read or are too few, before any work.
    """
    started = time.perf_counter()
    comparison = Comparison(spec, Path(folder), retry, 1 if share is None else share[1])
    for remark in comparison.pools.remarks:
        say(remark)
    clock = Clock(budget_seconds, spec)
    cells: dict[tuple[int, int], Cell] = {}
    lines, seeds = spec.lines(), spec.settings.seeds
    order = [at for at in clock.order(lines) if share is None or at % share[1] == share[0]]
    for number, (seed_at, line_at) in enumerate(((one, at) for one in range(len(seeds)) for at in order), 1):
        cell, took = _cell(comparison, clock, lines[line_at], seeds[seed_at])
        cells[line_at, seed_at] = cell
        say(f"{number}/{len(order) * len(seeds)}  {_progress(lines[line_at], cell, took)}")
    ordered = [cells[at] for at in sorted(cells)]
    num_computed = sum(cell.was_computed for cell in ordered)
    return Outcome(
        spec,
        comparison.pools,
        comparison.labels,
        comparison.language,
        tuple(ordered),
        time.perf_counter() - started,
        num_computed,
    )


def _cell(comparison: Comparison, clock: Clock, line: Line, seed: int) -> tuple[Cell, float]:
    """One cell with its seconds, or the reason why it cannot run or why there is no time for it."""
    refusal = comparison.refusal(line)  # first: a model takes its time to load once, and not in every cell
    rows, num_test = comparison.rows(line.shots, seed), len(comparison.pools.test)
    num_trials = line.contender.num_trials(comparison.trials(line, seed))
    if not refusal:
        late = clock.refusal(line, num_trials, rows, num_test)
        refusal = late if late and not comparison.is_kept(line, seed) else ""
    if refusal:
        return Cell(line.contender.name, line.backbone_name, line.shots, seed, reason=refusal), 0.0
    begun = time.perf_counter()
    cell = comparison.cell(line, seed)
    took = time.perf_counter() - begun
    if cell.was_learned:  # one that was partly kept would teach too small a rate
        clock.learn(line, took, num_trials, rows, num_test)
    return cell, took


def _progress(line: Line, cell: Cell, seconds: float) -> str:
    """One line about a cell."""
    head = f"{line}, seed {cell.seed}"
    if cell.fit is None:
        return f"{head}: {cell.reason}"
    return f"{head}: validation {cell.fit.accuracy:.3f}, {seconds:.1f} s{'' if cell.was_computed else ' (kept)'}"


def _other_rows(source: Any, recipe: Recipe) -> tuple[Example, ...]:
    """A further test set, read as the task's own is."""
    rows = read_examples(
        source,
        fields=recipe.parsed_template().field_names,
        label=recipe.label,
        columns=recipe.columns,
        encoding=recipe.encoding,
        split="test" if has_splits(source) else None,
        require_label=True,
    )
    recipe.kind.check_rows(rows, columns={}, labels=recipe.label_names(), is_training=False)
    return rows
