"""Few-shot samples and held-out rows: examples and a seed go in, the same choice comes out on every machine.

The choice is a function of content and seed: neither the order of the rows nor the file they came from matters, and
with one seed the rows of a smaller sample are among those of a larger one.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence

from ptune.data.example import Example, LabelSet
from ptune.errors import DataError

__all__ = ["fingerprint", "hold_out", "sample_rows", "sample_shots"]


def fingerprint(examples: Iterable[Example]) -> str:
    """The SHA-256 of fields and labels, in order, as 64 hexadecimal digits; `where` does not count."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(_content(example).encode("ascii") + b"\n")
    return digest.hexdigest()


def sample_shots(examples: Sequence[Example], k: int, *, seed: int, labels: LabelSet) -> tuple[Example, ...]:
    """Draws `k` examples of each class without replacement, in a shuffled order.

    Args:
        examples: rows to draw from; those without a label of `labels` are never drawn.
        k: shots for each class.
        seed: of this sample alone; no other random state is read or changed.
        labels: the classes.

    Returns:
        `k * len(labels)` examples.

    Raises:
        DataError: `k` is below 1, or a class has fewer rows.
    """
    if k < 1:
        raise DataError(f"{k} shots for each class leave nothing to learn from", fix="set shots to 1 or more")
    rng = random.Random(seed)
    pools = {name: [example for example in examples if example.label == name] for name in labels.names}
    chosen: list[Example] = []
    for name, pool in pools.items():
        if len(pool) < k:
            smallest = min(map(len, pools.values()))
            fix = f"lower shots to {smallest} or add rows" if smallest else "add rows or take the class out of labels"
            raise DataError(f"class '{name}' has fewer rows ({len(pool)}) than the shots asked for ({k})", fix=fix)
        chosen += _shuffled(pool, rng)[:k]
    rng.shuffle(chosen)
    return tuple(chosen)


def sample_rows(examples: Sequence[Example], k: int, *, seed: int) -> tuple[Example, ...]:
    """Draws `k` examples without replacement, in a shuffled order: for tasks that have no classes.

    Args:
        examples: rows to draw from.
        k: how many.
        seed: of this sample alone.

    Raises:
        DataError: `k` is below 1, or there are fewer rows.
    """
    if k < 1:
        raise DataError(f"{k} shots leave nothing to learn from", fix="set shots to 1 or more")
    if len(examples) < k:
        what = f"there are fewer rows ({len(examples)}) than the shots asked for ({k})"
        raise DataError(what, fix=f"lower shots to {len(examples)} or add rows")
    return tuple(_shuffled(list(examples), random.Random(seed))[:k])


def hold_out(
    examples: Sequence[Example], *, per_class: int | None = None, fraction: float | None = None, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Splits examples in two, class by class; rows without a label count as a class of their own.

    Args:
        examples: the rows.
        per_class: how many rows of each class to hold out; or
        fraction: which part of each class to hold out (rounded, halves up), between 0 and 1.
        seed: of this choice alone.

    Returns:
        The rest and the held-out rows, each in the order of `examples`.

    Raises:
        DataError: not exactly one of the two sizes is given or it is out of range, nothing would be held out, or a
            class would keep no row in the rest.
    """
    _check_size(per_class, fraction)
    rng = random.Random(seed)
    held: set[int] = set()
    for name in sorted({example.label for example in examples}, key=lambda label: (label is not None, label or "")):
        pool = [(example, index) for index, example in enumerate(examples) if example.label == name]
        count = per_class if per_class is not None else int(len(pool) * (fraction or 0) + 0.5)
        if count >= len(pool):
            who = "the rows without a label" if name is None else f"class '{name}'"
            what = f"holding out {count} of {len(pool)} from {who} leaves none to learn from"
            raise DataError(what, fix="hold out fewer or add rows")
        pool.sort(key=lambda pair: _content(pair[0]))
        rng.shuffle(pool)
        held.update(index for _, index in pool[:count])
    if not held:
        raise DataError(f"a fraction of {fraction} of each class holds out no row", fix="raise it or use per_class: 1")
    rest = tuple(example for index, example in enumerate(examples) if index not in held)
    return rest, tuple(examples[index] for index in sorted(held))


def _check_size(per_class: int | None, fraction: float | None) -> None:
    if (per_class is None) == (fraction is None):
        raise DataError("hold_out needs either per_class or fraction", fix="give exactly one of them")
    if per_class is not None and per_class < 1:
        raise DataError(f"per_class is {per_class}", fix="set it to 1 or more")
    if fraction is not None and not 0 < fraction < 1:
        raise DataError(f"fraction is {fraction}", fix="set it between 0 and 1")


def _shuffled(pool: list[Example], rng: random.Random) -> list[Example]:
    """The pool in an order that depends on its content and the generator, not on the order it came in."""
    ordered = sorted(pool, key=_content)
    rng.shuffle(ordered)
    return ordered


def _content(example: Example) -> str:
    """Fields and label as one canonical line of ASCII."""
    return json.dumps([dict(example.fields), example.label], sort_keys=True, separators=(",", ":"))
