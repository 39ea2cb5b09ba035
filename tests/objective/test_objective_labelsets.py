"""Figures of sets of labels against scikit-learn, and by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from ptune.errors import DataError
from ptune.objective import label_set_report

NAMES = ("art", "law", "sport")
rows_of_sets = st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=25)


@given(rows_of_sets)
def test_figures_are_those_of_scikit_learn(rows):
    true, predicted = zip(*rows, strict=True)
    report = label_set_report(true, predicted, NAMES)
    binary = MultiLabelBinarizer(classes=NAMES)
    right, guess = binary.fit_transform(true), binary.transform(predicted)
    assert report.score == pytest.approx(f1_score(right, guess, average="micro", zero_division=0))
    assert report.exact == pytest.approx(accuracy_score(right, guess))
    seen = [number for number in range(3) if right[:, number].any() or guess[:, number].any()]
    macro = f1_score(right[:, seen], guess[:, seen], average="macro", zero_division=0) if len(seen) > 1 else report.macro_f1
    assert report.macro_f1 == pytest.approx(macro)
    expected = precision_recall_fscore_support(right, guess, zero_division=0)
    for number, name in enumerate(NAMES):
        mine = report.classes[name]
        assert [mine.precision, mine.recall, mine.f1, mine.num_rows] == pytest.approx([column[number] for column in expected])


def test_by_hand():
    """Decisions: 3 true, 4 predicted, 2 right: precision 1/2, recall 2/3; one whole set of three right."""
    report = label_set_report([{"art"}, {"art", "law"}, set()], [["art"], ["law", "sport"], ["art"]], NAMES)
    assert (report.metric, report.score) == ("micro_f1", pytest.approx(4 / 7))
    assert (report.precision, report.recall, report.exact) == (1 / 2, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert report.macro_f1 == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert report.interval[0] < report.exact < report.interval[1]


def test_text_and_json():
    report = label_set_report([["art"], ["law"]], [["art"], []], ["art", "law"])
    lines = report.lines()
    assert lines[0].startswith("micro-F1 0.667 (precision 1.000, recall 0.500), macro-F1 0.500, whole set right 0.500 (95 %")
    assert lines[1:] == [
        "  art  precision 1.000  recall 1.000  F1 1.000  rows 1",
        "  law  precision 0.000  recall 0.000  F1 0.000  rows 1",
    ]
    assert str(report) == "\n".join(lines)
    assert json.loads(json.dumps(report.to_dict()))["classes"]["art"]["f1"] == 1.0
    empty = label_set_report([], [], [])
    assert (empty.score, empty.macro_f1, empty.exact) == (0.0, 0.0, 0.0)


def test_what_cannot_be_judged():
    with pytest.raises(DataError, match="0 predicted sets of labels for 1 rows"):
        label_set_report([["art"]], [], NAMES)
    with pytest.raises(DataError, match=r"row 1: unknown label 'arts' \(did you mean 'art'\?\)"):
        label_set_report([["art"]], [["arts"]], NAMES)
