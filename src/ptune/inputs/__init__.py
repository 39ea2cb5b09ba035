"""Tokens, batches and the types that prompt and backbone share."""

from ptune.inputs.answers import AnswerWords, FillOrder
from ptune.inputs.branched import lay_out_branched, shared_beginning
from ptune.inputs.chat import PLAIN_CHAT, Chat, ChatText, Message
from ptune.inputs.continued import Continued, decoder_prefix, lay_out_continued
from ptune.inputs.conversation import Conversations
from ptune.inputs.encode import encode
from ptune.inputs.hidden import field_tokens, lay_out_hidden
from ptune.inputs.layout import (
    PoolKind,
    lay_out_filled,
    lay_out_pooled,
    lay_out_words,
    lead_length,
    num_laid_out,
    pad_rows,
    trunk_start,
)
from ptune.inputs.merge import Merged, merge
from ptune.inputs.places import lay_out_places
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
    Lead,
    Live,
    PromptState,
    Reads,
    StoredContext,
)
from ptune.inputs.windows import Window, Windowed, encode_windows
from ptune.inputs.words import Unit, WordPiece, Words, join_words, split_words, word_units

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
    "Lead",
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
    "Unit",
    "Window",
    "Windowed",
    "WordPiece",
    "Words",
    "decoder_prefix",
    "encode",
    "encode_windows",
    "field_tokens",
    "join_words",
    "lay_out_branched",
    "lay_out_continued",
    "lay_out_filled",
    "lay_out_hidden",
    "lay_out_places",
    "lay_out_pooled",
    "lay_out_words",
    "lead_length",
    "merge",
    "num_laid_out",
    "pad_rows",
    "shared_beginning",
    "soft_layout",
    "split_words",
    "trunk_start",
    "word_units",
]
