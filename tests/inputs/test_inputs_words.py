"""Label words and learned tokens as token ids: white space, sharing, roles."""

import pytest

from ptune.errors import TemplateError
from ptune.inputs import soft_layout
from ptune.readout import Verbalizer
from ptune.template import Template
from tiny import DECODERS, KINDS, tiny_backbone


def answer_ids(kind: str, template: str, *words: str) -> list[tuple[int, ...]]:
    labels = {str(number): word for number, word in enumerate(words)}
    return list(Verbalizer.parse(labels).answers(Template.parse(template), tiny_backbone(kind).tokens).ids)


@pytest.mark.parametrize("word", ["great", "terrible", "mediocre", "sports news"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("t5")])
def test_a_word_is_tokenised_as_it_continues_the_text(kind: str, word: str) -> None:
    """The prompt's tokens and the word's tokens together are those of the whole sentence."""
    tokens = tiny_backbone(kind).tokens
    whole = tokens.ids(f"It was {word}")
    assert answer_ids(kind, "{text} It was{mask}", word, "very bad")[0] == whole[len(tokens.ids("It was")) :]
    assert answer_ids(kind, "{text} It was {mask}", word, "very bad")[0] == whole[len(tokens.ids("It was")) :]


@pytest.mark.parametrize("kind", KINDS)
def test_chinese_words_get_no_space(kind: str) -> None:
    tokens = tiny_backbone(kind).tokens
    expected = tokens.ids("。不喜欢")[len(tokens.ids("。")) :] if kind in DECODERS else tokens.ids("不喜欢")
    assert answer_ids(kind, "{text}。{mask}", "不喜欢", "好")[0] == expected


def test_raw_takes_words_as_they_are_written() -> None:
    tokens = tiny_backbone("gpt2").tokens
    assert answer_ids("gpt2", "{text} It was{mask raw}", "great", "bad")[0] == tokens.ids("great")
    assert answer_ids("gpt2", "{text} It was{mask}", "great", "bad")[0] == tokens.ids(" great")
    assert tokens.ids("great") != tokens.ids(" great")


def test_a_dummy_prefix_space_is_no_token_of_a_word() -> None:
    """T5's tokenizer writes ▁ in front of every text; a word without a space must not get one."""
    tokens = tiny_backbone("t5").tokens
    assert tokens.show(tokens.word_ids(" great", "s")) == tokens.show(tokens.ids("great"))
    assert "▁" not in tokens.tokenizer.convert_ids_to_tokens(list(tokens.word_ids("好", "是")))


def test_learned_tokens_are_numbered_in_reading_order_and_shared() -> None:
    tokens = tiny_backbone("bert").tokens
    layout = soft_layout(Template.parse('{soft:2}{text}{soft:3 id=a}{soft:"good film"}{soft id=a}{soft:4 same}{mask}'), tokens)
    assert list(layout.rows_of_node.values()) == [(0, 1), (2, 3, 4), (5, 6), (2, 3, 4), (7, 7, 7, 7)]
    assert layout.num_rows == 8 and layout.num_tokens == 14
    assert layout.init_ids == (None,) * 5 + tokens.ids("good film") + (None,)


def test_words_fill_a_given_number_of_rows() -> None:
    tokens = tiny_backbone("bert").tokens
    good, film = tokens.ids("good film")
    nodes = Template.parse("{text}{mask}").prepend(tuple(Template.parse('{soft:"good film"}x').nodes[:1]))
    assert soft_layout(nodes, tokens).init_ids == (good, film)


@pytest.mark.parametrize("kind", KINDS)
def test_the_answers_slot_and_the_decoders_start(kind: str) -> None:
    """T5: its first sentinel, repeated behind the decoder's start; BART: its mask, answered behind </s> <s>; else masks."""
    tokens = tiny_backbone(kind).tokens
    sentinel = tokens.tokenizer.convert_tokens_to_ids("<extra_id_0>")
    expected = {
        "bert": ((4,), ()),
        "roberta": ((4,), ()),
        "t5": ((sentinel,), (0, sentinel)),
        "t5-untied": ((sentinel,), (0, sentinel)),
        "bart": ((4,), (2, 0)),
    }
    assert (tokens.slot_ids, tokens.decoder_ids) == expected.get(kind, ((), ()))


@pytest.mark.parametrize("kind", KINDS)
def test_frequent_words_are_words(kind: str) -> None:
    tokens = tiny_backbone(kind).tokens
    chosen = tokens.frequent_words(20)
    assert len(chosen) == 20 == len(set(chosen))
    assert not set(chosen) & set(tokens.tokenizer.all_special_ids)
    for index in tokens.frequent_words():
        assert tokens.tokenizer.decode([index]).strip().isalpha(), "half a character of a byte-level tokenizer is no word"


def test_pieces_are_shown_readably() -> None:
    tokens = tiny_backbone("gpt2").tokens
    assert tokens.show(tokens.ids("The film")) == ["The", " film"]
    assert all(tokens.show(tokens.ids("电影🙂")))


def test_words_without_tokens_are_an_error() -> None:
    with pytest.raises(TemplateError, match="no tokens"):
        soft_layout(Template.parse('{soft:"\u200b"}{text}{mask}'), tiny_backbone("bert").tokens)
