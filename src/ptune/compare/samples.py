"""The rows of a comparison: shots and validation rows of each seed, one test sample for all; chosen so that edits stay local.

A row's place in the order of a seed depends on its own content alone (a hash), not on the other rows: a changed text moves
itself and leaves all others where they were, so that only the cells that hold it are computed again. (`ptune train` shuffles
instead; its sample of the same seed holds other rows.) Rows that stand twice count once. Test rows come from a file of their
own, or are split off before anything else.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptune.data import Example, fingerprint
from ptune.errors import DataError

__all__ = ["Pools", "SeedRows", "digest", "make_pools", "ranked", "rows_of_seed"]

_TEST_SHARE = 0.3


@dataclass(frozen=True)
class Pools:
    """Where rows are drawn from.

    Args:
        train: labelled rows, without those that are tested on.
        validation: rows of a validation file; empty where they are drawn from `train` beside the shots.
        tests: the rows that are judged, by name; the first is the task's own.
        remarks: what was done to get there.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    tests: Mapping[str, tuple[Example, ...]]
    remarks: tuple[str, ...] = ()

    @property
    def test(self) -> tuple[Example, ...]:
        """The task's own test rows."""
        return next(iter(self.tests.values()))


@dataclass(frozen=True)
class SeedRows:
    """What one seed learns from and chooses on."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]


def digest(row: Example) -> str:
    """Of a row's texts, its label left out: the key of its predictions."""
    return fingerprint([Example(row.fields)])[:24]


def make_pools(
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    *,
    labels: Sequence[str],
    test_rows: int | None,
    fields: Sequence[str],
    others: Mapping[str, Sequence[Example]] | None = None,
    other_rows: int | None = None,
) -> Pools:
    """Sorts rows into pools.

    Args:
        train, validation, test: as read; the last two may be empty.
        labels: of the task.
        test_rows: how many rows are judged at most, None for all.
        fields: those that are read; other columns, an id say, make no other text of a row.
        others: further test sets.
        other_rows: how many rows of each are judged at most, None for as many as `test_rows`.

    Raises:
        DataError: a class has no row left to learn from.
    """
    pool, remarks = list(_once(_bare(train, fields))), []
    if len(pool) < len(train):
        remarks.append(f"{len(train) - len(pool)} training rows stand twice and count once")
    judged = list(_bare(test, fields))
    if not judged:
        judged, pool = _split_off(pool, labels, test_rows)
        remarks.append(f"no test file: {len(judged)} rows were split off, {len(pool)} are left to learn from")
    chosen = _first(judged, test_rows, "test")
    if len(chosen) < len(judged):
        remarks.append(f"judged on {len(chosen)} of {len(judged)} test rows, the same for all")
    num_other = other_rows or test_rows
    further = {name: _first(_bare(rows, fields), num_other, "test") for name, rows in (others or {}).items()}
    tests = {"test": chosen} | further
    texts = {digest(row) for rows in tests.values() for row in rows}
    kept = [row for row in pool if digest(row) not in texts]
    if len(kept) < len(pool):
        remarks.append(f"{len(pool) - len(kept)} training rows are test texts too and were left out")
    held = tuple(row for row in _once(_bare(validation, fields)) if digest(row) not in texts)
    return Pools(tuple(kept), held, tests, tuple(remarks))


def rows_of_seed(pools: Pools, labels: Sequence[str], shots: int, num_validation: int, seed: int) -> SeedRows:
    """Shots and validation rows of each class.

    Args:
        pools: where they come from.
        labels: of the task.
        shots: rows of each class to learn from.
        num_validation: rows of each class to choose on.
        seed: of the draw.

    Raises:
        DataError: a class has too few rows.
    """
    train: list[Example] = []
    validation: list[Example] = []
    for label in labels:
        own = ranked([row for row in pools.train if row.label == label], str(seed))
        beside = ranked([row for row in pools.validation if row.label == label], str(seed)) if pools.validation else own[shots:]
        if len(own) < shots or not beside:
            have = f"class '{label}' has {len(own)} rows, {shots} shots and at least one validation row are wanted"
            raise DataError(have, where="compare.shots", fix=f"lower shots to {max(1, len(own) // 2)}, or add rows")
        train += own[:shots]
        validation += beside[:num_validation]
    return SeedRows(ranked(train, f"{seed} order"), ranked(validation, f"{seed} order"))


def _bare(rows: Sequence[Example], fields: Sequence[str]) -> tuple[Example, ...]:
    """Rows with these fields alone."""
    return tuple(
        Example({name: row.fields[name] for name in fields if name in row.fields}, row.label, row.where) for row in rows
    )


def ranked(rows: Sequence[Example], salt: str) -> tuple[Example, ...]:
    """Rows in an order by chance, in which each one's place depends on its own content and `salt`."""
    return tuple(sorted(rows, key=lambda row: hashlib.sha256(f"{salt} {fingerprint([row])}".encode()).digest()))


def _first(rows: Sequence[Example], number: int | None, salt: str) -> tuple[Example, ...]:
    """So many rows, in the order in which they came."""
    if number is None or len(rows) <= number:
        return tuple(rows)
    chosen = {id(row) for row in ranked(rows, salt)[:number]}
    return tuple(row for row in rows if id(row) in chosen)


def _once(rows: Sequence[Example]) -> tuple[Example, ...]:
    return tuple({fingerprint([row]): row for row in rows}.values())


def _split_off(rows: Sequence[Example], labels: Sequence[str], limit: int | None) -> tuple[list[Example], list[Example]]:
    """Test rows, class by class, and the rest."""
    wanted = _TEST_SHARE if limit is None else min(_TEST_SHARE, limit / max(1, len(rows)))
    test: list[Example] = []
    for label in labels:
        own = ranked([row for row in rows if row.label == label], "test")
        test += own[: max(1, round(wanted * len(own)))]
    taken = {id(row) for row in test}
    return [row for row in rows if id(row) in taken], [row for row in rows if id(row) not in taken]
