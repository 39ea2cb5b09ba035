"""Decoding over tables of probabilities: what is written is what enumeration says, and what is drawn is drawn as often."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from scipy.stats import chisquare
from table_steps import TableSteps, drawn_table

from ptune.decode import DecodeSettings, Written, follow, search_beams, write_lines
from ptune.errors import RecipeError
from tiny import tiny_backbone

TOKENS = tiny_backbone("gpt2").tokens
VOCAB_SIZE = tiny_backbone("gpt2").spec.vocab_size
END = 0
WORDS = TOKENS.ids("abc")


def _all_texts(
    table: dict[tuple[int, ...], dict[int, float]], length: int, ids: tuple[int, ...] = (), total: float = 0.0
) -> Iterator[tuple[tuple[int, ...], float, int]]:
    """(ids, log-probability, tokens) of every text of at most `length` tokens."""
    for token, probability in table[ids].items():
        value = total + math.log(probability)
        if token == END:
            yield ids, value, len(ids) + 1
        elif len(ids) + 1 == length:
            yield (*ids, token), value, length
        else:
            yield from _all_texts(table, length, (*ids, token), value)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_enough_beams_find_every_text_in_the_order_of_brute_force(penalty: float, seed: int) -> None:
    table = drawn_table([END, *WORDS], 3, seed)
    settings = DecodeSettings(max_new_tokens=3, beams=64, returns=40, length_penalty=penalty)
    (found,) = search_beams(TableSteps(table, 1, VOCAB_SIZE), TOKENS, settings, [END], 1)
    wanted = sorted(_all_texts(table, 3), key=lambda text: -text[1] / text[2] ** penalty)
    assert len(wanted) == 40
    assert [one.ids for one in found] == [ids for ids, _, _ in wanted]
    assert [one.score for one in found] == pytest.approx([value / num**penalty for _, value, num in wanted], abs=1e-5)
    assert [one.log_probability for one in found] == pytest.approx([value for _, value, _ in wanted], abs=1e-5)
    assert {one.reason for one in found} == {"end", "length"}


def test_a_row_of_a_batch_of_beams_is_searched_as_by_itself() -> None:
    tables = [drawn_table([END, *WORDS], 6, seed) for seed in range(3)]
    shared = {}
    for number, table in enumerate(tables):  # the first token tells which table a row follows
        shared |= {(WORDS[number], *ids): row for ids, row in table.items()}
    shared[()] = dict.fromkeys(WORDS, 1 / 3)

    class Begun(TableSteps):
        def __init__(self, starts: list[int]) -> None:
            super().__init__(shared, len(starts), VOCAB_SIZE)
            self.rows = [(start,) for start in starts]

    settings = DecodeSettings(max_new_tokens=6, beams=3, returns=3)
    together = search_beams(Begun(list(WORDS)), TOKENS, settings, [END], 3)
    alone = [search_beams(Begun([word]), TOKENS, settings, [END], 1)[0] for word in WORDS]
    assert together == alone


def _one(table: dict[tuple[int, ...], dict[int, float]], num_rows: int = 1, **words: object) -> list[tuple[Written, ...]]:
    settings = DecodeSettings.of(words)
    return write_lines(TableSteps(table, num_rows, VOCAB_SIZE), TOKENS, settings, [END], range(num_rows))


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_most_probable_token_at_each_step(seed: int) -> None:
    table = drawn_table([END, *WORDS], 8, seed)
    ids: tuple[int, ...] = ()
    total, reason = 0.0, "length"
    for _ in range(8):
        token = max(table[ids], key=table[ids].__getitem__)
        total += math.log(table[ids][token])
        if token == END:
            reason = "end"
            break
        ids = (*ids, token)
    ((written,),) = _one(table, max_new_tokens=8)
    assert (written.ids, written.reason) == (ids, reason)
    assert written.log_probability == pytest.approx(total, abs=1e-5)


def test_rows_that_are_done_leave_the_batch() -> None:
    a, b, _ = WORDS
    table = {(): {a: 0.6, END: 0.4}, (a,): {END: 0.9, b: 0.1}, (a, b): {b: 1.0}}
    steps = TableSteps(table, 2, VOCAB_SIZE)
    write_lines(steps, TOKENS, DecodeSettings(max_new_tokens=5), [END], range(2))
    assert steps.widths == [2, 2]  # both end at the second token, so nothing is read after it
    steps = TableSteps(table, 40, VOCAB_SIZE)
    settings = DecodeSettings(max_new_tokens=3, temperature=1.0, seed=1)
    rows = [written for (written,) in write_lines(steps, TOKENS, settings, [END], range(40))]
    num_left = [sum(len(row.ids) >= length for row in rows) for length in (1, 2)]
    assert steps.widths == [40, *num_left]
    assert 0 < num_left[1] < num_left[0] < 40


DISTRIBUTION = dict(zip([END, *WORDS], [0.4, 0.3, 0.2, 0.1], strict=True))
ONE_STEP = {(): DISTRIBUTION}
NUM_DRAWS = 2000


def _frequencies(**words: object) -> Counter[int]:
    rows = _one(ONE_STEP, max_new_tokens=1, returns=NUM_DRAWS, **words)
    return Counter(written.ids[0] if written.ids else END for written in rows[0])


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ({"temperature": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [0.16, 0.09, 0.04, 0.01]),
        ({"temperature": 2.0}, [0.4**0.5, 0.3**0.5, 0.2**0.5, 0.1**0.5]),
        ({"temperature": 1.0, "top_k": 2}, [0.4, 0.3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.71}, [0.4, 0.3, 0.2, 0]),
        ({"temperature": 1.0, "top_p": 0.69}, [0.4, 0.3, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.01}, [0.4, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.7}, [0.4, 0.3, 0, 0]),
    ],
)
def test_samples_are_drawn_as_often_as_the_softmax_says(words: dict[str, float], weights: list[float]) -> None:
    counts = _frequencies(seed=3, **words)
    expected = {token: weight for token, weight in zip(DISTRIBUTION, weights, strict=True) if weight}
    assert set(counts) <= set(expected)
    if len(expected) > 1:
        total = sum(expected.values())
        result = chisquare([counts[token] for token in expected], [NUM_DRAWS * one / total for one in expected.values()])
        assert result.pvalue > 0.001


def test_the_statistical_test_would_notice_another_temperature() -> None:
    counts = _frequencies(seed=3, temperature=0.8)
    result = chisquare([counts[token] for token in DISTRIBUTION], [NUM_DRAWS * one for one in DISTRIBUTION.values()])
    assert result.pvalue < 0.001


def test_samples_are_reproduced_by_their_seed_and_do_not_depend_on_the_batch() -> None:
    table = drawn_table([END, *WORDS], 6, 0)
    settings = DecodeSettings(max_new_tokens=6, temperature=1.0, returns=2, seed=5)

    def write(numbers: list[int], seed: int = 5) -> list[tuple[Written, ...]]:
        steps = TableSteps(table, len(numbers), VOCAB_SIZE)
        return write_lines(steps, TOKENS, settings.but({"seed": seed}), [END], numbers)

    together = write([0, 1, 2, 3])
    assert together == write([0, 1, 2, 3])
    assert together == [*write([0]), *write([1, 2]), *write([3])]
    assert together != write([0, 1, 2, 3], seed=6)
    assert len({written.ids for row in together for written in row}) > 2


def test_a_stream_is_the_same_text_in_pieces_and_can_be_left() -> None:
    table = drawn_table(WORDS, 8, 2)
    settings = DecodeSettings(max_new_tokens=8, temperature=1.0, seed=7)
    ((written,),) = write_lines(TableSteps(table, 1, VOCAB_SIZE), TOKENS, settings, [END], [0])
    assert len(written.text) == 8
    assert "".join(follow(TableSteps(table, 1, VOCAB_SIZE), TOKENS, settings, [END])) == written.text
    steps = TableSteps(table, 1, VOCAB_SIZE)
    assert "".join(islice(follow(steps, TOKENS, settings, [END]), 2)) == written.text[:2]
    assert len(steps.widths) <= 3  # what nobody asks for is not computed


def _certain(text: str) -> dict[tuple[int, ...], dict[int, float]]:
    """A table that writes one text and then its end."""
    ids = TOKENS.ids(text)
    return {ids[:at]: {token: 1.0} for at, token in enumerate((*ids, END))}


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        (["ood st"], "The film was great , a g", "stop"),  # across the border of two tokens
        (["film"], "The", "stop"),
        (["zzz", "great", "was"], "The film", "stop"),
        (["The"], "", "stop"),
        (["storyX"], "The film was great , a good story", "end"),
        ([], "The film was great , a good story", "end"),
    ],
)
def test_stop_words_end_a_text_and_are_not_part_of_it(stop: list[str], text: str, reason: str) -> None:
    table = _certain("The film was great , a good story")
    assert len(TOKENS.ids(" good story")) > 1
    ((written,),) = _one(table, stop=tuple(stop))
    assert (written.text, written.reason) == (text, reason)
    settings = DecodeSettings(stop=tuple(stop))
    assert "".join(follow(TableSteps(table, 1, VOCAB_SIZE), TOKENS, settings, [END])) == text
    (best,) = search_beams(TableSteps(table, 1, VOCAB_SIZE), TOKENS, settings.but({"beams": 2}), [END], 1)
    assert (best[0].text, best[0].reason) == (text, reason)


def test_every_end_token_ends_a_text() -> None:
    a, b, c = WORDS
    table = {(): {a: 1.0}, (a,): {b: 1.0}, (a, b): {c: 1.0}}
    steps = TableSteps(table, 1, VOCAB_SIZE)
    ((written,),) = write_lines(steps, TOKENS, DecodeSettings(max_new_tokens=3), [c, b], [0])
    assert (written.ids, written.reason) == ((a,), "end")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"beams": 2, "temperature": 1.0}, "beams and temperature exclude each other"),
        ({"returns": 3}, "3 texts are asked for from beams: 1"),
        ({"returns": 3, "beams": 2}, "3 texts are asked for from beams: 2"),
        ({"top_k": 5}, "set a temperature"),
        ({"top_p": 0.5}, "set a temperature"),
        ({"top_p": 1.5, "temperature": 1}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"stop": ""}, "empty stop text"),
        ({"max_tokens": 5}, "no setting 'max_tokens'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DecodeSettings.of(words)


def test_settings_change_one_by_one() -> None:
    settings = DecodeSettings.of({"stop": "\n", "temperature": None})
    assert settings.stop == ("\n",)
    assert settings.but({"beams": 3, "stop": None}) == DecodeSettings(stop=("\n",), beams=3)
    assert torch.tensor(settings.temperature) == 0
