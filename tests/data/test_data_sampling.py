"""Labels, few-shot samples, held-out rows, fingerprints: stratified, deterministic, checked."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.data import Example, LabelSet, check_labels, fingerprint, hold_out, label_set, sample_rows, sample_shots

LABELS = LabelSet(("neg", "neutral", "pos"))
EXAMPLES = tuple(
    Example({"text": f"text {number}"}, LABELS.names[number % 3], f"train.csv:{number + 2}") for number in range(60)
)
SEEDS = st.integers(0, 2**32)
COUNTS = st.lists(st.integers(2, 12), min_size=1, max_size=4)


def rows_of(counts):
    return [Example({"text": f"{name}-{n}"}, str(name)) for name, count in enumerate(counts) for n in range(count)]


# ---- labels


def test_label_set_is_sorted_or_as_declared():
    rows = [Example({}, label) for label in ("b", "a", None, "b")]
    assert label_set(rows) == LabelSet(("a", "b"))
    assert label_set(rows, ["b", "c", "a"]) == LabelSet(("b", "c", "a"))


def test_label_set_errors(fails):
    rows = [Example({}, "good", "a.csv:2"), Example({}, "goood", "a.csv:3"), Example({}, "x", "a.csv:4")]
    assert fails(label_set, rows, ["good", "bad"]) == "a.csv:3: unknown label 'goood' (did you mean 'good'?)"
    assert fails(label_set, rows[2:], ["good", "bad"]) == (
        "a.csv:4: unknown label 'x' (correct the row or declare the label; declared are 'good', 'bad')"
    )
    assert fails(label_set, rows, ["a", "a"]) == "label 'a' is declared twice (name each label once)"
    assert "the list of declared labels is empty" in fails(label_set, rows, [])
    assert "no row has a label" in fails(label_set, [Example({"text": "x"})])


def test_check_labels(fails):
    rows = [Example({}, "a"), Example({}, None)]
    check_labels(rows, LabelSet(("a", "b")), every_class=False)
    check_labels(rows, LabelSet(("a",)), every_class=True)
    line = fails(check_labels, rows, LabelSet(("a", "b", "c")), every_class=True)
    assert line.startswith("no row has the label 'b', 'c' (")


# ---- few-shot samples


@given(COUNTS, SEEDS, st.data())
def test_shots_are_stratified_and_without_replacement(counts, seed, data):
    rows = rows_of(counts)
    labels = label_set(rows)
    k = data.draw(st.integers(1, min(counts)))
    shots = sample_shots(rows, k, seed=seed, labels=labels)
    assert Counter(shot.label for shot in shots) == dict.fromkeys(labels.names, k)
    assert len({str(shot.fields["text"]) for shot in shots}) == len(shots)
    assert all(shot in rows for shot in shots)


@given(SEEDS, st.randoms())
def test_shots_are_a_function_of_content_and_seed(seed, shuffler):
    moved = [Example(dict(example.fields), example.label, "elsewhere:1") for example in EXAMPLES]
    shuffler.shuffle(moved)
    assert sample_shots(moved, 4, seed=seed, labels=LABELS) == sample_shots(EXAMPLES, 4, seed=seed, labels=LABELS)


def test_shots_grow_with_k():
    few = sample_shots(EXAMPLES, 4, seed=1, labels=LABELS)
    many = sample_shots(EXAMPLES, 8, seed=1, labels=LABELS)
    assert all(shot in many for shot in few)


def test_shots_are_the_same_on_every_machine():
    """Pinned: a change here changes everybody's few-shot runs."""
    shots = sample_shots(EXAMPLES, 2, seed=13, labels=LABELS)
    assert [shot.fields["text"] for shot in shots] == PINNED


def test_seeds_differ_and_the_global_generator_is_left_alone():
    random.seed(0)
    state = random.getstate()
    first = sample_shots(EXAMPLES, 8, seed=1, labels=LABELS)
    assert first != sample_shots(EXAMPLES, 8, seed=2, labels=LABELS)
    hold_out(EXAMPLES, per_class=1, seed=0)
    assert random.getstate() == state


def test_classes_are_mixed_in_the_result():
    labels = [shot.label for shot in sample_shots(EXAMPLES, 16, seed=0, labels=LABELS)]
    assert labels != sorted(labels)


def test_unlabelled_rows_are_never_drawn():
    shots = sample_shots([*EXAMPLES, Example({"text": "new"})], 20, seed=0, labels=LABELS)
    assert all(shot.label for shot in shots)


def test_shot_errors(fails):
    rows = [*EXAMPLES[:7], Example({"text": "x"}, "pos")]
    assert fails(sample_shots, rows, 3, seed=0, labels=LABELS) == (
        "class 'neutral' has fewer rows (2) than the shots asked for (3) (lower shots to 2 or add rows)"
    )
    assert "class 'new' has fewer rows (0)" in fails(sample_shots, rows, 2, seed=0, labels=LabelSet(("new",)))
    assert fails(sample_shots, rows, 0, seed=0, labels=LABELS).endswith("(set shots to 1 or more)")


