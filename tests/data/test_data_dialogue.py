"""Dialogues in every spelling give the same messages; what is wrong is named with its row and message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptune.data import DialogueColumns, dialogue_messages, read_examples

CONTENT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: text.strip())
TURNS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=4)


def messages_of(turns, system=None):
    front = [] if system is None else [{"role": "system", "content": system}]
    return front + [
        {"role": role, "content": text} for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def said(**row):
    return [(message["role"], message["content"]) for message in dialogue_messages(row)]


@given(TURNS)
def test_every_spelling_gives_the_same_messages(turns):
    expected = messages_of(turns)
    sharegpt = [{"from": {"user": "human", "assistant": "gpt"}[m["role"]], "value": m["content"]} for m in expected]
    *earlier, (prompt, response) = turns
    rows = [
        {"messages": expected},
        {"messages": [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in expected]},
        {"conversations": sharegpt},
        {"conversations": expected},
        {"prompt": prompt, "response": response, "history": [list(pair) for pair in earlier]},
        {"prompt": prompt, "response": response, "history": [text for pair in earlier for text in pair]},
        {"prompt": prompt, "response": response, "history": messages_of(earlier)},
        {"instruction": prompt, "input": "", "output": response, "history": earlier},
    ]
    for row in rows:
        assert list(dialogue_messages(row, last="assistant")) == expected, row
    read = read_examples(rows, label=None)  # nested values are JSON text there
    for example in read:
        assert list(dialogue_messages(example.fields, where=example.where)) == expected, example


def test_without_a_reply_it_ends_with_the_user():
    expected = [{"role": "user", "content": "天气如何？"}]
    for row in ({"prompt": "天气如何？"}, {"prompt": "天气如何？", "response": None, "history": []}, {"messages": expected}):
        assert list(dialogue_messages(row, last="user")) == expected


def test_columns_of_other_names():
    row = {"content": "类型#裙", "summary": "一条长裙。", "history": "[]", "text": "x"}
    columns = DialogueColumns(prompt="content", response="summary")
    assert [message["content"] for message in dialogue_messages(row, columns=columns)] == ["类型#裙", "一条长裙。"]
    assert said(instruction="Translate.", input="cat", output="猫") == [("user", "Translate.\ncat"), ("assistant", "猫")]


def test_system_messages():
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    expected = [("system", "Be kind."), ("user", "hi"), ("assistant", "hello")]
    assert said(messages=[{"role": "system", "content": "Be kind."}, *turns]) == expected
    assert said(conversations=turns, system="Be kind.") == expected
    assert said(prompt="hi", response="hello", system=" Be kind. ") == expected
    assert said(messages=[{"role": "system", "content": ""}, *turns], system=None) == expected[1:]
    assert said(messages=turns, system="") == expected[1:]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"text": "x"}, "row 1: the row holds no dialogue; it has 'text' (give 'messages', or 'prompt' and 'response')"),
        ({"message": []}, "row 1: the row holds no dialogue; it has 'message' (rename 'message')"),
        ({"messages": []}, "row 1: the dialogue has no turns (add a question, or remove the row)"),
        (
            {"messages": "hi"},
            "row 1: 'messages' is a text, and not one of JSON: Expecting value at character 1 (",
        ),
        ({"messages": {"role": "user"}}, "row 1: 'messages' is an object, not a list ("),
        ({"messages": ["hi"]}, "row 1 message 1: a message of 'messages' is a text, not an object (write {"),
        ({"messages": [{"content": "hi"}]}, "row 1 message 1: a message has no role; it has 'content' ("),
        ({"messages": [{"role": "usr", "content": "hi"}]}, "row 1 message 1: unknown role 'usr' (did you mean 'user'?)"),
        ({"messages": [{"role": "tool", "content": "3"}]}, "row 1 message 1: messages of the role 'tool' are not supported ("),
        ({"messages": [{"role": "user", "content": 3}]}, "row 1 message 1: 'content' is a number, not a text (write a text)"),
        ({"messages": [{"role": "user"}]}, "row 1 message 1: the user's message is empty (fill it in or remove the row)"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "row 1 message 1: the dialogue begins with the assistant ("),
        (
            {"messages": [*messages_of([("a", "b")], system="s"), *messages_of([("c", "d")])[1:]]},
            "row 1 message 4: two messages of the assistant in a row (join them, or add what is missing in between)",
        ),
        (
            {"messages": [*messages_of([("a", "b")]), {"role": "system", "content": "s"}]},
            "row 1 message 3: a system message stands between the turns (",
        ),
        ({"messages": messages_of([("a", " ")])}, "row 1 message 2: the assistant's message is empty ("),
        ({"messages": messages_of([("a", "b")], system="s"), "system": "t"}, "row 1: there are two system messages: column "),
        ({"prompt": ""}, "row 1 message 1: the user's message is empty ("),
        ({"prompt": "a", "response": ""}, "row 1 message 2: the assistant's message is empty ("),
        (
            {"prompt": "a", "history": [["b"]]},
            "row 1: turn 1 of 'history' is a list of 1, not a question and its answer (",
        ),
        ({"prompt": "a", "history": ["b", "c", "d"]}, "row 1: turn 2 of 'history' is a list of 1, not a question"),
        ({"prompt": "a", "history": [3]}, "row 1: turn 1 of 'history' is a number, not a question and its answer"),
        ({"prompt": "a", "history": [["b", None]]}, "row 1 message 2: the assistant's message is empty ("),
        ({"prompt": ["a", "b"]}, "row 1: 'prompt' is a list, not a text ("),
    ],
)
def test_what_is_wrong_is_named(row, line, fails):
    assert fails(dialogue_messages, row, where="row 1").startswith(line)


def test_the_last_turn(fails):
    row = {"messages": json.dumps(messages_of([("a", "b")]))}
    assert fails(dialogue_messages, row, where="a.jsonl:7", last="user") == (
        "a.jsonl:7: there is nothing to answer: the last turn is the assistant's (leave the reply out)"
    )
    assert fails(dialogue_messages, {"prompt": "a"}, last="assistant") == (
        "there is no reply to learn from: the last turn is the user's (add the reply or remove the row)"
    )
