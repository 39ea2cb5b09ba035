"""Text while it is being written: pieces join to the text, cut no character in half, and stop at stop words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptune.decode import TextPieces
from tiny import tiny_backbone

KINDS = ["gpt2", "llama", "gemma3", "bart"]
TEXTS = st.text(st.sampled_from("aAz ,.\n好很電影的😀é\u200d葡"), max_size=30)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(TEXTS)
def test_pieces_join_to_the_text_and_hold_whole_characters(kind: str, text: str) -> None:
    tokens = tiny_backbone(kind).tokens
    ids = tokens.ids(text)
    pieces = TextPieces(tokens)
    given_out = []
    for at in range(len(ids)):
        pieces.read(ids[: at + 1])
        given_out.append(pieces.piece())
        assert text.strip().startswith("".join(given_out))
    given_out.append(pieces.last_piece())
    assert "".join(given_out) == pieces.text == text.strip()


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_a_character_of_several_tokens_comes_at_once(kind: str) -> None:
    tokens = tiny_backbone(kind).tokens
    ids = tokens.ids("葡萄")  # never seen by the tokenizer: single bytes
    assert len(ids) == 6
    pieces = TextPieces(tokens)
    given_out = []
    for at in range(6):
        pieces.read(ids[: at + 1])
        given_out.append(pieces.piece())
    assert given_out == ["", "", "葡", "", "", "萄"]


def test_an_unfinished_character_at_the_end_is_left_out() -> None:
    tokens = tiny_backbone("gpt2").tokens
    pieces = TextPieces(tokens)
    pieces.read(tokens.ids("好葡")[:-1])
    assert pieces.piece() + pieces.last_piece() == pieces.text == "好"


def test_bytes_that_are_no_text_do_not_hold_up_what_follows() -> None:
    tokens = tiny_backbone("gpt2").tokens
    half = tokens.ids("葡")[:1]
    pieces = TextPieces(tokens)
    pieces.read([*half, *tokens.ids("good")])
    assert pieces.piece() == pieces.text == "\ufffdgood"


@settings(deadline=None)
@given(TEXTS, st.lists(st.text(st.sampled_from("aAz ,.\n好很"), min_size=1, max_size=4), min_size=1, max_size=3))
def test_stop_words_cut_the_text_as_soon_as_one_is_there(text: str, stop: list[str]) -> None:
    tokens = tiny_backbone("gpt2").tokens
    ids = tokens.ids(text)
    pieces = TextPieces(tokens, stop)
    given_out: list[str] = []
    found: list[int] = []
    wanted = text
    for at in range(len(ids)):
        pieces.read(ids[: at + 1])
        so_far = tokens.text(ids[: at + 1])
        found = [so_far.find(word) for word in stop if word in so_far]
        assert pieces.is_stopped == bool(found)
        if found:
            wanted = so_far[: min(found)]
            break
        given_out.append(pieces.piece())
    given_out.append(pieces.last_piece())
    assert "".join(given_out) == pieces.text == wanted.strip()


def test_special_tokens_are_no_text() -> None:
    tokens = tiny_backbone("llama").tokens
    pieces = TextPieces(tokens)
    pieces.read([0, *tokens.ids("good"), 1, *tokens.ids(" day")])
    assert pieces.text == "good day"
