"""Figures of numbers against SciPy and scikit-learn, and by hand."""

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from ptune.errors import DataError
from ptune.objective import ordinal_report

pairs = st.lists(st.tuples(st.integers(1, 5), st.integers(-40, 40).map(lambda number: number / 8)), min_size=2, max_size=30)


@given(pairs)
def test_figures_are_those_of_scipy_and_scikit_learn(rows):
    true, predicted = zip(*rows, strict=True)
    report = ordinal_report(true, predicted)
    assert report.mae == pytest.approx(mean_absolute_error(true, predicted))
    assert report.rmse == pytest.approx(root_mean_squared_error(true, predicted))
    if len(set(true)) > 1 and len(set(predicted)) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy warns of numbers that hardly vary
            assert report.score == pytest.approx(spearmanr(true, predicted).statistic, abs=1e-9)
            assert report.pearson == pytest.approx(pearsonr(true, predicted).statistic, abs=1e-9)
            assert report.score == pytest.approx(pearsonr(rankdata(true), rankdata(predicted)).statistic, abs=1e-9)
    else:
        assert report.score == report.pearson == 0.0


@given(pairs)
def test_ranks_alone_count(rows):
    true, predicted = zip(*rows, strict=True)
    assert ordinal_report(true, [number**3 + 7 for number in predicted]).score == pytest.approx(
        ordinal_report(true, predicted).score
    )


def test_by_hand():
    """Errors 0.2, -0.4, -1.8, 0: mean 0.6, root of mean square sqrt((0.04 + 0.16 + 3.24) / 4)."""
    report = ordinal_report([1, 2, 4, 5], [1.2, 1.6, 2.2, 5.0], levels=[5, 4, 3, 2, 1])
    assert (report.metric, report.score, report.num_rows) == ("spearman", pytest.approx(1.0), 4)
    assert report.mae == pytest.approx(0.6) and report.rmse == pytest.approx((3.44 / 4) ** 0.5)
    assert (report.accuracy, report.within_one) == (0.75, 0.75)  # 2.2 is nearest to 2, two steps from 4
    assert ordinal_report([1, 3], [2.0, 2.0], levels=[1, 3, 9]).accuracy == 0.5  # half-way: the lower level
    assert ordinal_report([1, 9], [3.4, 3.4], levels=[1, 3, 9]).within_one == 1.0  # steps, not distances


def test_text_and_json():
    report = ordinal_report([1, 2, 3], [1.0, 2.0, 2.5], levels=[1, 2, 3])
    assert report.lines() == [
        "Spearman 1.000, Pearson 0.982, mean error 0.167, root mean square 0.289, 3 rows",
        "  nearest level right 0.667, at most one step off 1.000",
    ]
    assert str(report) == "\n".join(report.lines())
    assert len(ordinal_report([1], [1]).lines()) == 1
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain and plain["metric"] == "spearman"
    empty = ordinal_report([], [], levels=[1])
    assert (empty.score, empty.mae, empty.rmse, empty.accuracy) == (0.0, 0.0, 0.0, None)


def test_what_cannot_be_judged():
    with pytest.raises(DataError, match="1 predicted numbers for 2 rows"):
        ordinal_report([1, 2], [1])
    with pytest.raises(DataError, match="row 2: the predicted number is nan"):
        ordinal_report([1, 2], [1, float("nan")])
    with pytest.raises(DataError, match="row 1: the true number is inf"):
        ordinal_report([float("inf")], [1])
    with pytest.raises(DataError, match=r"row 2: the true number 2.5 is none of the levels 1, 2, 3"):
        ordinal_report([1, 2.5], [1, 2], levels=[1, 2, 3])
