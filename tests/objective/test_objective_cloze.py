"""Figures of ranks by hand and by brute force."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.errors import DataError
from ptune.objective import TaskReport, cloze_report, wilson


@given(st.lists(st.none() | st.integers(1, 30), min_size=1))
def test_figures_of_ranks(ranks: list[int | None]) -> None:
    report = cloze_report(ranks)
    assert isinstance(report, TaskReport)
    known = [rank for rank in ranks if rank]
    assert report.score == ranks.count(1) / len(ranks) and report.interval == wilson(ranks.count(1), len(ranks))
    assert report.at_10 == pytest.approx(len([rank for rank in known if rank < 11]) / len(ranks))
    assert report.mrr == pytest.approx(sum(1 / rank for rank in known) / len(ranks))
    assert report.reachable == len(known) / len(ranks)
    assert report.score_of_reachable == pytest.approx(ranks.count(1) / len(known) if known else 0)


def test_what_they_say() -> None:
    lines = cloze_report([1, 4, None, 20]).lines()
    assert lines[0] == ("precision at 1 0.250 (95 % interval 0.046 to 0.699), at 10 0.500, mean reciprocal rank 0.325, 4 rows")
    assert lines[1] == "  one token of the model 0.750, of those right 0.333"
    assert cloze_report([]).to_dict()["score_of_reachable"] == 0.0
    with pytest.raises(DataError):
        cloze_report([0])
