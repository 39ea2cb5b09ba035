"""A long field in windows: nothing is lost, nothing is read twice, and each token is read where most stands around it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptune.errors import TemplateError
from ptune.inputs import Tokens, Windowed, encode_windows, soft_layout
from ptune.template import Template
from tiny import tiny_backbone

FILLERS = ["The", "film", "was", "great", "disappointing", "，", "这部", "电影", "。", "isn't"]


def windows_of(
    tokens: Tokens, template: str, max_length: int, overlap: int | None = None, lead: int = 0, **fields: str
) -> Windowed:
    parsed = Template.parse(template)
    layout = soft_layout(parsed, tokens)
    return encode_windows(parsed.render(fields), tokens, layout, "text", max_length=max_length, overlap=overlap, lead=lead)


def text_of(words: list[str]) -> str:
    return " ".join(words)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "gemma3", "t5"])
@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.sampled_from(FILLERS), max_size=60),
    max_length=st.integers(16, 40),
    overlap=st.none() | st.integers(0, 30),
    lead=st.integers(0, 1),
)
def test_every_token_is_exactly_one_windows_own(
    kind: str, words: list[str], max_length: int, overlap: int | None, lead: int
) -> None:
    tokens = tiny_backbone(kind).tokens
    whole = windows_of(tokens, "{soft:3}{text}{soft:2}.", 10_000, words=None, text=text_of(words)).windows[0]
    cut = windows_of(tokens, "{soft:3}{text}{soft:2}.", max_length, overlap, lead, text=text_of(words))
    field = whole.encoded.ids[whole.at : whole.at + whole.end]
    owned: list[int] = []
    for window in cut.windows:
        assert len(window.encoded) <= max_length
        assert [row for row in window.encoded.soft if row >= 0] == [0, 1, 2, 3, 4]
        places = [window.place(token) for token in range(window.begin, window.end)]
        assert [window.encoded.ids[place] for place in places] == list(field[window.begin : window.end])
        assert {window.encoded.owner[place] for place in places} <= {"text"}
        assert window.begin <= window.own_begin <= window.own_end <= window.end
        owned += range(window.own_begin, window.own_end)
    assert owned == list(range(len(field))) == list(range(len(cut.spans)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.integers(14, 40), st.none() | st.integers(0, 20))
def test_the_own_window_is_the_one_with_most_around(num_words: int, max_length: int, overlap: int | None) -> None:
    """run_squad's `_check_is_max_context`, but for ties of one token."""
    tokens = tiny_backbone("bert").tokens
    cut = windows_of(tokens, "{text}", max_length, overlap, text="film " * num_words)

    def around(window: object, token: int) -> int:
        begin, end = window.begin, window.end  # type: ignore[attr-defined]
        return min(token - begin, end - 1 - token) if begin <= token < end else -1

    for window in cut.windows:
        for token in range(window.own_begin, window.own_end):
            best = max(around(other, token) for other in cut.windows)
            left_is_all, right_is_all = window.begin == 0, window.end == len(cut.spans)
            whole = [window.end - 1 - token] * left_is_all + [token - window.begin] * right_is_all
            assert max([around(window, token), *whole]) >= best - 1


def test_neighbouring_windows_share_as_much_as_is_asked_for() -> None:
    tokens = tiny_backbone("bert").tokens
    cut = windows_of(tokens, "{text}", 22, 5, text="film " * 100)
    edges = [(window.begin, window.end) for window in cut.windows]
    assert edges[0] == (0, 20) and edges[-1][1] == 100
    assert all(end - begin == 20 for begin, end in edges)
    assert [left[1] - right[0] for left, right in pairwise(edges[:-1])] == [5] * (len(edges) - 2)


def test_a_text_that_fits_is_one_window() -> None:
    tokens = tiny_backbone("gpt2").tokens
    cut = windows_of(tokens, "{soft:2}{text}", 40, text="The film was great")
    assert len(cut.windows) == 1 and cut.windows[0].encoded.num_cut == 0


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "llama"])
def test_two_copies_are_cut_alike_and_the_second_is_read(kind: str) -> None:
    tokens = tiny_backbone(kind).tokens
    text = "The film was great and the story was good . " * 5
    cut = windows_of(tokens, "{text}\n{soft:2}{text}", 40, 4, text=text)
    assert len(cut.windows) > 2
    for window in cut.windows:
        encoded = window.encoded
        soft = [at for at, row in enumerate(encoded.soft) if row >= 0]
        first = [encoded.ids[at] for at in range(soft[0]) if encoded.owner[at] == "text"]
        second = [encoded.ids[at] for at in range(soft[-1], len(encoded)) if encoded.owner[at] == "text"]
        assert window.at == soft[-1] + 1 and len(encoded) <= 40
        assert first[1:] == second[1:] and len(first) == len(second) == window.end - window.begin


def test_other_fields_give_way_down_to_half_of_the_room() -> None:
    tokens = tiny_backbone("bert").tokens
    cut = windows_of(tokens, "{question}{sep}{text}", 30, text="film " * 40, question="great " * 40)
    assert all(window.end - window.begin >= 13 for window in cut.windows)
    assert all(window.encoded.owner.count("question") == 13 for window in cut.windows)
    assert cut.windows[0].encoded.num_cut == 27


def test_a_template_that_leaves_no_room_says_so() -> None:
    with pytest.raises(TemplateError, match=r"leaves no room for \{text\}.*max_length"):
        windows_of(tiny_backbone("bert").tokens, "{soft:20}{text}", 22, text="film " * 40)


def test_a_token_across_the_border_of_template_and_text_belongs_to_the_text() -> None:
    """质量 is one token: its first character ends one text, its second begins the other, and both times it is the text's."""
    tokens = tiny_backbone("gemma3").tokens
    assert len(tokens.ids("质量")) == 1
    cut = windows_of(tokens, "{text}量", 30, text="这部电影质")
    assert cut.spans[-1] == (4, 5)
    cut = windows_of(tokens, "质{text}", 30, text="量很好")
    assert cut.spans[0] == (0, 1)


def test_spans_leave_white_space_out() -> None:
    tokens = tiny_backbone("llama").tokens
    cut = windows_of(tokens, "{text}", 30, text="The  film\n great")
    texts = [("The  film\n great")[start:end] for start, end in cut.spans]
    assert "".join(texts) == "Thefilmgreat" and all(text == text.strip() for text in texts)
