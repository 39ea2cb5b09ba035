"""Chat templates: tokens as transformers gives them for plain texts, and no special token from a text that spells one."""

import copy
import re

import pytest
from chat_tokens import TEMPLATES, chat_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from ptune.errors import TemplateError
from ptune.inputs import Chat, Message, Tokens
from tiny import tiny_tokenizer

NAMES = list(TEMPLATES)
TALK: list[Message] = [
    {"role": "user", "content": "The film was great , was it not ?"},
    {"role": "assistant", "content": "It was good ."},
    {"role": "user", "content": "这部电影很好"},
    {"role": "assistant", "content": "我很喜欢。\nWhat a day !"},
]
SYSTEM: Message = {"role": "system", "content": "All in all it was great ."}


def _theirs(tokens: Tokens, messages: list[Message], *, waits: bool = False) -> list[int]:
    text = tokens.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=waits)
    return list(tokens.tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", ["chatml", "gemma", "thinking"])
@pytest.mark.parametrize("with_system", [False, True])
def test_tokens_are_those_of_transformers(name: str, with_system: bool) -> None:
    tokens = chat_tokens(name)
    chat = Chat(tokens)
    talk = [SYSTEM, *TALK] if with_system else TALK
    assert list(chat.tokens_of(talk).ids) == _theirs(tokens, talk)
    assert list(chat.tokens_of(talk[:-1]).ids) == _theirs(tokens, talk[:-1], waits=True)


@pytest.mark.parametrize("name", NAMES)
def test_replies_are_what_the_assistant_said_and_the_token_that_ends_it(name: str) -> None:
    tokens = chat_tokens(name)
    chat = Chat(tokens)
    text = chat.tokens_of(TALK)
    assert len(text.replies) == 2
    for (first, end), message in zip(text.replies, (TALK[1], TALK[3]), strict=True):
        assert text.ids[end - 1] == chat.end_id
        assert tokens.text(text.ids[first : end - 1]).strip() == message["content"]
    assert tokens.tokenizer.convert_ids_to_tokens(chat.end_id) == {
        "chatml": "<|im_end|>",
        "thinking": "<|im_end|>",
        "gemma": "<end_of_turn>",
        "bare": "<|endoftext|>",
    }.get(name)


@pytest.mark.parametrize("name", ["chatml", "gemma", "bare"])
def test_a_reply_stands_behind_exactly_what_the_model_is_given_when_it_writes(name: str) -> None:
    chat = Chat(chat_tokens(name))
    whole = chat.tokens_of(TALK)
    assert chat.continues(TALK)
    for number, (first, _) in zip((1, 3), whole.replies, strict=True):
        assert chat.tokens_of(TALK[:number]).ids == whole.ids[:first]


def test_a_template_that_writes_past_replies_otherwise_is_noticed() -> None:
    assert not Chat(chat_tokens("thinking")).continues(TALK)


@pytest.mark.parametrize("name", NAMES)
def test_owners_are_the_messages(name: str) -> None:
    tokens = chat_tokens(name)
    text = Chat(tokens).tokens_of(TALK)
    for number, message in enumerate(TALK):
        mine = [index for index, owner in zip(text.ids, text.owner, strict=True) if owner == number]
        assert message["content"] in tokens.text(mine)
    words = [index for index, owner in zip(text.ids, text.owner, strict=True) if owner < 0]
    assert all(word not in tokens.text(words) for word in ("film", "good", "喜欢"))


MARKS = [
    "<|im_end|>",
    "<|im_start|>",
    "<end_of_turn>",
    "<start_of_turn>",
    "<bos>",
    "<eos>",
    "<|end|>",
    "<|endoftext|>",
    "\ue0f01\ue0f1",
]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*MARKS, "good", "\n", "assistant\n", "</think>", "{{ 1 }}"]), min_size=1, max_size=6).map("".join)
)
def test_no_text_of_a_message_becomes_a_special_token(name: str, text: str) -> None:
    tokens = chat_tokens(name)
    chat = Chat(tokens)
    marks = {index for name, index in tokens.special_ids.items() if not re.fullmatch("<0x..>", name)}

    def special(messages: list[Message]) -> list[int]:
        return [index for index in chat.tokens_of(messages).ids if index in marks]

    plain: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    evil: list[Message] = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": text},
        {"role": "user", "content": text},
    ]
    assert special(evil) == special(plain)
    spelled = [index for index, owner in zip(chat.tokens_of(evil).ids, chat.tokens_of(evil).owner, strict=True) if owner == 2]
    if "\ue0f0" not in text:  # the tiny vocabularies may lack it
        assert tokens.text(spelled).strip() == text.strip()


def test_a_model_without_a_template_needs_one() -> None:
    tokens = Tokens(tiny_tokenizer("gpt2"), "decoder")
    with pytest.raises(TemplateError, match=r"no chat template.*chat_template: plain"):
        Chat(tokens)
    chat = Chat(tokens, "plain")
    ids = chat.tokens_of([SYSTEM, *TALK]).ids
    assert ids[: len(tokens.start_ids)] == tokens.start_ids
    assert tokens.text(ids) == (
        "All in all it was great .\n\nUser: The film was great , was it not ?\nAssistant: It was good .\n"
        "User: 这部电影很好\nAssistant: 我很喜欢。\nWhat a day !\n"
    )
    assert chat.continues(TALK)
    assert tokens.text(chat.tokens_of(TALK[:1]).ids) == "User: The film was great , was it not ?\nAssistant:"


def test_a_template_may_be_given() -> None:
    tokens = chat_tokens("chatml")
    own, given_one = Chat(tokens), Chat(tokens, TEMPLATES["bare"])
    assert tokens.text(given_one.tokens_of(TALK[:2]).ids) == "Q: The film was great , was it not ?\nA: It was good .\n\n"
    assert own.tokens_of(TALK).ids != given_one.tokens_of(TALK).ids


def test_what_a_template_refuses_or_leaves_out_is_an_error() -> None:
    with pytest.raises(TemplateError, match="refuses messages by user, user: roles must alternate"):
        Chat(chat_tokens("gemma")).tokens_of([TALK[0], TALK[2]])
    tokenizer = copy.deepcopy(tiny_tokenizer("gpt2"))
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    chat = Chat.__new__(Chat)
    with pytest.raises(TemplateError, match=r"leaves out message 1 \(user\)"):
        chat.__init__(Tokens(tokenizer, "decoder"))  # type: ignore[misc]
    with pytest.raises(TemplateError, match="refuses messages"):
        Chat(Tokens(tokenizer, "decoder"), "{{ messages[0 }}")
