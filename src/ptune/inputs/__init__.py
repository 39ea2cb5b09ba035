"""Tokens, batches and the types that prompt and backbone share."""

from ptune.inputs.answers import AnswerWords, FillOrder
from ptune.inputs.chat import PLAIN_CHAT, Chat, ChatText, Message
from ptune.inputs.continued import Continued, decoder_prefix, lay_out_continued
from ptune.inputs.conversation import Conversations
from ptune.inputs.encode import encode
from ptune.inputs.layout import PoolKind, lay_out_filled, lay_out_pooled, lay_out_words, lead_length, pad_rows, trunk_start
from ptune.inputs.merge import Merged, merge
from ptune.inputs.prefix import Place, Prefix, StackSpec
from ptune.inputs.soft import SoftLayout, soft_layout
from ptune.inputs.tokens import Tokens
from ptune.inputs.types import (
    BackboneKind,
    BackboneSpec,
    Batch,
    Context,
    DecoderRows,
    Encoded,
    Live,
    PromptState,
    Reads,
    StoredContext,
)

__all__ = [
    "PLAIN_CHAT",
    "AnswerWords",
    "BackboneKind",
    "BackboneSpec",
    "Batch",
    "Chat",
    "ChatText",
    "Context",
    "Continued",
    "Conversations",
    "DecoderRows",
    "Encoded",
    "FillOrder",
    "Live",
    "Merged",
    "Message",
    "Place",
    "PoolKind",
    "Prefix",
    "PromptState",
    "Reads",
    "SoftLayout",
    "StackSpec",
    "StoredContext",
    "Tokens",
    "decoder_prefix",
    "encode",
    "lay_out_continued",
    "lay_out_filled",
    "lay_out_pooled",
    "lay_out_words",
    "lead_length",
    "merge",
    "pad_rows",
    "soft_layout",
    "trunk_start",
]
