"""Kept contexts: keys and values of what stands in front of the first learned token, computed once.

In: token ids. Out: a `Context` for any batch. `KeptContexts` holds one per text, found again by its tokens, in memory up to a
budget and in a memory-mapped file beyond it; `LeadContexts` holds what a whole task shares, its learned tokens included, for
inference. Exact only while nothing in front can change, which `PromptModel` makes sure of. Texts that are known at first are
grouped by length in a fixed order, and where nothing is held by their batch: so a resumed run has byte-equal keys and values.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ptune.backbone.backbone import Backbone
from ptune.backbone.lead import keys_and_values, read_lead
from ptune.errors import BackboneError
from ptune.inputs import Context, Lead, Live, PromptState, StoredContext, pad_rows

__all__ = ["ContextType", "KeptContexts", "LeadContexts", "context_bytes"]

ContextType = Literal["fp32", "bf16"]

_TOKENS_PER_GROUP, _MOST_PADDING = 2048, 80
_MAX_LEADS = 16


def context_bytes(backbone: Backbone, num_tokens: int, dtype: ContextType | None = None) -> int:
    """Memory that keys and values of so many tokens take."""
    config = backbone.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    itemsize = 2 if dtype == "bf16" else backbone.dtype.itemsize
    return int(2 * backbone.spec.num_layers * heads * size * num_tokens * itemsize)


class KeptContexts:
    """Keys and values of a set of texts, without padding; a text that occurs twice is held once.

    Args:
        backbone: a causal model that takes a plan.
        prefixes: each text's constant token ids; empty ones are allowed.
        dtype: number type of what is stored, None for the backbone's.
        memory: bytes to hold in memory, None without limit; what is over goes into a temporary file. With 0 and no prefixes,
            nothing is held: each batch's contexts are computed when it is read, and go with it.

    Raises:
        BackboneError: the disk has no room for the temporary file.
    """

    def __init__(
        self,
        backbone: Backbone,
        prefixes: Sequence[Sequence[int]],
        *,
        dtype: ContextType | None = None,
        memory: int | None = None,
    ) -> None:
        self.fingerprint = backbone.fingerprint
        self._backbone = backbone
        self._dtype = torch.bfloat16 if dtype == "bf16" else backbone.dtype
        self._stored: dict[tuple[int, ...], Tensor] = {}
        self.memory_left = memory
        distinct = {tuple(ids) for ids in prefixes if len(ids)}
        self._file: Tensor | None = None
        self._file_at = 0
        if memory is not None:
            over = context_bytes(backbone, sum(map(len, distinct)), dtype) - memory
            if over > 0:  # one text may straddle the limit
                self._file = _mapped(over + context_bytes(backbone, max(map(len, distinct)), dtype), self._dtype)
        self._compute(sorted(distinct, key=lambda ids: (len(ids), ids)))

    @property
    def form(self) -> tuple[str, torch.dtype]:
        """Which model the contexts are of, in which number type."""
        return self.fingerprint, self._dtype

    @property
    def num_bytes_in_file(self) -> int:
        """Bytes that did not fit into the memory given."""
        return self._file_at * self._dtype.itemsize

    @property
    def holds_nothing(self) -> bool:
        """Whether texts are computed whenever they are asked for, so that reading one whole takes no longer."""
        return self.memory_left == 0 and not self._stored

    def context(self, prefixes: Sequence[Sequence[int]]) -> StoredContext | None:
        """The context of a batch of texts, right-padded; None where no text has one.

        Texts not seen before are computed, and held while there is room.
        """
        keys = [tuple(ids) for ids in prefixes]
        fresh = self._compute(sorted({ids for ids in keys if ids and ids not in self._stored}, key=lambda ids: (len(ids), ids)))
        longest = max(map(len, keys))
        if longest == 0:
            return None
        steps = torch.arange(longest).expand(len(keys), -1)
        mask = steps < torch.tensor([len(ids) for ids in keys])[:, None]
        like = torch.empty(0, dtype=self._backbone.dtype, device=self._backbone.device)
        return StoredContext(tuple(self._stored.get(ids, fresh.get(ids)) for ids in keys), mask, steps, like)

    def _compute(self, prefixes: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
        """Of prefixes sorted by length."""
        found = {}
        for group in _groups(prefixes):
            both = _of_texts(self._backbone, group)
            for row, ids in enumerate(group):
                found[ids] = self._hold(ids, both[:, :, row, :, : len(ids)])
        return found

    def _hold(self, ids: tuple[int, ...], both: Tensor) -> Tensor:
        """In memory, else in the file, else nowhere: then it is the caller's alone."""
        size = both.numel() * self._dtype.itemsize
        if self.memory_left is None or size <= self.memory_left:
            self.memory_left = None if self.memory_left is None else self.memory_left - size
            held = both.to(self._dtype).clone(memory_format=torch.contiguous_format)
        elif self._file is not None and self._file_at + both.numel() <= len(self._file):
            place = self._file[self._file_at : self._file_at + both.numel()]
            self._file_at += both.numel()
            held = place.view(both.shape).copy_(both)
        else:
            return both.to(self._dtype)
        self._stored[ids] = held
        return held


