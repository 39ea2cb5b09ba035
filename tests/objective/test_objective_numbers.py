"""Losses of numbers: two-hot weights by their defining property, cross-entropy and squared error by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptune.objective import expected_value, level_loss, squared_loss, two_hot

LEVELS = st.lists(st.integers(-20, 20), min_size=2, max_size=6, unique=True)


@settings(deadline=None)
@given(LEVELS, st.data())
def test_two_hot_weights_have_the_number_as_their_mean(given_levels: list[int], data: st.DataObject) -> None:
    levels = torch.tensor(given_levels, dtype=torch.float64)
    numbers = data.draw(st.lists(st.floats(min(given_levels), max(given_levels)), min_size=1, max_size=4))
    weights = two_hot(torch.tensor(numbers, dtype=torch.float64), levels)
    assert (weights >= 0).all() and weights.sum(1).tolist() == pytest.approx([1.0] * len(numbers))
    assert (weights @ levels).tolist() == pytest.approx(numbers, abs=1e-9)
    ordered = sorted(given_levels)
    for row in weights:
        at = sorted(ordered.index(given_levels[i]) for i in row.nonzero()[:, 0].tolist())
        assert len(at) <= 2 and at[-1] - at[0] <= 1, "only the levels on either side"


def test_numbers_that_are_levels_and_numbers_outside() -> None:
    levels = torch.tensor([3.0, 1.0, 2.0])
    assert two_hot(torch.tensor([1.0, 2.0, 3.0]), levels).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert two_hot(torch.tensor([-5.0, 9.0, 1.25]), levels).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0.75, 0.25]]


def test_losses_by_hand() -> None:
    scores, levels = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]]), torch.tensor([1.0, 2.0, 4.0])
    log = torch.log_softmax(scores, 1)
    by_hand = -(log[0, 1] + 0.5 * log[1, 1] + 0.5 * log[1, 2]) / 2
    torch.testing.assert_close(level_loss(scores, torch.tensor([2.0, 3.0]), levels), by_hand)
    assert expected_value(scores, levels)[1].item() == pytest.approx(7 / 3)
    assert squared_loss(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 4.0]), scale=2.0).item() == pytest.approx(0.5)
