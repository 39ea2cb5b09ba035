"""Conversations as rows: which tokens are learned, where learned tokens stand, and what goes when there are too many."""

import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from chat_tokens import TEMPLATES, chat_tokens

from ptune.errors import DataError, TemplateError
from ptune.inputs import Chat, Conversations, Encoded, Message
from ptune.inputs.chat import _Border, _Text

SYSTEM: Message = {"role": "system", "content": "It was good ."}
TALK: list[Message] = [
    {"role": "user", "content": "What a day !"},
    {"role": "assistant", "content": "I like this place"},
    {"role": "user", "content": "The food is good"},
    {"role": "assistant", "content": "great ."},
]


def _rows(name: str = "chatml", **settings: Any) -> Conversations:
    tokens = chat_tokens(name)
    return Conversations(Chat(tokens), tokens, **settings)


@pytest.mark.parametrize("name", ["chatml", "gemma", "bare"])
def test_one_row_teaches_all_replies_and_nothing_else(name: str) -> None:
    rows = _rows(name, front=(0, 1))
    (row,) = rows.learned(TALK)
    learned = [index for index, scored in zip(row.answer, row.is_scored, strict=True) if scored]
    end = rows.chat.end_id
    said = [*rows.chat.reply("I like this place"), *rows.chat.reply("great .")]
    assert learned == said
    assert learned.count(end) == 2
    assert learned[-1] == end
    assert row.num_scored == len(said)
    first = rows.asked(TALK[:1])
    assert row.encoded == first.encoded
    assert row.encoded.slot == len(row.encoded)


@pytest.mark.parametrize("name", ["chatml", "gemma", "thinking", "bare"])
def test_learned_tokens_in_front_of_the_reply_make_a_row_for_each(name: str) -> None:
    rows = _rows(name, behind=(0, 1, 2))
    learned = rows.learned(TALK)
    assert [row.text for row in learned] == ["I like this place", "great ."]
    for row, number in zip(learned, (1, 3), strict=True):
        assert row.encoded == rows.asked(TALK[:number]).encoded
        assert row.encoded.soft[-3:] == (0, 1, 2)
        assert set(row.encoded.soft[:-3]) == {-1}
        assert row.encoded.split == len(row.encoded) - 3
        assert row.answer == rows.chat.reply(TALK[number]["content"])
        assert all(row.is_scored)


def test_a_template_that_writes_past_replies_otherwise_gets_a_row_for_each() -> None:
    rows = _rows("thinking", front=(0,))
    assert [row.answer for row in rows.learned(TALK)] == [rows.chat.reply(TALK[at]["content"]) for at in (1, 3)]


@pytest.mark.parametrize(("is_before_start", "place"), [(True, 0), (False, 1)])
def test_learned_tokens_stand_in_front_of_the_start_token_or_behind_it(is_before_start: bool, place: int) -> None:
    encoded = _rows("gemma", front=(0, 1), is_before_start=is_before_start).asked(TALK[:1]).encoded
    assert encoded.soft[place : place + 2] == (0, 1)
    assert sum(row >= 0 for row in encoded.soft) == 2
    assert encoded.owner[place] == "soft"


def test_a_long_history_loses_its_oldest_exchanges_but_not_the_system() -> None:
    talk = [SYSTEM, *TALK * 4, TALK[0]]
    rows = _rows(max_length=80, max_reply=10)
    row = rows.asked(talk)
    shown = rows.tokens.text(row.encoded.ids)
    assert len(row.encoded) <= 70
    assert row.encoded.num_cut > 0
    assert SYSTEM["content"] in shown
    assert shown.endswith("user\nWhat a day !\nassistant\n")
    assert _rows(max_length=1000).asked(talk).encoded.num_cut == 0
    kept = [SYSTEM, *(TALK * 4)[-shown.count("assistant") * 2 + 2 :], TALK[0]]
    assert row.encoded.ids == rows.asked(kept).encoded.ids


def test_a_long_message_loses_its_end() -> None:
    long: Message = {"role": "user", "content": "The food is good . " * 20 + "The end"}
    rows = _rows(max_length=60, max_reply=10, front=(0, 1, 2))
    row = rows.asked([SYSTEM, long])
    shown = rows.tokens.text(row.encoded.ids)
    assert len(row.encoded) == 50
    assert "It was good ." in shown
    assert "user\nThe food is good" in shown
    assert "The end" not in shown
    assert shown.endswith("\nassistant\n")


def test_every_reply_of_a_long_conversation_is_learned_behind_what_fits() -> None:
    rows = _rows(max_length=60, max_reply=14)
    learned = rows.learned(TALK * 4)
    assert [row.text for row in learned] == [message["content"] for message in TALK * 4 if message["role"] == "assistant"]
    assert all(len(row) <= 60 for row in learned)
    assert _rows(max_length=400).learned(TALK * 4)[0].num_scored == sum(row.num_scored for row in learned)


