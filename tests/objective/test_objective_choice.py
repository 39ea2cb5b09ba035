"""The report of choices against scikit-learn's accuracy and by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from ptune.errors import DataError
from ptune.objective import TaskReport, choice_report, wilson


@given(
    st.lists(
        st.integers(2, 5).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.just(n))), min_size=1
    )
)
def test_accuracy_interval_and_chance(rows: list[tuple[int, int, int]]) -> None:
    true, chosen, counts = zip(*rows, strict=True)
    report = choice_report(true, chosen, counts, loss=0.5)
    assert isinstance(report, TaskReport)
    assert report.score == pytest.approx(accuracy_score(true, chosen))
    assert report.interval == wilson(sum(a == b for a, b in zip(true, chosen, strict=True)), len(rows))
    assert report.chance == pytest.approx(sum(1 / count for count in counts) / len(rows))
    assert report.to_dict()["metric"] == "accuracy" and report.num_rows == len(rows) and report.loss == 0.5


def test_what_it_says() -> None:
    assert str(choice_report([0, 1], [0, 0], [2, 4])) == "accuracy 0.500 (95 % interval 0.095 to 0.905), guessing 0.375, 2 rows"
    assert choice_report([], [], []).score == 0.0


@pytest.mark.parametrize(("true", "chosen", "counts"), [([0], [0, 1], [2]), ([2], [0], [2]), ([0], [5], [2]), ([-1], [0], [2])])
def test_numbers_that_are_no_choices(true: list[int], chosen: list[int], counts: list[int]) -> None:
    with pytest.raises(DataError):
        choice_report(true, chosen, counts)
