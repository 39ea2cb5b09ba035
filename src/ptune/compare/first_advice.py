"""What a data set suggests before anything is measured: rules of thumb, said as such, and the command that measures.

In: `DataFacts`. Out: findings in both languages (`advice` in `sentences.yaml`). Thresholds: a prompt wants four rows of a
label, and up to some 64 of them it tends to beat what starts from nothing; many labels make poor label words.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import psutil

from ptune.backbone import ModelEntry, catalogue
from ptune.compare.recommendation import Finding, finding
from ptune.data import Example

__all__ = ["DataFacts", "advise", "data_facts", "fitting_model"]

_HARDLY_ANY, _FEW = 4, 64
_MANY_LABELS = 20
_UNEVEN = 5
_LONG = 800


@dataclass(frozen=True)
class DataFacts:
    """What counts about a data set.

    Args:
        rows: to learn from.
        labels: how many.
        fewest, most: rows of the rarest and of the commonest label.
        characters: median length of a text.
        language: `en` or `zh`.
        has_test: whether there are test rows.
        free_mb: memory.
    """

    rows: int
    labels: int
    fewest: int
    most: int
    characters: int
    language: str
    has_test: bool
    free_mb: int


def data_facts(rows: Sequence[Example], fields: Sequence[str], *, language: str, has_test: bool) -> DataFacts:
    """Counts labelled rows.

    Args:
        rows: to learn from.
        fields: names of the texts.
        language: of the texts.
        has_test: whether there are test rows.
    """
    counts = Counter(row.label for row in rows if row.label is not None)
    lengths = [sum(len(str(row.fields.get(name, ""))) for name in fields) for row in rows]
    free = psutil.virtual_memory().available // 10**6
    sizes = min(counts.values(), default=0), max(counts.values(), default=0)
    return DataFacts(len(rows), len(counts), *sizes, int(median(lengths or [0])), language, has_test, free)


def fitting_model(language: str, free_mb: int) -> ModelEntry | None:
    """The first causal model of the catalogue for the language that fits into memory twice over, for training."""
    causal = [one for one in catalogue().values() if one.kind == "decoder" and language in one.languages]
    fitting = [one for one in causal if 2 * one.memory_mb <= free_mb]
    return min(fitting, key=lambda one: one.languages.index(language), default=None)


def advise(facts: DataFacts, source: str) -> tuple[Finding, ...]:
    """What the data suggests.

    Args:
        facts: of the data.
        source: how the user named it, for the command.
    """
    return tuple(_advice(facts, source))


def _advice(facts: DataFacts, source: str) -> Iterator[Finding]:
    language = ("English or the like", "英文等") if facts.language == "en" else ("Chinese", "中文")
    counts = {"rows": facts.rows, "labels": facts.labels, "fewest": facts.fewest, "most": facts.most}
    yield finding("advice", "data", **counts, characters=facts.characters, language=language)
    if facts.fewest < _HARDLY_ANY:
        yield finding("advice", "hardly_any", few=_HARDLY_ANY)
    else:
        yield finding("advice", "few" if facts.fewest <= _FEW else "many", **counts)
    if facts.labels > _MANY_LABELS:
        yield finding("advice", "many_labels", **counts)
    if facts.most >= _UNEVEN * max(1, facts.fewest):
        yield finding("advice", "uneven", **counts)
    if facts.characters > _LONG:
        yield finding("advice", "long_texts")
    model = fitting_model(facts.language, facts.free_mb)
    if model is None:
        yield finding("advice", "no_model", free=f"{facts.free_mb:,}")
    else:
        yield finding("advice", "model", model=model.name, memory=f"{model.memory_mb:,}", free=f"{facts.free_mb:,}")
    if not facts.has_test:
        yield finding("advice", "no_test")
    yield finding("advice", "measure", command=f"ptune compare {source} --budget 10m")
