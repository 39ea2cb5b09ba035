"""One face over a Hugging Face tokenizer: text to ids, special tokens by role, and what a plain text starts and ends with.

In: a fast tokenizer, the backbone's kind, and how the catalogue says plain text starts. Out: ids. A user's text never
becomes a special token (`split_special_tokens`), whatever it contains.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ptune.errors import BackboneError, TemplateError
from ptune.inputs.types import BackboneKind

__all__ = ["Tokens"]

ROLES = {"<bos>": "bos_token", "<eos>": "eos_token", "<sep>": "sep_token", "<cls>": "cls_token", "<pad>": "pad_token"}

_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Tokens:
    """Tokenises for one backbone.

    Args:
        tokenizer: a fast Hugging Face tokenizer (offsets are needed).
        kind: the backbone's kind.
        text_start: the token that plain text starts with (catalogue), None to follow the tokenizer.
        decoder_start_id: first decoder token of an encoder-decoder model.
    """

    def __init__(
        self, tokenizer: Any, kind: BackboneKind, text_start: str | None = None, decoder_start_id: int | None = None
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise BackboneError("the tokenizer is not a fast one", fix="save it with a tokenizer.json and load that")
        self.tokenizer = tokenizer
        self.kind = kind
        self._special_ids = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.start_ids, self.end_ids = _frame(tokenizer, kind, text_start)
        self.pad_id = _first(tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.slot_ids, self.decoder_ids = _slot(tokenizer, kind, decoder_start_id)

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a text on its own, without special tokens."""
        return self.spans(text)[0] if text else ()

    def spans(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Token ids and the character range [start, end) of each."""
        coded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
        )
        ids, offsets = coded["input_ids"], [(start, end) for start, end in coded["offset_mapping"]]
        if not self._special_ids.isdisjoint(ids):
            ids, offsets = self._apart(ids, offsets)
        return tuple(ids), tuple(offsets)

    def _apart(self, ids: list[int], offsets: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Spells special tokens letter by letter: Unigram tokenizers hold them as ordinary pieces too (T5's sentinels)."""
        spelled: list[tuple[int, tuple[int, int]]] = []
        for index, (start, end) in zip(ids, offsets, strict=True):
            if index in self._special_ids:
                letters = self.tokenizer.convert_tokens_to_ids(list(self.tokenizer.convert_ids_to_tokens(index)))
                spelled += [(letter, (min(start + at, end), min(start + at + 1, end))) for at, letter in enumerate(letters)]
            else:
                spelled.append((index, (start, end)))
        return [index for index, _ in spelled], [place for _, place in spelled]

    def word_ids(self, word: str, left: str = "") -> tuple[int, ...]:
        """Token ids of a label word as it stands behind `left` (a dummy prefix space of SentencePiece is avoided).

        Args:
            word: the word with the white space that belongs to it.
            left: the text in front of it; only its last character decides.
        """
        if not left:
            return self.ids(word)
        anchor = self.ids(left)
        together = self.ids(left + word)
        return together[len(anchor) :] if together[: len(anchor)] == anchor and len(together) > len(anchor) else self.ids(word)

    def special(self, token: str) -> tuple[int, ...]:
        """Id of a special token named by its text or by role (`<bos>`, `<eos>`, `<sep>`, `<cls>`).

        Raises:
            TemplateError: the tokenizer has no such token.
        """
        text = getattr(self.tokenizer, ROLES[token], None) if token in ROLES else token
        if text is None and token == "<sep>":
            text = self.tokenizer.eos_token
        index = None if text is None else self.tokenizer.convert_tokens_to_ids(text)
        if index is None or (index == self.tokenizer.unk_token_id and text != self.tokenizer.unk_token):
            known = ", ".join(map(str, self.tokenizer.all_special_tokens))
            raise TemplateError(f"this model has no special token {token!r}", where="template", fix=f"it knows {known}")
        return (index,)

    def text(self, ids: Sequence[int]) -> str:
        """What a model wrote: token ids as text, special tokens left out, nothing tidied up."""
        kept = [index for index in ids if index not in self._unwritten]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        """Every special token by its text, also those that have no role."""
        added = self.tokenizer.added_tokens_decoder.items()
        named = zip(self.tokenizer.all_special_tokens, self.tokenizer.all_special_ids, strict=True)
        return {token.content: index for index, token in added if token.special} | dict(named)

    @cached_property
    def _unwritten(self) -> frozenset[int]:
        """What is no part of a text; byte tokens are, even where a tokenizer calls them special."""
        return frozenset(index for name, index in self.special_ids.items() if not _BYTE.fullmatch(name))

    def frequent_words(self, limit: int = 5000) -> list[int]:
        """Ids of the first `limit` whole words of the vocabulary; tokenizers number tokens roughly by frequency."""
        chosen: list[int] = []
        special = set(self.tokenizer.all_special_ids)
        for first in range(0, len(self.tokenizer), 4096):
            ids = range(first, min(first + 4096, len(self.tokenizer)))
            for index, piece in zip(ids, self.tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
                word = piece.lstrip("Ġ▁") if piece else ""
                if not word.isascii():  # a byte-level piece is no text: it may be half a character
                    word = self.tokenizer.decode([index]).strip()
                if index not in special and word.isalpha() and (len(word) > 2 or not word.isascii()):
                    chosen.append(index)
            if len(chosen) >= limit:
                break
        return chosen[:limit] or [index for index in range(len(self.tokenizer)) if index not in special][:limit]

    def show(self, ids: Sequence[int]) -> list[str]:
        """Readable pieces, one per id."""
        pieces = []
        for index in ids:
            text = self.tokenizer.decode([index])
            pieces.append(text if text and "�" not in text else self.tokenizer.convert_ids_to_tokens(index))
        return pieces


def _frame(tokenizer: Any, kind: BackboneKind, text_start: str | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What stands in front of and behind a plain text: what the tokenizer itself adds, or the catalogue's start.

    A decoder's text never ends with a special token: it goes on. A decoder whose tokenizer adds nothing gets `<|endoftext|>`
    where that is a special token, else its BOS.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    start, end = tuple(full[:at]), tuple(full[at + len(bare) :])
    if text_start is not None:
        index = tokenizer.convert_tokens_to_ids(text_start)
        if index is None or (index == tokenizer.unk_token_id and text_start != tokenizer.unk_token):
            raise BackboneError(f"this model has no token {text_start!r}", where="text_start", fix="leave it out")
        start = (index,)
    elif kind == "decoder" and not start:
        specials = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=False))
        chosen = specials.get("<|endoftext|>", tokenizer.bos_token_id)
        start = () if chosen is None else (chosen,)
    return start, () if kind == "decoder" else end


def _slot(tokenizer: Any, kind: BackboneKind, decoder_start_id: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token that stands for one answer token in the text, and what the decoder's text starts with.

    T5 marks the gap with its first sentinel and repeats it in front of the answer (Raffel et al. 2020, section 3.1.4); other
    encoder-decoders use their mask token and begin the answer after their own start tokens.
    """
    mask = () if tokenizer.mask_token_id is None else (tokenizer.mask_token_id,)
    if kind != "encoder-decoder":
        return (mask if kind == "encoder" else ()), ()
    sentinel = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    start = () if decoder_start_id is None else (decoder_start_id,)
    if sentinel is not None and sentinel != tokenizer.unk_token_id:
        return (sentinel,), (*start, sentinel)
    begin = () if tokenizer.bos_token_id in (None, decoder_start_id) else (tokenizer.bos_token_id,)
    return mask, (*start, *begin)


def _first(*candidates: int | None) -> int:
    return next(value for value in candidates if value is not None)
