"""Intervals cover the truth on simulated results, a method does not differ from itself, and known cases come out as by hand."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptune.compare.statistics import compare, estimate

MEAN, ROW_SPREAD = 1.0, 1.2
NUM_WORLDS = 400


def simulated(
    rng: np.random.Generator, difficulty: NDArray[np.float64], num_seeds: int, seed_spread: float
) -> NDArray[np.float64]:
    """Right answers of one method: a row's difficulty, a seed's luck, and a rest of its own, as a probit model."""
    luck = rng.normal(0, seed_spread, (num_seeds, 1))
    return (difficulty + luck + rng.normal(0, 1, (num_seeds, len(difficulty))) > 0).astype(float)


def share(seed_spread: float, shift: float = 0.0) -> float:
    """What the simulated method gets right over all rows and seeds: the integral of the probit model."""
    return NormalDist().cdf((MEAN + shift) / np.sqrt(ROW_SPREAD**2 + 1 + seed_spread**2))


WORLDS = [(1, 100, 0.0), (3, 60, 0.1), (3, 300, 0.25), (5, 300, 0.25)]


@pytest.mark.parametrize(("num_seeds", "num_rows", "seed_spread"), WORLDS)
def test_intervals_cover_the_truth_about_95_percent_of_the_time(num_seeds: int, num_rows: int, seed_spread: float) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(NUM_WORLDS):
        rows = rng.normal(MEAN, ROW_SPREAD, num_rows)
        found = estimate(simulated(rng, rows, num_seeds, seed_spread))
        covered += found.low <= share(seed_spread) <= found.high
    assert 0.93 <= covered / NUM_WORLDS <= 0.99


@pytest.mark.parametrize(("num_seeds", "num_rows", "seed_spread"), WORLDS)
def test_differences_cover_the_truth_too(num_seeds: int, num_rows: int, seed_spread: float) -> None:
    """The second method is better by a fixed shift; both answer the same rows."""
    rng = np.random.default_rng(8)
    truth, covered = share(seed_spread) - share(seed_spread, 0.3), 0
    for _ in range(NUM_WORLDS):
        rows = rng.normal(MEAN, ROW_SPREAD, num_rows)
        one, other = (simulated(rng, rows + shift, num_seeds, seed_spread) for shift in (0.0, 0.3))
        found = compare(one, other)
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / NUM_WORLDS <= 0.99


ACCURATE = [(1, 300, 0.0, 0.3), (3, 100, 0.1, 0.3), (3, 300, 0.2, 0.3), (5, 100, 0.2, 0.5)]


@pytest.mark.parametrize(("num_seeds", "num_rows", "seed_spread", "shift"), ACCURATE)
def test_accurate_methods_are_covered_too(num_seeds: int, num_rows: int, seed_spread: float, shift: float) -> None:
    """An accuracy of 0.97: few rows are wrong, and few tell the methods apart."""
    rng = np.random.default_rng(7)
    easy, truth, covered = 2.0, share(seed_spread, 2.0), np.zeros(2)
    for _ in range(NUM_WORLDS):
        rows = rng.normal(MEAN + easy, ROW_SPREAD, num_rows)
        one, other = (simulated(rng, rows + more, num_seeds, seed_spread) for more in (0.0, shift))
        alone, paired = estimate(one), compare(one, other)
        gap = truth - share(seed_spread, easy + shift)
        covered += alone.low <= truth <= alone.high, paired.low <= gap <= paired.high
    assert truth >= 0.97 and covered.min() / NUM_WORLDS >= 0.93


@pytest.mark.parametrize(
    ("num_rows", "gain", "loss"), [(300, 1, 0), (300, 3.5, 0), (300, 5.6, 0), (300, 4, 1), (300, 8, 2), (100, 8, 1)]
)
def test_few_rows_that_differ_are_covered(num_rows: int, gain: float, loss: float) -> None:
    """Rows that one method alone answers, and rows that the other one does: so many of them on average."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(NUM_WORLDS):
        place = rng.random((1, num_rows)) * num_rows
        found = compare((place < gain).astype(float), ((gain <= place) & (place < gain + loss)).astype(float))
        covered += found.low <= (gain - loss) / num_rows <= found.high
    assert covered / NUM_WORLDS >= 0.93


def test_a_method_against_itself_is_no_difference() -> None:
    """Clopper-Pearson of 0 of 50 ends at 1 - 0.025^(1/50): so many other rows may speak for one of two methods like these."""
    right = np.random.default_rng(0).integers(0, 2, (3, 50)).astype(float)
    found = compare(right, right)
    assert found.verdict == "no difference" and found.mean == 0.0 and found.p == 1.0
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 50))