def _groups(prefixes: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int, ...]]]:
    """Neighbours that are read together: as many as fill the matrix products, unless padding them costs more than a start."""
    first = padding = 0
    for at in range(1, len(prefixes)):
        num, longest = at - first, len(prefixes[at])
        padding += num * (longest - len(prefixes[at - 1]))
        if padding > _MOST_PADDING or (num + 1) * longest > _TOKENS_PER_GROUP:
            yield prefixes[first:at]
            first, padding = at, 0
    if prefixes:
        yield prefixes[first:]


class LeadContexts:
    """Keys and values of what every text of a task starts with, learned tokens included; for inference.

    One for each beginning, with the learned rows that stand in it: a prompt that changed never meets an old context, and the
    old one goes.
    """

    def __init__(self) -> None:
        self._stored: dict[Lead, tuple[str, Context]] = {}

    @property
    def num_bytes(self) -> int:
        """Memory that the keys and values take."""
        return sum(one.keys.nbytes + one.values.nbytes for _, one in tuple(self._stored.values()))

    @torch.no_grad()
    def context(self, backbone: Backbone, lead: Lead, prompt: PromptState) -> Context:
        """[N, 1, H_kv, L, K] keys and values of one row of tokens, shared by all texts."""
        version = backbone.fingerprint + _digest(lead, prompt)
        known = self._stored.get(lead)
        if known is not None and known[0] == version:
            return known[1]
        fresh = read_lead(backbone, lead, prompt)
        if known is None and len(self._stored) >= _MAX_LEADS:
            self._stored.clear()
        self._stored[lead] = (version, fresh)
        return fresh


def _digest(lead: Lead, prompt: PromptState) -> str:
    """Of all learned numbers that a beginning depends on."""
    digest = hashlib.sha256()
    used = sorted({number for number in lead.soft if number >= 0})
    parts = [prompt.rows[..., used, :]] if used and prompt.rows is not None else []
    for place in sorted(prompt.prefixes) if lead.sees_prefix else ():
        prefix = prompt.prefixes[place]
        parts += [*prefix.keys, *prefix.values, *(prefix.gates or ())]
    for part in parts:
        digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _of_texts(backbone: Backbone, rows: Sequence[Sequence[int]]) -> Tensor:
    """[2, N, R, H_kv, L, K] of rows of tokens, right-padded."""
    ids = pad_rows(rows, backbone.tokens.pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    steps = torch.arange(ids.shape[1]).expand(len(rows), -1)
    live = Live(ids, torch.full_like(ids, -1), steps < lengths[:, None], steps)
    return keys_and_values(backbone, live, PromptState())


def _mapped(num_bytes: int, dtype: torch.dtype) -> Tensor:
    """A flat tensor in a temporary file that goes when the tensor does.

    Raises:
        BackboneError: the disk has no room for it.
    """
    handle, path = tempfile.mkstemp(prefix="ptune-contexts-")
    try:
        with os.fdopen(handle, "wb"):
            _reserve(handle, num_bytes)
        return torch.from_file(path, shared=True, size=num_bytes // dtype.itemsize, dtype=dtype)
    finally:
        Path(path).unlink()  # the mapping holds the file until it is dropped


def _reserve(handle: int, num_bytes: int) -> None:
    """Takes the bytes from the disk at once: writing to a mapped file for which there is no room would end the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, num_bytes)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # this file system cannot
            return
        raise BackboneError(
            f"no room for {-(-num_bytes >> 20)} MiB of kept contexts: {error.strerror}",
            where=tempfile.gettempdir(),
            fix="set TMPDIR to a folder on a larger disk, a larger context_memory, or keep_context: false",
        ) from error
