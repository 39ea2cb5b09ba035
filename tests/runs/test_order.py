"""The order of training rows: every row once an epoch, the same by seed, and little padding where that is asked for."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ptune
from ptune.train.order import epoch_batches
from tiny import tiny_backbone


@given(st.integers(1, 200), st.integers(1, 17), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_every_row_once_in_batches_of_the_size(num_rows: int, size: int, seed: int, epoch: int, is_grouped: bool) -> None:
    lengths = [random.Random(number).randint(1, 90) for number in range(num_rows)] if is_grouped else None
    batches = epoch_batches(num_rows, size, seed=seed, epoch=epoch, lengths=lengths)
    assert sorted(row for batch in batches for row in batch) == list(range(num_rows))
    assert max(map(len, batches)) <= size and len(batches) == -(-num_rows // size)
    assert batches == epoch_batches(num_rows, size, seed=seed, epoch=epoch, lengths=lengths)


def test_each_epoch_has_another_order() -> None:
    lengths = [number % 37 for number in range(300)]
    for given_lengths in (None, lengths):
        first, second = (epoch_batches(300, 8, seed=1, epoch=epoch, lengths=given_lengths) for epoch in (0, 1))
        assert first != second and {frozenset(batch) for batch in first}.isdisjoint(frozenset(batch) for batch in second)


def test_grouped_rows_are_padded_little() -> None:
    lengths = [random.Random(number).randint(10, 200) for number in range(400)]

    def padded(batches: list[list[int]]) -> int:
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    plain = padded(epoch_batches(400, 8, seed=0, epoch=0))
    grouped = padded(epoch_batches(400, 8, seed=0, epoch=0, lengths=lengths))
    assert grouped < 1.15 * sum(lengths) < 1.5 * sum(lengths) < plain


@pytest.mark.parametrize("stop_at", [3, 7])
def test_a_grouped_run_goes_on_where_it_stopped(stop_at: int, tmp_path: object) -> None:
    rows = [{"text": "good " * (1 + number % 9), "label": "ab"[number % 2]} for number in range(22)]
    words = {"backbone": tiny_backbone("llama"), "template": "{text}{soft:2}{mask}", "labels": {"a": "good", "b": "bad"}}
    words |= {"train": rows, "group_by_length": True, "batch_size": 4, "steps": 10, "save_every": 1, "seed": 3}

    def stop(event: object) -> None:
        if getattr(event, "kind", "") == "step" and getattr(event, "step", 0) == stop_at:
            raise KeyboardInterrupt

    whole = ptune.fit(out=f"{tmp_path}/whole", **words)
    with pytest.raises(KeyboardInterrupt):
        ptune.fit(out=f"{tmp_path}/part", listeners=[stop], **words)
    resumed = ptune.fit(out=f"{tmp_path}/part", resume=True, **words)
    assert resumed.facts["training"]["last_loss"] == whole.facts["training"]["last_loss"]