# ---- held-out rows


@given(COUNTS, SEEDS)
def test_hold_out_per_class(counts, seed):
    rows = rows_of(counts)
    rest, held = hold_out(rows, per_class=1, seed=seed)
    assert Counter(example.label for example in held) == {str(name): 1 for name in range(len(counts))}
    assert sorted([*rest, *held], key=rows.index) == rows
    assert list(rest) == sorted(rest, key=rows.index)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.floats(0.1, 0.4), SEEDS)
def test_hold_out_fraction(counts, fraction, seed):
    rows = rows_of([*counts, 20])
    rest, held = hold_out(rows, fraction=fraction, seed=seed)
    for name, count in enumerate([*counts, 20]):
        num_held = sum(example.label == str(name) for example in held)
        assert abs(num_held - count * fraction) <= 0.5 + 1e-9 and num_held < count
    assert len(rest) + len(held) == len(rows)


@given(SEEDS, st.randoms())
def test_hold_out_is_a_function_of_content_and_seed(seed, shuffler):
    moved = list(EXAMPLES)
    shuffler.shuffle(moved)
    expected = {str(example.fields) for example in hold_out(EXAMPLES, fraction=0.2, seed=seed)[1]}
    assert {str(example.fields) for example in hold_out(moved, fraction=0.2, seed=seed)[1]} == expected


def test_rows_without_a_label_are_a_class():
    rows = [Example({"text": str(number)}) for number in range(10)]
    rest, held = hold_out(rows, fraction=0.3, seed=0)
    assert (len(rest), len(held)) == (7, 3)


def test_hold_out_errors(fails):
    rows = rows_of([3, 1])
    assert fails(hold_out, rows, per_class=1, seed=0) == (
        "holding out 1 of 1 from class '1' leaves none to learn from (hold out fewer or add rows)"
    )
    assert "holding out 1 of 1 from the rows without a label" in fails(hold_out, [Example({})], per_class=1, seed=0)
    assert "a fraction of 0.1 of each class holds out no row" in fails(hold_out, rows, fraction=0.1, seed=0)
    assert "either per_class or fraction" in fails(hold_out, rows, seed=0)
    assert "either per_class or fraction" in fails(hold_out, rows, per_class=1, fraction=0.5, seed=0)
    assert "per_class is 0" in fails(hold_out, rows, per_class=0, seed=0)
    assert "fraction is 1.0" in fails(hold_out, rows, fraction=1.0, seed=0)


# ---- fingerprints


def test_fingerprint_is_pinned():
    """The digest of `[{"text":"\\u597d"},"pos"]` and a line end, computed with sha256sum."""
    assert fingerprint([Example({"text": "好"}, "pos", "a.csv:2")]) == PINNED_DIGEST


@pytest.mark.parametrize(
    "other",
    [
        [Example({"text": "x", "b": "2"}, "a")],
        [Example({"text": "x", "a": "1"}, "b")],
        [Example({"text": "x", "a": "1"}, None)],
        [Example({"text": "x", "a": ("1",)}, "a")],
        [Example({"text": "x", "a": "1"}, "a")] * 2,
        [],
    ],
)
def test_fingerprint_sees_every_difference(other):
    assert fingerprint(other) != fingerprint([Example({"text": "x", "a": "1"}, "a")])


def test_fingerprint_ignores_place_and_field_order_but_not_row_order():
    one, two = Example({"text": "x", "a": "1"}, "a", "f:1"), Example({"a": "1", "text": "x"}, "a", "g:2")
    assert fingerprint([one]) == fingerprint([two])
    assert fingerprint(EXAMPLES) != fingerprint(EXAMPLES[::-1])


PINNED = ["text 47", "text 27", "text 9", "text 1", "text 10", "text 11"]
PINNED_DIGEST = "32a17793508d67f7b39d1da5a91106fa39b558d777bcab9f603d96fc28050c85"


@given(COUNTS, SEEDS, st.integers(1, 9))
def test_rows_without_classes_are_drawn_whatever_their_order(counts, seed, k):
    rows = [Example({"text": f"{n}"}) for n in range(sum(counts) + 9)]
    drawn = sample_rows(rows, k, seed=seed)
    assert len(set(map(str, drawn))) == k and set(map(str, drawn)) <= set(map(str, rows))
    assert drawn == sample_rows(rows[::-1], k, seed=seed)
    assert set(map(str, drawn)) <= set(map(str, sample_rows(rows, k + 1, seed=seed)))


def test_rows_without_classes_errors(fails):
    rows = [Example({"text": "a"})] * 3
    assert fails(sample_rows, rows, 4, seed=0) == (
        "there are fewer rows (3) than the shots asked for (4) (lower shots to 3 or add rows)"
    )
    assert "nothing to learn from" in fails(sample_rows, rows, 0, seed=0)
