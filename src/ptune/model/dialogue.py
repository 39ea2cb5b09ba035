"""Replying in a conversation: the model's own chat template around messages, loss on the assistant's replies alone.

In: rows that hold a dialogue in any of the field's spellings (`ptune.data.dialogue_messages`). Out: the next reply. Learned
tokens stand in front of the conversation, `{soft:20}{messages}{mask}`, where one row teaches all its replies, or right in front
of the reply, `{messages}{soft:8}{mask}`, where each reply is a row and what it answers is kept. A text that spells a special
token stays a text (`inputs/chat.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from ptune.backbone import Backbone
from ptune.data import Example, dialogue_messages
from ptune.errors import DataError, TemplateError
from ptune.inputs import Chat, Continued, Conversations, Message
from ptune.model.task_model import TaskKind
from ptune.model.writing_model import WritingModel
from ptune.objective import check_text_metrics
from ptune.prompt import DeepConfig, registration
from ptune.template import Field, Mask, Soft, Template

__all__ = ["DialogueModel"]

D = TypeVar("D", bound="DialogueModel")
R = TypeVar("R")
_FIELD = "messages"


class DialogueModel(WritingModel):
    """See the module's docstring.

    Args:
        backbone, template, max_new_tokens, decode: as in `WritingModel`; the template says where learned tokens stand.
        chat_template: Jinja text, `plain` for a model that was never taught a chat, or None for the model's own.
        **common: as in `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "dialogue"
    keys = ("max_new_tokens", "chat_template", "decode")
    default_template = "{messages}{mask}"
    plain_column = "prompt"

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        max_new_tokens: int = 64,
        chat_template: str | None = None,
        decode: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(backbone, template, max_new_tokens=max_new_tokens, decode=decode, **common)
        self.chat_template = chat_template
        front, behind = _places(template, self.layout.rows_of_node)
        self.conversations = Conversations(
            Chat(backbone.tokens, chat_template),
            backbone.tokens,
            front=front,
            behind=behind,
            is_before_start=registration(self.method).num_lead(self.method) > 0,
            row_for_each=isinstance(self.method, DeepConfig) and self.method.placement != "front",
            max_length=self.max_length,
            max_reply=max_new_tokens,
        )
        self.to(backbone.device)

    @classmethod
    def fields_read(cls, template: Template) -> tuple[str, ...]:
        """None that must be there: a dialogue has many spellings."""
        return ()

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Refuses rows that hold no dialogue, or one without a reply at its end, and missing packages for the figures."""
        for row in rows:
            dialogue_messages(row.fields, where=row.where, last="assistant")
        if rows and not is_training:
            check_text_metrics()

    def has_target(self, example: Example) -> bool:
        """Whether the dialogue ends with a reply."""
        return self._messages(example)[-1]["role"] == "assistant"

    def learned(self, example: Example) -> tuple[Continued, ...]:
        """All replies of the dialogue."""
        return tuple(map(self._seen, self._located(example, self.conversations.learned, self._messages(example))))

    def asked(self, example: Example) -> Continued:
        """The dialogue up to the reply that it ends with, or that it waits for."""
        messages = self._messages(example)
        last = messages[-1]["role"] == "assistant"
        return self._seen(self._located(example, self.conversations.asked, messages[:-1] if last else messages))

    def references(self, example: Example) -> tuple[str, ...]:
        """The reply that the dialogue ends with.

        Raises:
            DataError: it ends with a question.
        """
        last = self._messages(example)[-1]
        if last["role"] != "assistant":
            raise DataError("the dialogue ends without a reply to compare with", where=example.where, fix="add it")
        return (last["content"],)

    @property
    def end_ids(self) -> frozenset[int]:
        """The token that ends a turn, and the model's own."""
        return super().end_ids | {self.conversations.chat.end_id}

    def _messages(self, example: Example) -> Sequence[Message]:
        return dialogue_messages(example.fields, where=example.where)

    def _located(self, example: Example, rows_of: Callable[[Sequence[Message]], R], messages: Sequence[Message]) -> R:
        """Rows of a conversation; an error names the row of data."""
        try:
            return rows_of(messages)
        except (DataError, TemplateError) as error:
            where = ", ".join(filter(None, (example.where, error.where)))
            raise type(error)(error.what, where=where, fix=error.fix) from None

    def _seen(self, row: Continued) -> Continued:
        """With what a deep method says about where its learned tokens are seen from."""
        deep_from = registration(self.method).deep_from(self.method, row.encoded)
        return row if deep_from is None else replace(row, encoded=replace(row.encoded, deep_from=deep_from))

    def settings(self) -> dict[str, Any]:
        """What `restore` takes back."""
        return {**super().settings(), "chat_template": self.chat_template}

    @classmethod
    def restore(cls: type[D], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> D:
        """A trained model from a card's `settings`."""
        own = {key: settings[key] for key in ("max_new_tokens", "decode", "chat_template")}
        return cls(backbone, template, **own, **common)


def _places(template: Template, rows_of_node: Mapping[int, tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Prompt rows in front of the conversation, and between it and the reply.

    Raises:
        TemplateError: there is more in the template than learned tokens, the conversation and the reply.
    """
    nodes = template.nodes
    is_field = [isinstance(node, Field) and node.name == _FIELD for node in nodes]
    others = any(not isinstance(node, Soft | Mask) for node, own in zip(nodes, is_field, strict=True) if not own)
    if sum(is_field) != 1 or others or template.num_masks != 1 or not isinstance(nodes[-1], Mask):
        raise TemplateError(
            "a dialogue's template holds conversation, reply and learned tokens; its words come from the chat template",
            where="template",
            fix='write "{messages}{mask}", with {soft:8} in front of either; instructions are a system message',
        )
    at = is_field.index(True)
    front = [row for index, rows in sorted(rows_of_node.items()) if index < at for row in rows]
    behind = [row for index, rows in sorted(rows_of_node.items()) if index > at for row in rows]
    return tuple(front), tuple(behind)
