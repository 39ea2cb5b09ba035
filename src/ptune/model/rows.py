"""Rows of data to batches for one task: rendered, tokenised, with what need not be computed again.

In: examples. Out: `Prepared` rows, then `Batch`es of them, with kept contexts (training) or with what all of them start with,
read once: for all batches (inference), or anew for each, as the prompt learns (training). The half of `TaskModel` that knows no
kind of task: how a row is laid out, and what its answer adds, each kind says itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ptune.backbone import Backbone, KeptContexts, LeadContexts
from ptune.data import Example
from ptune.errors import BackboneError
from ptune.inputs import Batch, Context, Encoded, Lead, SoftLayout, StoredContext, lead_length, trunk_start
from ptune.model.outcome import Prepared
from ptune.model.parts import Tune, encode_example
from ptune.prompt import DeepConfig, MethodConfig, PromptMethod, registration
from ptune.template import Template

__all__ = ["TOKENS_PER_BATCH", "BatchedRows"]

TOKENS_PER_BATCH = 1024
"""Live tokens that inference computes at once: enough for the matrix products, little enough for the cache."""
MIN_LEAD = 2
"""A common beginning of fewer tokens is not worth a context."""
_WORTH_A_READING = 32
"""Tokens of a batch that need not be read again, from which on reading its beginning by itself is faster in training."""


class BatchedRows(nn.Module, ABC):
    """A task's rows as batches; `TaskModel` sets the attributes."""

    backbone: Backbone
    template: Template
    method: MethodConfig
    layout: SoftLayout
    max_length: int
    tune: Tune
    prompt: PromptMethod
    gap: str | None = None  # what marks the answer slot in a row's own text, where the template has none
    num_candidates: int
    has_candidates: bool
    _leads: LeadContexts

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> Prepared:
        """Renders and tokenises rows; with `keep_context`, computes what lies in front of the learned tokens once.

        Args:
            examples: rows.
            keep_context: whether to keep.
            **storage: `dtype` and `memory` of `KeptContexts`.

        Raises:
            DataError: a row that this kind of task cannot read.
            TemplateError: a missing field, or a row that does not fit.
            BackboneError: `keep_context` where keeping would not be exact.
        """
        encoded = tuple(self.encode(example) for example in examples)
        return Prepared(encoded, contexts=self.kept_contexts(encoded, **storage) if keep_context else None)

    def kept_contexts(self, encoded: Sequence[Encoded], **storage: Any) -> KeptContexts:
        """What lies in front of the learned tokens of these rows, computed once.

        Raises:
            BackboneError: keeping would not be exact.
        """
        self.check_keep()
        return KeptContexts(self.backbone, [row.ids[: trunk_start(row)] for row in encoded], **storage)

    def shared_contexts(self, encoded: Sequence[Encoded]) -> KeptContexts | None:
        """Those of these rows that other tasks share (see `sharing_contexts`); None where reading anew is exact or cheaper."""
        shared = self.backbone.shared
        if shared is None or self.why_not_keep():
            return None
        prefixes = [row.ids[: trunk_start(row)] for row in encoded]
        most = 2 * self.num_lead(encoded) * len(prefixes)  # tokens that all rows start with are read once in any case
        return shared.of(self.backbone, prefixes) if sum(map(len, prefixes)) > most else None

    def encode(self, example: Example, *, num_answer_tokens: int | None = None, choice: str | None = None) -> Encoded:
        """One row as tokens.

        Args:
            example: the row.
            num_answer_tokens: room for its answer, where that differs from row to row.
            choice: the text for `{choice}` in the template.

        Raises:
            TemplateError: a missing field, or too long; the message names the row.
        """
        entry = registration(self.method)
        encoded = encode_example(
            example,
            self.template,
            self.layout,
            self.backbone.tokens,
            max_length=self.max_length,
            num_answer_tokens=self.num_answer_tokens if num_answer_tokens is None else num_answer_tokens,
            lead=entry.num_lead(self.method),
            gap=self.gap,
            choice=choice,
        )
        deep_from = entry.deep_from(self.method, encoded)
        return encoded if deep_from is None else replace(encoded, deep_from=deep_from)

    def batch(self, prepared: Prepared, index: Sequence[int], *, lead: tuple[int, Context] | None = None) -> Batch:
        """The rows with these numbers, laid out for this backbone and kind of task.

        Args:
            prepared: rows.
            index: their numbers.
            lead: how many tokens all rows start with, and their keys and values (see `lead`).

        Raises:
            BackboneError: contexts that were kept for another model.
        """
        rows = [prepared.encoded[i] for i in index]
        is_learning = torch.is_grad_enabled() and lead is None and prepared.contexts is None
        if is_learning and (num_shared := self.num_shared(rows)):
            batch = self.lay_out(prepared, index, skip=[num_shared] * len(rows))
            return replace(batch, contexts=(self._lead_of(rows, num_shared),))
        contexts, skip = self._contexts(prepared, rows, lead)
        return self.lay_out(prepared, index, contexts=contexts, skip=skip)

    @abstractmethod
    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> Batch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""

    @property
    def num_answer_tokens(self) -> int:
        """Room that a row leaves for the longest answer."""
        return 1

    def num_answer_live(self, prepared: Prepared, number: int) -> int:
        """Tokens that the answer of row `number` adds to those that are computed, as branches do."""
        return 0

    def _contexts(
        self, prepared: Prepared, rows: Sequence[Encoded], lead: tuple[int, Context] | None
    ) -> tuple[tuple[Context | StoredContext, ...], list[int] | None]:
        if prepared.contexts is not None:
            if prepared.contexts.fingerprint != self.backbone.fingerprint:
                raise BackboneError("these rows' contexts were kept for another model", fix="prepare them with this one")
            skip = [trunk_start(row) for row in rows]
            kept = prepared.contexts.context([row.ids[:start] for row, start in zip(rows, skip, strict=True)])
            return () if kept is None else (kept,), skip
        return ((lead[1],), [lead[0]] * len(rows)) if lead else ((), None)

    def lead(self, rows: Sequence[Encoded]) -> tuple[int, Context] | None:
        """What all these rows start with, learned tokens included, computed once: for inference on a causal model."""
        length = self.num_lead(rows)
        if not length:
            return None
        return length, self._leads.context(self.backbone, self._lead_of(rows, length), self.prompt())

    def _lead_of(self, rows: Sequence[Encoded], length: int) -> Lead:
        """The first tokens of these rows; learned keys and values that stand behind the text, they do not see."""
        return Lead(tuple(rows[0].ids[:length]), tuple(rows[0].soft[:length]), self._has_deep_front)

    @property
    def lead_bytes(self) -> int:
        """Memory that is taken by what texts started with so far."""
        return self._leads.num_bytes

    def num_lead(self, rows: Sequence[Encoded]) -> int:
        """How many tokens of these rows' common beginning inference keeps; 0 where it may not, or where it is too short."""
        length = 0 if self.why_no_lead() or not rows else lead_length(rows)
        return length if length >= MIN_LEAD else 0

    def num_shared(self, rows: Sequence[Encoded], num_rows: int | None = None) -> int:
        """How many tokens of their common beginning a training step reads once for all of its rows.

        Args:
            rows: some.
            num_rows: of a step; None for these alone.
        """
        length = 0 if self.backbone.is_checkpointing else self.num_lead(rows)  # a layer that is forgotten keeps nothing
        return length if length * ((num_rows or len(rows)) - 1) >= _WORTH_A_READING else 0

    def batches(self, prepared: Prepared, batch_size: int | None, *, seed: int | None = None) -> Iterator[Batch]:
        """All rows in batches; shuffled with a seed, else sorted by length so that little is padded.

        Args:
            prepared: rows.
            batch_size: rows of a batch; None fills batches up to `TOKENS_PER_BATCH` live tokens.
            seed: of the order.
        """
        if prepared.contexts is not None and prepared.contexts.holds_nothing:
            prepared = replace(prepared, contexts=None)
        if not torch.is_grad_enabled() and prepared.contexts is None:
            prepared = replace(prepared, contexts=self.shared_contexts(prepared.encoded))
        lead = None if torch.is_grad_enabled() or prepared.contexts is not None else self.lead(prepared.encoded)
        lengths = self.live_lengths(prepared, lead)
        if seed is None:
            order = sorted(range(len(prepared)), key=lambda i: lengths[i])
        else:
            order = torch.randperm(len(prepared), generator=torch.Generator().manual_seed(seed)).tolist()
        at = 0
        while at < len(order):
            num = batch_size or 1
            while batch_size is None and at + num < len(order) and (num + 1) * lengths[order[at + num]] <= TOKENS_PER_BATCH:
                num += 1
            yield self.batch(prepared, order[at : at + num], lead=lead)
            at += num

    def live_lengths(self, prepared: Prepared, lead: tuple[int, Context] | None = None) -> list[int]:
        """Tokens of each row that are computed when it is scored, over all candidates."""
        skipped = [trunk_start(row) if prepared.contexts is not None else lead[0] if lead else 0 for row in prepared.encoded]
        return [
            (len(row) - skip + self.num_answer_live(prepared, number)) * self.num_candidates
            for number, (row, skip) in enumerate(zip(prepared.encoded, skipped, strict=True))
        ]

    def why_not_keep(self) -> str:
        """Why what lies in front of the learned tokens may not be kept; empty where it may."""
        in_front = "learned keys and values stand in front of the whole text" if self._has_deep_front else ""
        return self._why_not_reuse() or in_front

    def _why_not_reuse(self) -> str:
        """Why keys and values of tokens that do not change may not be used again; empty where they may."""
        if self.backbone.kind != "decoder":
            return "only a causal model's text is unchanged by what stands behind it"
        if self.tune == "lm":
            return "the language model itself is trained"
        if self.why_read_all():
            return self.why_read_all()
        if not self.backbone.takes_plan:
            return f"{self.backbone.spec.architecture}'s attention cannot be reached"
        return ""

    def why_read_all(self) -> str:
        """Why what is read off the model needs all tokens of a text, so that none may be kept; empty where it does not."""
        return ""

    def why_no_lead(self) -> str:
        """Why inference may not keep what all rows start with; empty where it may."""
        return self._why_not_reuse() or (
            "each candidate of an ensemble has a beginning of its own" if self.has_candidates else ""
        )

    def check_keep(self) -> None:
        """Nothing, where contexts may be kept.

        Raises:
            BackboneError: keeping would not be exact.
        """
        refusal = self.why_not_keep()
        if refusal:
            raise BackboneError(f"contexts cannot be kept: {refusal}", where="keep_context", fix="set keep_context: false")

    @property
    def _has_deep_front(self) -> bool:
        """Whether every token of the text sees learned keys and values."""
        return isinstance(self.method, DeepConfig) and self.method.placement == "front"

    @property
    def _has_types(self) -> bool:
        return self.backbone.kind == "encoder" and getattr(self.backbone.model.config, "type_vocab_size", 0) > 1
