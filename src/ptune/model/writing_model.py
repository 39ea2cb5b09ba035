"""Tasks whose answer is a text: the loss on its tokens, and the text that the model writes itself.

In: rows with a prompt and, to learn from, the text behind it. Out: the log-probability of the text's tokens, and predictions.
What the prompt is, and which tokens are learned, each kind says: a template with a gap (`GenerationModel`), a conversation
(`DialogueModel`). Only the learned tokens' places are read, and their logits are computed in chunks (`readout/scoring.py`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.decode import (
    CausalSteps,
    DecoderSteps,
    DecodeSettings,
    RecomputedSteps,
    Steps,
    Written,
    follow,
    search_beams,
    write_lines,
)
from ptune.errors import BackboneError, RecipeError
from ptune.inputs import Batch, Context, Continued, Place, StoredContext, decoder_prefix, lay_out_continued
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.rows import TOKENS_PER_BATCH
from ptune.model.task_model import TaskModel
from ptune.objective import TextReport, text_report
from ptune.prompt import MethodConfig, registration
from ptune.readout import item_log_probabilities
from ptune.template import Template

__all__ = ["PreparedTexts", "TextPrediction", "WritingModel"]

W = TypeVar("W", bound="WritingModel")

_LINES_AT_ONCE = 32
"""Texts, beams and samples counted, that are written side by side: a step reads all weights once, for however many."""


@dataclass(frozen=True)
class TextPrediction:
    """What the task writes for one row.

    Args:
        text: the answer.
        log_probability: of all its tokens.
        reason: why it ended: `end` token, `stop` word, or `length`.
        alternatives: further beams or samples, where several were asked for.
    """

    text: str
    log_probability: float
    reason: str
    alternatives: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"text": self.text, "log_probability": self.log_probability, "reason": self.reason}
        return {**values, "alternatives": list(self.alternatives)} if self.alternatives else values

    def __str__(self) -> str:
        return " ".join(self.text.split())


@dataclass(frozen=True)
class PreparedTexts(Prepared):
    """Rows with the text behind each prompt.

    Args:
        rows: prompts and texts; `encoded` are their prompts.
    """

    rows: tuple[Continued, ...] = ()


class WritingModel(TaskModel, ABC):
    """See the module's docstring.

    Args:
        backbone, template: as in `TaskModel`.
        max_new_tokens: room that a row leaves for the answer, and tokens that are written at most.
        decode: how answers are written where a call does not say otherwise.
        stop: texts at which every answer ends, whatever a call says.
        **common: as in `TaskModel`.

    Raises:
        BackboneError: a masked model, or one without an output layer or an end token.
    """

    metric: ClassVar[str] = "token_probability"

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        max_new_tokens: int,
        decode: Mapping[str, Any] | None,
        stop: tuple[str, ...] = (),
        **common: Any,
    ) -> None:
        if backbone.kind == "encoder":
            raise BackboneError(
                f"{backbone.spec.name} is a masked model: it fills gaps in a text, but writes none",
                where="backbone",
                fix=f"use a causal or an encoder-decoder model for task: {self.kind}",
            )
        backbone.require_output()
        super().__init__(backbone, template, **common)
        self.max_new_tokens = max_new_tokens
        self.decode = dict(decode or {})
        if "max_new_tokens" in self.decode:
            raise RecipeError("max_new_tokens is a key of its own", where="decode", fix="write it beside decode, not in it")
        own = self.decode.get("stop") or ()
        self._stop = stop
        words = {**self.decode, "stop": (own,) if isinstance(own, str) else tuple(own)}
        self.decoding = DecodeSettings.of({**words, "max_new_tokens": max_new_tokens}, where="decode")
        if self.num_answer_tokens >= self.max_length:
            raise RecipeError(
                f"{max_new_tokens} new tokens leave no room for a prompt in the {self.max_length} of max_length",
                where="max_new_tokens",
                fix="set a larger max_length, or fewer new tokens",
            )
        self.check_room(max_new_tokens, max_prompt=self.max_length - self.num_answer_tokens)
        self.check_readout()

    @classmethod
    def build(
        cls: type[W],
        *,
        backbone: Backbone,
        template: Template | str,
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> W:
        """From the words of a recipe.

        Args:
            backbone, template, method, init_rows, init_deep, candidates, seed: as in `TaskModel.start`.
            **settings: those in `keys`, and columns, max_length, tune.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        start: dict[str, Any] = {"init_rows": init_rows, "init_deep": init_deep, "candidates": candidates, "seed": seed}
        first = cls.start(backbone, template, method, **start)
        words: dict[str, Any] = {
            **first.common,
            "seed": seed,
            **settings,
        }
        return cls(backbone, first.template, **words)

    # -- what a kind says --------------------------------------------------------------------------------------------

    @abstractmethod
    def learned(self, example: Example) -> tuple[Continued, ...]:
        """A row's prompt with the text to learn; several where each reply of a dialogue has its own."""

    @abstractmethod
    def asked(self, example: Example) -> Continued:
        """A row's prompt alone."""

    @abstractmethod
    def references(self, example: Example) -> tuple[str, ...]:
        """Texts that an answer is compared with."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the model's own, by its tokenizer and by its settings for generation."""
        tokenizer = self.backbone.tokens.tokenizer
        named = getattr(getattr(self.backbone.model, "generation_config", None), "eos_token_id", None)
        ids = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
        ids.append(self.backbone.tokens.special_ids.get("<|endoftext|>"))
        return frozenset(int(index) for index in ids if index is not None)

    # -- rows and batches --------------------------------------------------------------------------------------------

    @property
    def num_answer_tokens(self) -> int:
        """A causal model's row leaves room for the answer; an encoder's for the one token that stands in its place."""
        return self.max_new_tokens if self.backbone.kind == "decoder" else 1

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedTexts:
        """Rows to learn from where all have what is to be learned, else prompts alone.

        Raises:
            DataError: a row that this kind of task cannot read.
            TemplateError: a missing field, or a row that does not fit.
            BackboneError: `keep_context` where keeping would not be exact.
        """
        if all(self.has_target(example) for example in examples):
            return self._prepared([row for example in examples for row in self.learned(example)], keep_context, storage)
        return self._prepared([self.asked(example) for example in examples], keep_context, storage)

    def prompts(self, examples: Sequence[Example]) -> PreparedTexts:
        """Prompts alone, one for each row, even where the answers are known."""
        return self._prepared([self.asked(example) for example in examples], False, {})

    def _prepared(self, rows: Sequence[Continued], keep_context: bool, storage: Mapping[str, Any]) -> PreparedTexts:
        encoded = tuple(row.encoded for row in rows)
        contexts = self.kept_contexts(encoded, **storage) if keep_context else None
        return PreparedTexts(encoded, contexts=contexts, rows=tuple(rows))

    def num_answer_live(self, prepared: Prepared, number: int) -> int:
        """Tokens of the answer that are read."""
        assert isinstance(prepared, PreparedTexts)
        return len(prepared.rows[number]) - len(prepared.encoded[number])

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> Batch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        assert isinstance(prepared, PreparedTexts)
        rows = [prepared.rows[number] for number in index]
        return lay_out_continued(rows, self.backbone.tokens, index=index, contexts=contexts, skip=skip)

    # -- learning ----------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """[B] log-probability of each row's text, and the mean loss of a token; of prompts alone, [B, V] first logits."""
        states = self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts, batch.decoder)
        if batch.reads.item_cell is None:
            return Outcome(self.logits(states, None))
        values = item_log_probabilities(states, batch.reads, self.logits)
        scores = values.new_zeros(batch.num_examples).index_add(0, batch.reads.item_cell.to(values.device), values)
        return Outcome(scores, -values.mean())

    def mean_loss(self, rows: Prepared) -> float:
        """Mean loss of a token over rows with the parameters as they are."""
        assert isinstance(rows, PreparedTexts)
        total = 0.0
        with torch.no_grad():
            for batch in self.batches(rows, None):
                total -= float(self(batch).scores.double().sum())
        return total / max(1, sum(row.num_scored for row in rows.rows))

    def looks(self, prepared: Prepared) -> list[Look]:
        """The geometric mean of the tokens' probabilities, which is 1 / perplexity, and the mean loss."""
        loss = self.mean_loss(prepared)
        return [Look(math.exp(-loss), loss)]

    # -- writing -----------------------------------------------------------------------------------------------------

    def settings_of(self, words: Mapping[str, Any], *, where: str = "predict") -> DecodeSettings:
        """How a call wants its answers written: the recipe's way but for what it says itself.

        Raises:
            RecipeError: an unknown setting, or values that do not fit.
        """
        settings = self.decoding.but(words, where=where)
        return settings.model_copy(update={"stop": tuple(dict.fromkeys((*settings.stop, *self._stop)))})

    def write(
        self, examples: Sequence[Example], settings: DecodeSettings | None = None, *, batch_size: int | None = None
    ) -> list[tuple[Written, ...]]:
        """Answers rows, in their order; for each as many texts as the settings ask for.

        Args:
            examples: rows; what they hold as an answer is not looked at.
            settings: how; None as the recipe says.
            batch_size: rows written side by side; None takes as many as is fast.
        """
        chosen = settings or self.settings_of({})
        prepared = self.prompts(examples)
        self.check_room(chosen.max_new_tokens, max_prompt=max(map(len, prepared.encoded), default=0))
        written: list[tuple[Written, ...]] = [()] * len(examples)
        with torch.no_grad():
            lead = self.lead(prepared.encoded)
            for index in self._groups(prepared, chosen, batch_size):
                steps = self._steps(prepared, index, lead, chosen)
                if chosen.beams > 1:
                    found = search_beams(steps, self.backbone.tokens, chosen, self.end_ids, len(index))
                else:
                    found = write_lines(steps, self.backbone.tokens, chosen, self.end_ids, index)
                for number, texts in zip(index, found, strict=True):
                    written[number] = texts
        return written

    def follow(self, example: Example, settings: DecodeSettings | None = None) -> Iterator[str]:
        """Answers one row, piece by piece as the text is written; no piece ends inside a character.

        Raises:
            RecipeError: beams, which are only known at their end, or several texts.
        """
        chosen = settings or self.settings_of({})
        if chosen.beams > 1 or chosen.returns > 1:
            raise RecipeError(
                "only one text can be followed while it is written", where="beams", fix="set beams and returns to 1"
            )
        prepared = self.prompts([example])
        self.check_room(chosen.max_new_tokens, max_prompt=len(prepared.encoded[0]))
        return self._pieces(prepared, chosen)

    def _pieces(self, prepared: PreparedTexts, settings: DecodeSettings) -> Iterator[str]:
        with torch.no_grad():
            steps = self._steps(prepared, [0], None, settings)
        pieces = follow(steps, self.backbone.tokens, settings, self.end_ids)
        while True:
            with torch.no_grad():  # only while a piece is written: what the caller does between pieces is not our business
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None, **words: Any) -> list[TextPrediction]:
        """Answers rows.

        Args:
            examples: rows.
            batch_size: rows written side by side; None takes as many as is fast.
            **words: `DecodeSettings` by name, where they differ from the recipe's.
        """
        written = self.write(examples, self.settings_of(words), batch_size=batch_size)
        return [
            TextPrediction(best.text, best.log_probability, best.reason, tuple(one.text for one in others))
            for best, *others in written
        ]

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None, **words: Any) -> TextReport:
        """Writes answers and compares them with the references.

        Raises:
            DataError: a row without one.
        """
        references = [self.references(example) for example in examples]
        written = self.write(examples, self.settings_of(words), batch_size=batch_size)
        return text_report([texts[0].text for texts in written], references)

    def _groups(self, prepared: PreparedTexts, settings: DecodeSettings, batch_size: int | None) -> Iterator[list[int]]:
        """Rows that are written side by side: of like length, as many as all their beams or samples allow."""
        lengths = list(map(len, prepared.encoded))
        order = sorted(range(len(lengths)), key=lambda number: lengths[number])
        most = batch_size or max(1, _LINES_AT_ONCE // max(settings.beams, settings.returns))
        at = 0
        while at < len(order):
            num = 1
            while at + num < len(order) and num < most:
                if batch_size is None and (num + 1) * lengths[order[at + num]] > 4 * TOKENS_PER_BATCH:
                    break
                num += 1
            yield order[at : at + num]
            at += num

    def _steps(
        self, prepared: PreparedTexts, index: Sequence[int], lead: tuple[int, Context] | None, settings: DecodeSettings
    ) -> Steps:
        batch, backbone, prompt = self.batch(prepared, index, lead=lead), self.backbone, self.prompt()
        if backbone.kind == "encoder-decoder":
            prefix = decoder_prefix(prepared.encoded[index[0]], backbone.tokens)
            return DecoderSteps(backbone, batch.live, prompt, self.logits, prefix=prefix)
        if not backbone.takes_plan:
            return RecomputedSteps(backbone, batch.live, prompt, self.logits)
        return CausalSteps(backbone, batch.live, prompt, batch.known, self.logits, max_tokens=settings.max_new_tokens)

    def check_room(self, max_new_tokens: int, *, max_prompt: int) -> None:
        """Refuses texts that would run over the model's positions, before any is begun."""
        positions = self.backbone.spec.max_positions
        if positions is None:
            return
        num_deep = registration(self.method).num_deep(self.method) if self.backbone.spec.numbers_positions else 0
        prompt = max_prompt + num_deep if self.backbone.kind == "decoder" else len(self.backbone.tokens.decoder_ids)
        if prompt + max_new_tokens - 1 > positions:  # the last token is not read
            raise RecipeError(
                f"a prompt of {prompt} tokens and {max_new_tokens} new ones do not fit into the {positions} positions "
                f"of {self.backbone.spec.name}",
                where="max_new_tokens",
                fix=f"use at most {max(1, positions - prompt + 1)}, or a smaller max_length",
            )

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """How long answers are, and how they are written."""
        stop = self.decode.get("stop")
        decode = {**self.decode, "stop": list(stop)} if isinstance(stop, tuple) else self.decode
        return {"max_new_tokens": self.max_new_tokens, "decode": decode}
