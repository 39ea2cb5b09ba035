"""A model's chat template: messages to token ids, in which no text of a message ever becomes a special token.

In: messages with roles. Out: `ChatText`, the whole conversation as tokens, with the place of every reply. The template is
rendered with a stand-in for each message's text, so that what a text says can neither close a turn nor steer the template; then
the template's own special tokens are told from its words, and words and texts are tokenised together between them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from ptune.errors import TemplateError
from ptune.inputs.tokens import Tokens

__all__ = ["PLAIN_CHAT", "Chat", "ChatText", "Message"]

Message = Mapping[str, str]
"""`role` (system, user, assistant) and `content`."""

PLAIN_CHAT = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
    "{% elif message.role == 'user' %}{{ 'User: ' + message.content + '\n' }}"
    "{% else %}{{ 'Assistant: ' + message.content + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""A template for models that were never taught one (`chat_template: plain`)."""

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_STAND_IN = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


@dataclass(frozen=True)
class ChatText:
    """A conversation as tokens.

    Args:
        ids: token ids, the model's start included.
        owner: the number of the message that a token belongs to, -1 for the template's own.
        replies: for each reply, the places [start, end) of its tokens, the token that ends it included. Where the
            conversation waits for a reply, there is none for it: it starts where the tokens end.
    """

    ids: tuple[int, ...]
    owner: tuple[int, ...]
    replies: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _Text:
    """Words of the template, or (with a number) of a message."""

    text: str
    message: int = -1


class _Border:
    """Where a reply starts: no token crosses it, as none does when the reply is written."""


_Piece = _Text | _Border | int  # an int is a special token


