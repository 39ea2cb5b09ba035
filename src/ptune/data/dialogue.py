"""A row that holds a dialogue goes in, in any of the field's spellings; checked messages (role, content) come out.

Spellings, in this order: `messages` or `conversations` (lists of role and content, or ShareGPT's from and value);
`prompt`, `response` and `history` (a list of pairs of question and answer, as ChatGLM's P-Tuning reads it); Alpaca's
`instruction`, `input` and `output`. A `system` column goes in front. Nested values may be lists or the JSON text of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ptune.data.names import did_you_mean, listed
from ptune.errors import DataError

__all__ = ["DialogueColumns", "DialogueMessage", "dialogue_messages"]

DialogueMessage = dict[str, str]
"""`role` (system, user, assistant) and `content`."""

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_TOOLS = {"tool", "function", "function_call", "observation", "ipython"}


@dataclass(frozen=True)
class DialogueColumns:
    """Which columns hold the dialogue; each has to be there only where the row uses it."""

    messages: str = "messages"
    prompt: str = "prompt"
    response: str = "response"
    history: str = "history"
    system: str = "system"


def dialogue_messages(
    fields: Mapping[str, object],
    *,
    where: str = "",
    columns: DialogueColumns | None = None,
    last: Literal["user", "assistant"] | None = None,
) -> tuple[DialogueMessage, ...]:
    """The messages of a row: perhaps a system message, then user and assistant in turn.

    Args:
        fields: the row's columns.
        where: its place, for messages.
        columns: their names; None takes the common ones.
        last: whose turn the last one has to be: `assistant` to learn from its replies, `user` to answer; None takes both.

    Raises:
        DataError: there is no dialogue, a role is unknown or out of turn, or a content is empty or no text.
    """
    names = columns or DialogueColumns()
    messages = _read(fields, names, where)
    system = _text(fields.get(names.system), where, names.system).strip()
    if system and messages and messages[0]["role"] == "system":
        fix = "keep one of them"
        raise DataError(f"there are two system messages: column '{names.system}' and the first message", where=where, fix=fix)
    if system:
        messages.insert(0, {"role": "system", "content": system})
    _check(messages, where)
    if last is not None and messages[-1]["role"] != last:
        needed, fix = {
            "assistant": ("there is no reply to learn from: the last turn is the user's", "add the reply or remove the row"),
            "user": ("there is nothing to answer: the last turn is the assistant's", "leave the reply out"),
        }[last]
        raise DataError(needed, where=where, fix=fix)
    return tuple(messages)


# ---- the spellings


def _read(fields: Mapping[str, object], names: DialogueColumns, where: str) -> list[DialogueMessage]:
    for column in (names.messages, "conversations"):
        if _is_given(fields.get(column)):
            return _message_list(fields[column], column, where)
    for prompt, response in ((names.prompt, names.response), ("instruction", "output")):
        if fields.get(prompt) is not None:
            question = _text(fields[prompt], where, prompt)
            added = _text(fields.get("input"), where, "input") if prompt == "instruction" else ""
            messages = _history(fields.get(names.history), names.history, where)
            messages.append({"role": "user", "content": f"{question}\n{added}" if added.strip() else question})
            if fields.get(response) is not None:
                messages.append({"role": "assistant", "content": _text(fields[response], where, response)})
            return messages
    wanted = (names.messages, "conversations", names.prompt, "instruction")
    near = next((column for column in fields if did_you_mean(column, wanted)), None)
    hint = f"rename '{near}'" if near else f"give '{names.messages}', or '{names.prompt}' and '{names.response}'"
    raise DataError(f"the row holds no dialogue; it has {listed(fields) or 'nothing'}", where=where, fix=hint)


def _is_given(value: object) -> bool:
    return value is not None and value != ""


def _message_list(value: object, column: str, where: str) -> list[DialogueMessage]:
    messages = []
    for number, item in enumerate(_nested(value, column, where), 1):
        place = _place(where, number)
        if not isinstance(item, Mapping):
            fix = 'write {"role": "user", "content": ...}'
            raise DataError(f"a message of '{column}' is {_kind(item)}, not an object", where=place, fix=fix)
        role = item.get("role", item.get("from"))
        content = item.get("content", item.get("value"))
        if role is None:
            fix = "give each message a role and a content (or from and value)"
            raise DataError(f"a message has no role; it has {listed(map(str, item)) or 'nothing'}", where=place, fix=fix)
        messages.append({"role": _role(role, place), "content": _text(content, place, "content")})
    if messages and messages[0]["role"] == "system" and not messages[0]["content"].strip():
        del messages[0]
    return messages


def _role(role: object, where: str) -> str:
    name = str(role).strip().lower()
    if name in _TOOLS:
        fix = "leave the calls of tools out; system, user and assistant are trained"
        raise DataError(f"messages of the role '{role}' are not supported", where=where, fix=fix)
    if name not in _ROLES:
        fix = did_you_mean(name, _ROLES, "use system, user and assistant")
        raise DataError(f"unknown role '{role}'", where=where, fix=fix)
    return _ROLES[name]


def _history(value: object, column: str, where: str) -> list[DialogueMessage]:
    """Earlier turns: pairs of question and answer, the same in one flat list, or messages."""
    turns = _nested(value, column, where) if _is_given(value) else []
    if turns and isinstance(turns[0], Mapping):
        return _message_list(turns, column, where)
    if turns and isinstance(turns[0], str):
        turns = [turns[start : start + 2] for start in range(0, len(turns), 2)]
    messages: list[DialogueMessage] = []
    for number, pair in enumerate(turns, 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            held = f"a list of {len(pair)}" if isinstance(pair, list | tuple) else _kind(pair)
            fix = 'write [["question", "answer"], ...]'
            raise DataError(f"turn {number} of '{column}' is {held}, not a question and its answer", where=where, fix=fix)
        for role, content in zip(("user", "assistant"), pair, strict=True):
            messages.append({"role": role, "content": _text(content, where, f"{column}, turn {number}")})
    return messages


# ---- values


def _nested(value: object, column: str, where: str) -> Sequence[object]:
    """A list, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            what = f"'{column}' is a text, and not one of JSON: {error.msg} at character {error.pos + 1}"
            raise DataError(what, where=where, fix="write a list, or a list as JSON text") from error
    if not isinstance(value, list | tuple):
        raise DataError(f"'{column}' is {_kind(value)}, not a list", where=where, fix="write a list")
    return value


