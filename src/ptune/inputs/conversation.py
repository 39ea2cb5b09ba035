"""Conversations as rows: what a model reads, where learned tokens stand, and which of its tokens are replies to learn.

In: messages and a `Chat`. Out: `Continued`. With learned tokens in front, one row teaches all replies of a conversation that is
not too long; else there is a row for each reply, with its history, so that training reads what writing will read. A history
that is too long loses its oldest exchanges first, never the system's message, then the end of its longest message.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from heapq import heapify, heapreplace

from ptune.errors import DataError, TemplateError
from ptune.inputs.chat import Chat, ChatText, Message
from ptune.inputs.continued import Continued
from ptune.inputs.tokens import Tokens
from ptune.inputs.types import Encoded

__all__ = ["Conversations"]

_OWNER = "messages"


@dataclass(frozen=True)
class Conversations:
    """How conversations become rows.

    Args:
        chat: the model's chat template.
        tokens: the backbone's tokenizer.
        front: prompt rows of the learned tokens in front of everything.
        behind: prompt rows of the learned tokens right in front of the reply.
        is_before_start: whether those in front stand before the model's start token.
        row_for_each: a row for each reply, even where one row could teach them all.
        max_length: tokens of a row, learned ones and the reply included.
        max_reply: tokens that a reply may have, its end included.
    """

    chat: Chat
    tokens: Tokens
    front: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    is_before_start: bool = False
    row_for_each: bool = False
    max_length: int = 256
    max_reply: int = 64

    def asked(self, messages: Sequence[Message]) -> Continued:
        """A conversation that waits for a reply.

        Raises:
            DataError: nobody says anything that could be replied to.
            TemplateError: the template refuses it, or what cannot be left out is too long.
        """
        if not messages or messages[-1]["role"] == "assistant":
            raise DataError("the conversation does not end with a message to reply to", fix="end it with the user's")
        return Continued(self._prompt(messages))

    def learned(self, messages: Sequence[Message]) -> tuple[Continued, ...]:
        """A conversation's replies, as rows to learn from.

        Raises:
            DataError: the assistant never speaks, or speaks first.
            TemplateError: as in `asked`.
        """
        replies = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if not replies:
            raise DataError("the assistant says nothing in this conversation", fix="give it a reply, or leave the row out")
        if all(message["role"] == "system" for message in messages[: replies[0]]):
            raise DataError("the assistant speaks first in this conversation", fix="begin with a message to reply to")
        messages = messages[: replies[-1] + 1]
        if self.tokens.kind == "decoder" and not (self.behind or self.row_for_each):
            row = self._whole(messages)
            if row is not None:
                return (row,)
        return tuple(self._reply(messages, number) for number in replies)

    def _whole(self, messages: Sequence[Message]) -> Continued | None:
        """One row for all replies; None where it is too long, or where the template writes past replies otherwise."""
        text = self.chat.tokens_of(messages)
        if self._num_over(text, self.max_length + 1) or not self.chat.continues(messages):  # the last one is only predicted
            return None
        begin, end = text.replies[0][0], text.replies[-1][1]
        scored = [False] * (end - begin)
        for first, last in text.replies:
            scored[first - begin : last - begin] = [True] * (last - first)
        prompt = self._encoded(text.ids[:begin], text.owner[:begin], 0)
        return Continued(prompt, text.ids[begin:end], tuple(scored), messages[-1]["content"])

    def _reply(self, messages: Sequence[Message], number: int) -> Continued:
        """One reply behind the conversation so far; too long a one is cut, and then learns no end."""
        ids = self.chat.reply(messages[number]["content"])
        ids = ids[: self.max_reply]
        return Continued(self._prompt(messages[:number]), ids, (True,) * len(ids), messages[number]["content"])

    def _prompt(self, messages: Sequence[Message]) -> Encoded:
        longest = self.chat.tokens_of(messages)
        room = self.max_length - self.max_reply
        text = self._shortened(messages, longest, room) if self._num_over(longest, room) else longest
        return self._encoded(text.ids, text.owner, len(longest) - len(text))

    def _shortened(self, messages: Sequence[Message], longest: ChatText, room: int) -> ChatText:
        """Without the oldest exchanges, as few as will do; where the last one alone is too long, it is cut."""
        starts = _starts(messages)

        @cache
        def text_from(start: int) -> ChatText:
            return longest if start == starts[0] else self.chat.tokens_of([*messages[: starts[0]], *messages[start:]])

        at = bisect_left(starts, True, lo=1, key=lambda start: self._num_over(text_from(start), room) == 0)
        text = text_from(starts[min(at, len(starts) - 1)])
        return self._cut(text, self._num_over(text, room))

    def _num_over(self, text: ChatText, room: int) -> int:
        return max(0, len(text) + self._num_learned + len(self._end_ids) - room)

    @property
    def _num_learned(self) -> int:
        return len(self.front) + len(self.behind)

    @property
    def _end_ids(self) -> tuple[int, ...]:
        return self.tokens.end_ids if self.tokens.kind == "encoder-decoder" else ()

    def _cut(self, text: ChatText, num_over: int) -> ChatText:
        """Takes tokens off the ends of the longest messages, one at a time off the one that is longest then."""
        counts = Counter(number for number in text.owner if number >= 0)
        if num_over > counts.total():
            raise TemplateError(
                f"{self._num_learned} learned tokens and {len(text) - counts.total()} of the chat template do not fit into "
                f"{self.max_length} positions beside a reply of {self.max_reply}",
                where="max_length",
                fix="use a larger max_length, a smaller max_new_tokens or fewer soft tokens",
            )
        longest = [(-count, number) for number, count in counts.items()]
        heapify(longest)
        for _ in range(num_over):
            count, number = longest[0]
            heapreplace(longest, (count + 1, number))
        left = {number: -count for count, number in longest}
        kept: list[tuple[int, int]] = []
        for index, number in zip(text.ids, text.owner, strict=True):
            if number < 0 or left[number] > 0:
                kept.append((index, number))
            if number >= 0:
                left[number] -= 1
        return replace(text, ids=tuple(index for index, _ in kept), owner=tuple(number for _, number in kept))

    def _encoded(self, ids: Sequence[int], owner: Sequence[int], num_cut: int) -> Encoded:
        """The prompt with the learned tokens in their places."""
        start = self.tokens.start_ids
        num_start = len(start) if not self.is_before_start and tuple(ids[: len(start)]) == start else 0
        pad = self.tokens.pad_id
        names = ["special" if at < num_start else "" if one < 0 else _OWNER for at, one in enumerate(owner)]
        all_ids = [*ids[:num_start], *(pad for _ in self.front), *ids[num_start:], *(pad for _ in self.behind)]
        soft = [*([-1] * num_start), *self.front, *([-1] * (len(ids) - num_start)), *self.behind]
        owners = [*names[:num_start], *("soft" for _ in self.front), *names[num_start:], *("soft" for _ in self.behind)]
        if self.tokens.kind == "encoder-decoder":
            end = self._end_ids
            return Encoded((*all_ids, *end), (*soft, *(-1 for _ in end)), (*owners, *("special" for _ in end)), None, num_cut)
        return Encoded(tuple(all_ids), tuple(soft), tuple(owners), len(all_ids), num_cut)


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where a conversation may begin: behind the system's message, or where the user speaks again after an exchange."""
    first = 1 if messages[0]["role"] == "system" else 0
    starts, is_replied = [first], False
    for at in range(first, len(messages)):
        if is_replied and messages[at]["role"] == "user":
            starts.append(at)
            is_replied = False
        is_replied = is_replied or messages[at]["role"] == "assistant"
    return starts
