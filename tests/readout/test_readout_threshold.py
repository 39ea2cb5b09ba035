"""The threshold of sets of labels against trying every one, with scikit-learn's micro F1."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ptune.readout import best_log_odds


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_no_threshold_does_better(num_rows: int, num_labels: int, data: st.DataObject) -> None:
    size = num_rows * num_labels
    values = data.draw(st.lists(st.integers(-6, 6), min_size=size, max_size=size))
    true = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    scores = torch.tensor(values).float().view(num_rows, num_labels) / 2
    targets = torch.tensor(true).view(num_rows, num_labels)
    threshold, f1 = best_log_odds(scores, targets)
    if not any(true):
        assert (threshold, f1) == (0.0, 0.0)
        return
    tried = {at: _micro_f1(scores, targets, at) for at in np.unique(scores.numpy()) - 0.01}
    assert f1 == pytest.approx(max(tried.values())) and f1 == pytest.approx(_micro_f1(scores, targets, threshold))


def _micro_f1(scores: torch.Tensor, targets: torch.Tensor, threshold: float) -> float:
    return float(f1_score(targets.flatten().int(), (scores > threshold).flatten().int(), zero_division=0.0))


def test_even_odds_are_kept_where_they_do_as_well() -> None:
    targets = torch.tensor([[True, False], [False, True]])
    assert best_log_odds(torch.tensor([[2.0, -1.0], [-3.0, 4.0]]), targets) == (0.0, 1.0)
    assert best_log_odds(torch.tensor([[2.0, 1.0], [0.5, 4.0]]), targets) == (1.5, 1.0)
    assert best_log_odds(torch.tensor([[-2.0, -4.0], [-4.0, -1.0]]), targets) == (-3.0, 1.0)
