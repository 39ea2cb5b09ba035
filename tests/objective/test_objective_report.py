"""Losses and figures against independent numbers: scikit-learn, hand computation, Wilson's published interval."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from ptune.errors import TrainError
from ptune.objective import classification_loss, report, wilson

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(rows=pairs)
def test_figures_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    true, predicted = zip(*rows, strict=True)
    names = ["a", "b", "c", "d"]
    figures = report(true, predicted, names)
    assert figures.accuracy == pytest.approx(accuracy_score(true, predicted))
    seen = sorted({*true, *predicted})
    assert figures.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro", labels=seen, zero_division=0))
    assert np.array_equal(np.array(figures.confusion), confusion_matrix(true, predicted, labels=range(4)))
    expected = precision_recall_fscore_support(true, predicted, labels=range(4), zero_division=0)
    for number, name in enumerate(names):
        mine = figures.classes[name]
        assert [mine.precision, mine.recall, mine.f1, mine.num_rows] == pytest.approx([column[number] for column in expected])
    low, high = figures.interval
    assert 0 <= low <= figures.accuracy <= high <= 1


def test_wilsons_interval_against_published_values() -> None:
    """Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (num_right, num_rows), interval in published.items():
        assert wilson(num_right, num_rows) == pytest.approx(interval, abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(20, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


def test_a_report_prints_itself_and_becomes_json() -> None:
    figures = report([0, 0, 1, 2], [0, 1, 1, 2], ["negative", "neutral", "positive"], loss=0.5)
    lines = str(figures).splitlines()
    assert lines[0].startswith("accuracy 0.750 (95 % interval 0.301 to 0.954), macro-F1 0.778, 4 rows")
    assert len(lines) == 4 and lines[1].split()[:3] == ["negative", "precision", "1.000"]
    assert json.loads(json.dumps(figures.to_dict()))["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    empty = report([], [], ["a", "b"])
    assert (empty.accuracy, empty.macro_f1, empty.num_rows) == (0.0, 0.0, 0)
    with pytest.raises(ValueError, match="shorter"):
        report([0, 1], [0], ["a", "b"])


def test_the_loss_is_the_log_loss_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = (
        torch.randn(12, 3, generator=generator, dtype=torch.float64),
        torch.randint(0, 3, (12,), generator=generator),
    )
    probabilities = torch.softmax(scores, 1).numpy()
    assert float(classification_loss(scores, labels)) == pytest.approx(
        log_loss(labels.numpy(), probabilities, labels=[0, 1, 2])
    )
    weights = [1.0, 2.0, 0.5]
    weighted = log_loss(labels.numpy(), probabilities, labels=[0, 1, 2], sample_weight=[weights[i] for i in labels])
    assert float(classification_loss(scores, labels, class_weights=weights)) == pytest.approx(weighted)
    smooth = -(0.9 * torch.log_softmax(scores, 1)[torch.arange(12), labels] + 0.1 * torch.log_softmax(scores, 1).mean(1)).mean()
    assert float(classification_loss(scores, labels, label_smoothing=0.1)) == pytest.approx(float(smooth))


def test_losses_without_labels_or_with_too_few_weights_are_errors() -> None:
    scores = torch.zeros(2, 3)
    with pytest.raises(TrainError, match="without a label"):
        classification_loss(scores, torch.tensor([0, -1]))
    with pytest.raises(TrainError, match="2 class weights for 3 classes"):
        classification_loss(scores, torch.tensor([0, 1]), class_weights=[1.0, 2.0])
