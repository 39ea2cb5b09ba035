"""Changed copies of texts: what changes, what stays, and that a seed gives the same ones."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptune.data import Augment, Example, augmented

ENGLISH = "The food is good and the service was not bad at all ."
CHINESE = "服务很差，我不喜欢这个 hotel 的早餐。"
SWAPS = Augment(copies=1, swap=0.3, delete=0)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_swapped_pieces_are_the_same_pieces(text: str) -> None:
    changed = SWAPS.change(text, random.Random(1))
    assert changed != text
    assert Counter(changed.replace(" ", "")) == Counter(text.replace(" ", ""))


def test_a_word_of_letters_is_one_piece_and_a_character_of_chinese_is_one() -> None:
    changed = {Augment(copies=1, swap=0, delete=0.01).change("这个 hotel 很好", random.Random(seed)) for seed in range(60)}
    assert changed == {"个 hotel 很好", "这hotel 很好", "这个 很好", "这个 hotel 好", "这个 hotel 很"}


def test_shares_of_the_pieces() -> None:
    text = " ".join(f"w{number}" for number in range(100))
    assert len(Augment(copies=1, swap=0, delete=0.2).change(text, random.Random(1)).split()) == 80
    marked = Augment(copies=1, swap=0, delete=0, punctuate=0.3).change(text, random.Random(1))
    assert [word for word in marked.split() if word.startswith("w")] == text.split()
    assert sum(word in set(".;?:!,") for word in marked.split()) == 30
    wide = Augment(copies=1, swap=0, delete=0, punctuate=0.3).change("好" * 10, random.Random(1))
    assert len(wide) == 13 and " " not in wide


def test_rows_keep_labels_and_other_columns_and_stand_in_order() -> None:
    rows = [
        Example({"text": ENGLISH, "id": "a b c", "choices": ("x y", "z w")}, "good", "f:1"),
        Example({"text": "one"}, "bad", "f:2"),
    ]
    out = augmented(rows, Augment(copies=3), fields=("text", "choices"), seed=1)
    assert [row.label for row in out] == ["good"] * 4 + ["bad"] * 4
    assert out[0] is rows[0] and out[4] is rows[1]
    assert all(
        row.fields["id"] == "a b c" and row.fields["choices"] == ("x y", "z w") and row.where == "f:1" for row in out[:4]
    )
    assert len({row.fields["text"] for row in out[:4]}) == 4
    assert all(row.fields["text"] == "one" for row in out[4:])
    assert out == augmented(rows, Augment(copies=3), fields=("text", "choices"), seed=1)
    assert out != augmented(rows, Augment(copies=3), fields=("text", "choices"), seed=2)


@given(st.text(max_size=40), st.integers(0, 99))
def test_no_text_fails_or_vanishes(text: str, seed: int) -> None:
    changed = Augment(copies=1, swap=0.5, delete=0.9, punctuate=0.5).change(text, random.Random(seed))
    assert bool(changed.strip()) == bool(text.strip())


def test_a_change_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="all 0"):
        Augment(swap=0, delete=0)