class Chat:
    """Messages to tokens for one model.

    Args:
        tokens: the backbone's tokenizer.
        template: Jinja text, `plain`, or None for the tokenizer's own.

    Raises:
        TemplateError: the tokenizer has none, or one that fails on a plain question and answer.
    """

    def __init__(self, tokens: Tokens, template: str | None = None) -> None:
        self._tokens = tokens
        self.is_plain = template == "plain"
        own = getattr(tokens.tokenizer, "chat_template", None)
        if template is None and not own:
            raise TemplateError(
                "the model's tokenizer has no chat template",
                where="chat_template",
                fix="set chat_template: plain, or give the Jinja text that the model was trained with",
            )
        self._template = PLAIN_CHAT if self.is_plain else template
        _ = self.end_id

    @cached_property
    def end_id(self) -> int:
        """The token that ends a reply: the template's own, else the model's end of text.

        Raises:
            TemplateError: there is neither.
        """
        text = self._render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        found = self._end(text, text.index(_CLOSE, text.index(f"{_OPEN}1")) + 1)
        if found is not None:
            return self._tokens.special_ids[found[2]]
        index = self._tokens.tokenizer.eos_token_id
        if index is None:
            raise TemplateError("neither the chat template nor the model has a token that ends a reply", where="chat_template")
        return int(index)

    def tokens_of(self, messages: Sequence[Message]) -> ChatText:
        """The whole conversation; behind a last message that is no reply, the tokens with which a reply begins.

        Raises:
            TemplateError: the template refuses these messages, or leaves one out.
        """
        waits = messages[-1]["role"] != "assistant"
        pieces = self._pieces(self._render(messages, waits=waits), messages)
        ids, owner, replies = self._tokenised(pieces)
        start = self._tokens.start_ids if self.is_plain else ()
        moved = tuple((first + len(start), end + len(start)) for first, end in replies)
        return ChatText((*start, *ids), (*(-1 for _ in start), *owner), moved)

    def reply(self, content: str) -> tuple[int, ...]:
        """A reply as the model writes it: its text, with the white space that the template leaves to it, and its end."""
        probe: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]
        text = self.tokens_of(probe)
        first, end = text.replies[0]
        return text.ids[first:end]

    def continues(self, messages: Sequence[Message]) -> bool:
        """Whether every reply stands in the whole conversation as it does where it is written: then one row teaches all."""
        whole = self._render(messages)
        return all(
            self._starts_with(whole, self._render(messages[:number], waits=True), number)
            for number, message in enumerate(messages)
            if message["role"] == "assistant"
        )

    # -- rendering ---------------------------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Message], *, waits: bool = False) -> str:
        stand_ins = [{**message, "content": f"{_OPEN}{number}{_CLOSE}"} for number, message in enumerate(messages)]
        arguments: dict[str, Any] = {"tokenize": False, "add_generation_prompt": waits}
        if self._template is not None:
            arguments["chat_template"] = self._template
        try:
            text: str = self._tokens.tokenizer.apply_chat_template(stand_ins, **arguments)
        except Exception as error:  # whatever a template raises, and Jinja's own errors
            roles = ", ".join(message["role"] for message in messages)
            raise TemplateError(f"the chat template refuses messages by {roles}: {error}", where="chat_template") from None
        present = {int(number) for number in _STAND_IN.findall(text)}
        lost = next((number for number in range(len(messages)) if number not in present), None)
        if lost is not None:
            raise TemplateError(
                f"the chat template leaves out message {lost + 1} ({messages[lost]['role']})",
                where="chat_template",
                fix="leave it out of the data, or use another template",
            )
        return text

    def _starts_with(self, whole: str, prompt: str, number: int) -> bool:
        rest = whole[len(prompt) :].lstrip() if whole.startswith(prompt) else ""
        return rest.startswith(f"{_OPEN}{number}{_CLOSE}")

    def _end(self, text: str, at: int) -> re.Match[str] | None:
        """White space behind a reply and the special token that ends it; None where none stands there."""
        return self._closing.match(text, at) if self._closing else None

    def _pieces(self, text: str, messages: Sequence[Message]) -> list[_Piece]:
        """The rendered text in order. A reply starts behind the template's words for its beginning, and has its end."""
        pieces: list[_Piece] = []
        openings: dict[tuple[str, str], str] = {}
        at = 0
        for found in _STAND_IN.finditer(text):
            number, before = int(found.group(1)), text[at : found.start()]
            at = found.end()
            if messages[number]["role"] != "assistant":
                pieces += [*self._split(before), _Text(messages[number]["content"].strip(), number)]
                continue
            place = (messages[number - 1]["role"] if number else "", before)
            if place not in openings:  # the same words behind the same role: the whole conversation is not rendered for each
                openings[place] = self._opening(messages, number, before)
            opening = openings[place]
            pieces += [*self._split(opening), _Border()]
            pieces.append(_Text(before[len(opening) :] + messages[number]["content"].strip(), number))
            end = self._end(text, at)
            if end is None:
                pieces.append(self.end_id)
            else:
                pieces += [*([_Text(end[1], number)] if end[1] else []), self._tokens.special_ids[end[2]]]
                at = end.end()
            pieces.append(_Border())
        return [*pieces, *self._split(text[at:])]

    def _opening(self, messages: Sequence[Message], number: int, before: str) -> str:
        """How much of the words in front of a reply the model is given; the rest (a space, mostly) it writes itself."""
        asked = self._render(messages[:number], waits=True)
        given = asked[asked.rfind(_CLOSE) + 1 :]
        return given if before.startswith(given) and not before[len(given) :].strip() else before

    def _split(self, text: str) -> list[_Piece]:
        """The template's words and special tokens apart."""
        pieces: list[_Piece] = []
        at = 0
        for found in self._special.finditer(text) if self._special else ():
            pieces += [_Text(text[at : found.start()])] if found.start() > at else []
            pieces.append(self._tokens.special_ids[found.group()])
            at = found.end()
        return [*pieces, _Text(text[at:])] if at < len(text) else pieces

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _tokenised(self, pieces: Sequence[_Piece]) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """Ids, owners, and replies: what stands between two borders."""
        ids: list[int] = []
        owner: list[int] = []
        borders: list[int] = []
        run: list[_Text] = []
        last_message = -1

        def flush() -> None:
            for index, message in self._run(run):
                ids.append(index)
                owner.append(message)
            run.clear()

        for piece in pieces:
            if isinstance(piece, _Text):
                run.append(piece)
                last_message = piece.message
                continue
            flush()
            if isinstance(piece, _Border):
                borders.append(len(ids))
                last_message = -1
            else:
                ids.append(piece)
                owner.append(last_message if len(borders) % 2 else -1)
        flush()
        return ids, owner, list(zip(borders[::2], borders[1::2], strict=True))

    def _run(self, run: Sequence[_Text]) -> list[tuple[int, int]]:
        """Tokens of words that stand together, each with the message of its last character."""
        text, ends = "".join(piece.text for piece in run), list(accumulate(len(piece.text) for piece in run))
        tokens, at = [], 0
        for index, (_, end) in zip(*self._tokens.spans(text), strict=True) if text else ():
            while at < len(ends) - 1 and end > ends[at]:
                at += 1
            tokens.append((index, run[at].message))
        return tokens

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        names = sorted(self._tokens.special_ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None

    @cached_property
    def _closing(self) -> re.Pattern[str] | None:
        return re.compile(rf"(\s*+)({self._special.pattern})") if self._special else None
