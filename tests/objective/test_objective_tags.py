"""Figures of tags against nervaluate's strict counts, a plain count of sets, and conlleval's own worked example."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator

from ptune.errors import DataError
from ptune.objective import tag_report

NAMES = ("LOC", "PER")


@st.composite
def tagged_rows(draw):
    """True and predicted BIO rows of equal lengths, the predicted ones with mistakes of every kind but I behind O."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))

    def row(length):
        tags = []
        for _ in range(length):
            goes_on = [f"I-{tags[-1][2:]}"] if tags and tags[-1] != "O" else []
            tags.append(draw(st.sampled_from(["O", "B-LOC", "B-PER", *goes_on * 2])))
        return tags

    return [row(length) for length in lengths], [row(length) for length in lengths]


@given(tagged_rows())
def test_figures_are_those_of_nervaluate(rows):
    true, predicted = rows
    report = tag_report(true, predicted)
    found = Evaluator(true, predicted, tags=list(NAMES), loader="list").evaluate()
    overall = found["overall"]["strict"]
    assert [report.precision, report.recall, report.score] == pytest.approx([overall.precision, overall.recall, overall.f1])
    for name, figures in report.types.items():
        theirs = found["entities"][name]["strict"]
        assert [figures.precision, figures.recall, figures.f1] == pytest.approx([theirs.precision, theirs.recall, theirs.f1])


@given(tagged_rows())
def test_a_perfect_prediction_and_the_two_sides(rows):
    true, predicted = rows
    here, there = tag_report(true, predicted), tag_report(predicted, true)
    assert (here.precision, here.recall) == (there.recall, there.precision)
    assert here.score == pytest.approx(there.score) and here.accuracy == there.accuracy
    same = tag_report(true, true)
    assert same.accuracy == 1 and same.score == (1.0 if same.num_true else 0.0)


def test_by_hand():
    """Three true spans, four predicted, two of them right: precision 1/2, recall 2/3, F1 4/7; 6 of 8 tokens."""
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "I-LOC", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "B-LOC", "I-LOC", "O"]]
    report = tag_report(true, predicted)
    assert (report.metric, report.score) == ("f1", pytest.approx(4 / 7))
    assert (report.precision, report.recall, report.accuracy) == (pytest.approx(1 / 2), pytest.approx(2 / 3), 6 / 8)
    assert (report.num_rows, report.num_tokens, report.num_true, report.num_predicted) == (2, 8, 3, 4)
    assert report.types["LOC"].f1 == pytest.approx(1 / 2) and report.types["PER"].f1 == pytest.approx(2 / 3)
    assert report.macro_f1 == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_schemes_may_differ():
    report = tag_report([["B-PER", "I-PER", "O"]], [["B-PER", "E-PER", "O"]])
    assert report.score == 1.0 and report.accuracy == pytest.approx(2 / 3)


def test_text_and_json():
    report = tag_report([["B-PER", "O"], ["B-LOC", "O"]], [["B-PER", "O"], ["O", "O"]])
    assert report.lines() == [
        "F1 0.667 of 2 spans (precision 1.000, recall 0.500), token accuracy 0.750, 2 rows",
        "  LOC  precision 0.000  recall 0.000  F1 0.000  spans 1",
        "  PER  precision 1.000  recall 1.000  F1 1.000  spans 1",
    ]
    assert str(report) == "\n".join(report.lines())
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain and plain["metric"] == "f1"
    empty = tag_report([], [])
    assert (empty.score, empty.accuracy, empty.macro_f1) == (0.0, 0.0, 0.0) and len(empty.lines()) == 1


def test_counts_that_do_not_fit():
    with pytest.raises(DataError, match="1 rows of predicted tags for 2 rows"):
        tag_report([["O"], ["O"]], [["O"]])
    with pytest.raises(DataError, match="row 2: 2 predicted tags for 1 tokens"):
        tag_report([["O"], ["O"]], [["O"], ["O", "O"]])