def test_a_reply_that_is_cut_learns_no_end() -> None:
    rows = _rows(max_length=200, max_reply=4, row_for_each=True)
    (row, _) = rows.learned([TALK[0], {"role": "assistant", "content": "The film was great , a good story"}, *TALK[2:]])
    assert len(row.answer) == 4
    assert rows.chat.end_id not in row.answer


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([SYSTEM, TALK[0]], "assistant says nothing"),
        ([SYSTEM, TALK[1]], "assistant speaks first"),
    ],
)
def test_conversations_without_a_reply_to_learn_are_refused(messages: list[Message], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _rows().learned(messages)


def test_what_cannot_be_asked_is_refused() -> None:
    for messages in ([], TALK):
        with pytest.raises(DataError, match="does not end with a message to reply to"):
            _rows().asked(messages)
    with pytest.raises(TemplateError, match=r"do not fit into 20 positions beside a reply of 15"):
        _rows(max_length=20, max_reply=15).asked(TALK[:1])


class RenderedAnew(Chat):
    """The plain way: the conversation in front of each reply is rendered to see how the reply is opened."""

    def _pieces(self, text: str, messages: Sequence[Message]) -> list[Any]:
        pieces: list[Any] = []
        parts = re.split("\ue0f0(\\d+)\ue0f1", text)
        before = parts[0]
        for number, behind in zip(map(int, parts[1::2]), parts[2::2], strict=True):
            content = messages[number]["content"].strip()
            if messages[number]["role"] != "assistant":
                pieces += [*self._split(before), _Text(content, number)]
                before = behind
                continue
            opening = self._opening(messages, number, before)
            pieces += [*self._split(opening), _Border(), _Text(before[len(opening) :] + content, number)]
            white = behind[: len(behind) - len(behind.lstrip())]
            marks = sorted((mark for mark in self._tokens.special_ids if behind.lstrip().startswith(mark)), key=len)
            if marks:
                pieces += [_Text(white, number)] if white else []
                pieces += [self._tokens.special_ids[marks[-1]]]
                behind = behind.lstrip()[len(marks[-1]) :]
            else:
                pieces.append(self.end_id)
            pieces.append(_Border())
            before = behind
        return [*pieces, *self._split(before)]


def _one_by_one(rows: Conversations, messages: list[Message]) -> Encoded:
    """The plain way: one exchange less until it fits, then one token less until it fits."""
    text = longest = rows.chat.tokens_of(messages)
    room = rows.max_length - rows.max_reply - len(rows.front) - len(rows.behind)
    while len(text) > room:
        first = 1 if messages[0]["role"] == "system" else 0
        replied = next((at for at in range(first, len(messages)) if messages[at]["role"] == "assistant"), len(messages))
        again = next((at for at in range(replied, len(messages)) if messages[at]["role"] == "user"), None)
        if again is None:
            break
        messages = [*messages[:first], *messages[again:]]
        text = rows.chat.tokens_of(messages)
    ids, owner = list(text.ids), list(text.owner)
    while len(ids) > room:
        counts = {number: owner.count(number) for number in sorted(set(owner)) if number >= 0}
        if not counts:
            raise TemplateError(f"{len(ids)} of the chat template do not fit")
        most = max(counts, key=lambda number: counts[number])
        at = len(owner) - 1 - owner[::-1].index(most)
        del ids[at], owner[at]
    return rows._encoded(ids, owner, len(longest) - len(ids))


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_is_left_of_a_long_conversation_is_what_taking_it_off_piece_by_piece_leaves(name: str) -> None:
    chance, tokens = random.Random(name), chat_tokens(name)
    texts = ["What a day !", "good", "The film was great , a good story", "这部电影很好", "bad . " * 9]
    outcomes = set()
    for _ in range(60):
        turns = [chance.choice(texts) for _ in range(2 * chance.randint(0, 8) + 1)]
        talk: list[Message] = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
        if name == "chatml" and chance.random() < 0.3:  # the only one that takes users who go on
            talk += [{"role": "user", "content": chance.choice(texts)} for _ in range(3)]
        talk = [SYSTEM, *talk] if chance.random() < 0.5 else talk
        front, max_length = chance.choice([(), (0, 1)]), chance.choice([20, 40, 60, 100, 200])
        rows = Conversations(RenderedAnew(tokens), tokens, front=front, max_length=max_length, max_reply=8)
        try:
            expected = _one_by_one(rows, talk)
        except TemplateError:
            outcomes.add("refused")
            with pytest.raises(TemplateError, match="do not fit"):
                rows.asked(talk)
            continue
        assert rows.asked(talk).encoded == expected
        outcomes.add("cut" if expected.num_cut else "whole")
    assert outcomes >= {"cut", "whole"}


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_the_work_for_a_long_conversation_grows_with_its_length(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, counts = _rows(name, max_length=80, max_reply=10), list[int]()
    own = Chat._render
    monkeypatch.setattr(Chat, "_render", lambda self, some, **words: counts.append(len(some)) or own(self, some, **words))

    def num_rendered(num: int) -> int:
        counts.clear()
        rows.asked([*TALK * num, TALK[0]])
        return sum(counts)

    assert num_rendered(80) <= 4 * len(TALK) * 80
    assert num_rendered(160) <= 4 * len(TALK) * 160
