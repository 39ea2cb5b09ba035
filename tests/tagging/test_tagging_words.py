"""Words of a text and the tokens that speak for them: cutting, joining, tokens that cover several words or parts of one."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ptune.backbone import entry, local_folder
from ptune.inputs import Tokens, Unit, Words, join_words, split_words, word_units
from ptune.inputs.windows import _bare
from tiny import tiny_backbone, tiny_tokenizer


def bare_spans(tokens: Tokens, text: str) -> list[tuple[int, int]]:
    return [_bare(text, span) for span in tokens.spans(text)[1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ada met Bob, twice.", ["Ada", "met", "Bob", ",", "twice", "."]),
        ("王小明在 London 住。", ["王", "小", "明", "在", "London", "住", "。"]),
        ("iPhone15很好", ["iPhone15", "很", "好"]),
        ("東京へ行く", list("東京へ行く")),
        ("한국 사람", ["한국", "사람"]),
        ("a_b - 3.5%", ["a_b", "-", "3", ".", "5", "%"]),
        ("  \n", []),
        ("", []),
    ],
)
def test_a_plain_text_is_cut_by_script(text: str, words: list[str]) -> None:
    assert list(split_words(text).words) == words


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab 1.,王小\n东，_é한\u3000") | st.characters(codec="utf-8"), max_size=30))
def test_words_of_a_text_leave_nothing_out_but_white_space(text: str) -> None:
    words = split_words(text)
    assert "".join(words.words) == "".join(text.split())
    ends = [0, *(end for _, end in words.spans)]
    assert all(ends[i] <= start < end for i, (start, end) in enumerate(words.spans))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["Ada", "met", "Bob", "."], "Ada met Bob ."),
        (list("王小明15岁ok"), "王小明15岁ok"),
        (["王小明", "来自", "London", "的", "学校"], "王小明来自London的学校"),
        (["a", "b"], "a b"),
        ([], ""),
        (["", "x"], "x"),
    ],
)
def test_words_are_joined_as_their_script_is_written(words: list[str], text: str) -> None:
    joined = join_words(words)
    assert joined.text == text
    assert list(joined.words) == words


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Ada", "王", "小明", "，", ".", "3", "é"]), max_size=12))
def test_joined_words_can_be_read_off_the_text(words: list[str]) -> None:
    assert list(join_words(words).words) == words


def unigram(*pieces: str) -> Tokens:
    """A tokenizer with exactly these pieces, in Gemma's manner."""
    model = models.Unigram([("<unk>", 0.0), *((piece, -float(len(pieces) - at)) for at, piece in enumerate(pieces))], unk_id=0)
    return Tokens(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="<unk>"), "decoder")


def test_a_token_that_covers_two_characters_speaks_for_both() -> None:
    tokens = unigram("积", "极", "和", "消", "积极")
    words = split_words("积极和消极")
    spans = bare_spans(tokens, words.text)
    assert spans == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert word_units(words, spans) == (Unit(0, 0, 2), Unit(1, 2, 3), Unit(2, 3, 4), Unit(3, 4, 5))


def test_one_token_of_the_real_gemma_speaks_for_two_characters() -> None:
    folder = local_folder(entry("gemma-3-270m-q4"))
    if folder is None:
        pytest.skip("Gemma 3 has not been pulled here")
    tokens = Tokens(AutoTokenizer.from_pretrained(Path(folder)), "decoder")
    assert len(tokens.ids("积极")) == 1 and len(tokens.ids("消极")) == 2
    words = split_words("积极和消极")
    units = word_units(words, bare_spans(tokens, words.text))
    assert [(unit.begin, unit.end) for unit in units] == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_a_character_of_several_tokens_is_read_at_the_first_or_the_last() -> None:
    """Byte-level tokens: a character outside the vocabulary falls into bytes that all have its place."""
    tokens = tiny_backbone("gpt2").tokens
    words = split_words("好☃")
    spans = bare_spans(tokens, words.text)
    first, last = (word_units(words, spans, piece=piece)[-1] for piece in ("first", "last"))  # type: ignore[arg-type]
    assert spans[first.token : last.token + 1] == [(1, 2)] * 3
    assert (first.begin, first.end) == (last.begin, last.end) == (1, 2)


def test_a_token_that_begins_in_the_word_before_joins_it() -> None:
    words = split_words("王小明")
    assert word_units(words, [(0, 2), (1, 2), (2, 3)]) == (Unit(0, 0, 1), Unit(1, 1, 2), Unit(2, 2, 3))
    assert word_units(words, [(0, 2), (2, 3)]) == (Unit(0, 0, 2), Unit(1, 2, 3))
    assert word_units(words, [(0, 3), (2, 3)]) == (Unit(0, 0, 2), Unit(1, 2, 3))
    assert word_units(words, [(1, 2), (2, 2)]) == (Unit(0, 1, 2),)


WORDS = ["The", "disappointing", "film", "mediocre", "sports", "中文", "B2B", "3.5", "isn't", "naïve", "，"]


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@settings(deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=10))
def test_first_tokens_are_those_of_transformers_word_ids(kind: str, words: list[str]) -> None:
    """The recipe of transformers' run_ner: a label on the first token with each word id, words with spaces between them."""
    tokenizer = tiny_tokenizer(kind)
    text = " ".join(words)
    spans, at = [], 0
    for word in words:
        spans.append((at, at + len(word)))
        at += len(word) + 1
    coded = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    numbers = coded.word_ids()
    expected = {number: numbers.index(number) for number in numbers}
    tokens = tiny_backbone(kind).tokens
    assert list(tokens.ids(text)) == coded["input_ids"]
    units = word_units(Words(text, tuple(spans)), bare_spans(tokens, text))
    assert {unit.begin: unit.token for unit in units} == expected