def test_equal_methods_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(9)
    verdicts = []
    for _ in range(NUM_WORLDS):
        rows = rng.normal(MEAN, ROW_SPREAD, 120)
        verdicts.append(compare(simulated(rng, rows, 3, 0.15), simulated(rng, rows, 3, 0.15)).verdict)
    assert verdicts.count("no difference") / NUM_WORLDS >= 0.92


def test_a_clear_difference_has_its_sign() -> None:
    rng = np.random.default_rng(1)
    worse = (rng.random((3, 200)) < 0.6).astype(float)
    better = np.maximum(worse, (rng.random((3, 200)) < 0.5).astype(float))
    assert compare(better, worse).verdict == "better" and compare(worse, better).verdict == "worse"
    assert compare(better, worse).p < 0.01


def test_pairing_sees_what_single_intervals_hide() -> None:
    """Two methods right on nearly the same rows: their own intervals overlap, their difference does not hold zero."""
    rng = np.random.default_rng(2)
    hard = rng.random(400) < 0.5
    first = np.tile((~hard).astype(float), (3, 1))
    second = first.copy()
    second[:, :20] = 0.0
    one, other = estimate(first), estimate(second)
    assert other.high > one.low and compare(first, second).verdict == "better"


def test_mean_and_deviation_by_hand() -> None:
    right = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=float)
    found = estimate(right)
    assert (
        found.mean == 0.625
        and found.deviation == pytest.approx(0.25 / np.sqrt(2))
        and (found.num_seeds, found.num_rows) == (2, 4)
    )
    assert estimate(right[:1]).deviation is None


def test_all_right_leaves_the_doubt_of_few_rows() -> None:
    all_right, all_wrong = estimate(np.ones((2, 30))), estimate(np.zeros((2, 30)))
    assert (all_right.low, all_right.high) == (0.9, 1.0) and (all_wrong.low, all_wrong.high) == (0.0, 0.1)


@pytest.mark.parametrize(
    ("num_rows", "low", "verdict"), [(2, -1.0, "no difference"), (5, -0.2, "no difference"), (20, 0.7, "better")]
)
def test_rows_that_changed_alike_leave_the_doubt_of_few_rows(num_rows: int, low: float, verdict: str) -> None:
    """Two texts that both turned say little: the rule of three, twice since a row may change the other way."""
    found, turned = (
        compare(np.ones((1, num_rows)), np.zeros((1, num_rows))),
        compare(np.zeros((1, num_rows)), np.ones((1, num_rows))),
    )
    assert found.mean == found.high == 1.0 and found.low == pytest.approx(low) and found.verdict == verdict
    assert found.p == 2.0 ** (1 - num_rows) and (turned.low, turned.high) == (-found.high, -found.low)


def test_four_rows_against_none_by_hand() -> None:
    """McNemar's exact p is 2 / 2^4; Clopper-Pearson of 4 of 4 begins at 0.025^(1/4), and that of 4 of 300 ends at 3.38 %."""
    first, second = np.zeros((1, 300)), np.zeros((1, 300))
    first[0, :4] = 1.0
    found, turned = compare(first, second), compare(second, first)
    assert found.p == turned.p == 0.125 and found.verdict == turned.verdict == "no difference"
    assert found.low == pytest.approx(4 / 300 * (2 * 0.025**0.25 - 1)) and found.high == pytest.approx(0.0338, abs=5e-5)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    first[0, :6] = 1.0
    assert compare(first, second).p == 2.0**-5 and compare(first, second).verdict == "better"


def test_one_wrong_row_by_hand() -> None:
    """Wilson's interval of 99 of 100, which resampling would begin at 0.97."""
    right = np.ones((1, 100))
    right[0, 0] = 0.0
    found = estimate(right)
    assert found.low == pytest.approx(0.9455, abs=5e-5) and found.high == 1.0
    wrong = estimate(1 - right)
    assert (wrong.low, wrong.high) == pytest.approx((1 - found.high, 1 - found.low))


@given(st.integers(1, 4), st.integers(1, 80), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**16))
@settings(deadline=None)
def test_p_and_verdict_agree(num_seeds: int, num_rows: int, gain: float, loss: float, seed: int) -> None:
    """With few rows that differ, with many, and with rows that changed alike."""
    place = np.random.default_rng(seed).random((num_seeds, num_rows))
    found = compare((place < gain).astype(float), (place > 1 - loss).astype(float))
    assert (found.verdict == "no difference") == (found.p >= 0.05)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    assert {"better": found.mean > 0, "worse": found.mean < 0}.get(found.verdict, True)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same seeds and rows"):
        compare(np.ones((2, 3)), np.ones((3, 3)))