def _text(value: object, where: str, name: str) -> str:
    """A text; the text parts of OpenAI's lists of parts in one."""
    if value is None:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        return "\n".join(_text(part.get("text"), where, name) for part in value)
    if not isinstance(value, str):
        raise DataError(f"'{name}' is {_kind(value)}, not a text", where=where, fix="write a text")
    return value


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", tuple: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number" if isinstance(value, int | float) else "no text")


# ---- checks


def _check(messages: Sequence[DialogueMessage], where: str) -> None:
    turns = [message for message in messages if message["role"] != "system"]
    if not turns:
        raise DataError("the dialogue has no turns", where=where, fix="add a question, or remove the row")
    for number, message in enumerate(messages, 1):
        if number > 1 and message["role"] == "system":
            fix = "put it in front of all turns, or into the user's message"
            raise DataError("a system message stands between the turns", where=_place(where, number), fix=fix)
        if not message["content"].strip():
            fix = "fill it in or remove the row"
            raise DataError(f"the {message['role']}'s message is empty", where=_place(where, number), fix=fix)
    first = len(messages) - len(turns) + 1
    if turns[0]["role"] != "user":
        fix = "remove it, or add what was asked"
        raise DataError("the dialogue begins with the assistant", where=_place(where, first), fix=fix)
    for number, (left, right) in enumerate(pairwise(turns), first + 1):
        if left["role"] == right["role"]:
            what = f"two messages of the {left['role']} in a row"
            raise DataError(what, where=_place(where, number), fix="join them, or add what is missing in between")


def _place(where: str, number: int) -> str:
    return f"{where} message {number}".strip()
