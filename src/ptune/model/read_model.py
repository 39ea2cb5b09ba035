"""Tasks that judge texts one by one, each read in the template's `{choice}`: on a causal model branches of one row, else rows.

In: a row and the texts to be judged with it (its choices, or all labels). Out: one score for each, [R] in the order of
examples and texts: a head's single output, or the log-odds of a word that says yes over one that says no.
"""

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import RecipeError, VerbalizerError
from ptune.inputs import (
    AnswerWords,
    Batch,
    Context,
    Encoded,
    FillOrder,
    PoolKind,
    StoredContext,
    lay_out_branched,
    lay_out_pooled,
    lay_out_words,
    shared_beginning,
)
from ptune.model.outcome import Prepared
from ptune.model.task_model import TaskModel
from ptune.prompt import DeepConfig
from ptune.readout import (
    HeadForm,
    LinearHead,
    ModelHead,
    Verbalizer,
    build_head,
    form_of,
    form_settings,
    kept_form,
    num_scored,
    word_scores,
)
from ptune.template import Template

__all__ = ["JudgedBatch", "PreparedTexts", "ReadModel", "YesNo", "judged_batch", "yes_no_words"]

YesNo = Sequence[str | Sequence[str]]


@dataclass(frozen=True)
class PreparedTexts(Prepared):
    """Rows with the texts that are judged with each.

    Args:
        rows: each row once for every text; `encoded` then holds what they start with, or the first ones. Empty where texts
            are not read.
        counts: how many texts each row has.
    """

    rows: tuple[tuple[Encoded, ...], ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class JudgedBatch(Batch):
    """A batch of texts to be judged.

    Args:
        counts: how many texts each example has.
        words: where texts fill the slot instead: each example's, as tokens.
        num_behind: how many tokens behind the slot are scored with each of them.
        targets: [B, C] 1 where a text is right, or None where that is unknown or one class number says it (`labels`).
    """

    counts: tuple[int, ...] = ()
    words: tuple[AnswerWords, ...] = ()
    num_behind: tuple[int, ...] = ()
    targets: Tensor | None = None


class ReadModel(TaskModel, ABC):
    """See the module's docstring.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        yes_no: the words that say yes and no, or None with a head.
        pool: which hidden states a head reads, or None with words.
        form: of the head that transformers' own models have; None for a linear head.
        fill: how masks of a word of several tokens are filled.
        num_outputs: of a head.
        **common: see `TaskModel`.
    """

    takes_candidates: ClassVar[bool] = True

    head: LinearHead | ModelHead | None

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        yes_no: Verbalizer | None,
        pool: PoolKind | None,
        form: HeadForm | None,
        fill: FillOrder,
        num_outputs: int,
        **common: Any,
    ) -> None:
        if pool is None:
            backbone.require_output()
        if fill == "pet":
            raise RecipeError("fill: pet is for label words", where="fill", fix="use parallel or chain")
        super().__init__(backbone, template, **common)
        self.yes_no, self.pool = yes_no, pool
        self.fill: FillOrder = fill
        self.is_read = template.has_choice
        self.answers = None if yes_no is None else yes_no.answers(template, backbone.tokens)
        if pool is not None:
            self.head = build_head(backbone.spec.width, num_outputs, form, seed=self.seed, dtype=self.head_dtype)

    @classmethod
    def model_form(cls, backbone: Backbone) -> HeadForm:
        """The head of the backbone's own models for multiple choice and classification."""
        return form_of(backbone.spec.architecture, is_decoder=backbone.kind == "decoder")

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def read_rows(self, example: Example, texts: Sequence[str]) -> tuple[Encoded, ...]:
        """A row once for each text.

        Raises:
            TemplateError: a missing field, or too long; the message names the row.
        """
        room = self.answers.max_tokens if self.answers else 1
        return tuple(self.encode(example, num_answer_tokens=room, choice=text) for text in texts)

    @property
    def branches(self) -> bool:
        """Whether the rows of an example are branches of one: a causal model's, where nothing reads what they share."""
        is_behind = isinstance(self.method, DeepConfig) and self.method.placement == "behind"  # where, differs from row to row
        return self.is_read and self.pool != "mean" and not is_behind and self.backbone.takes_plan

    def encoded_of(self, rows: Sequence[Encoded]) -> Encoded:
        """What stands for an example among prepared rows: what its rows start with, or the first of them."""
        return shared_beginning(rows) if self.branches else rows[0]

    def first_row(self, example: Example) -> Encoded:
        """The row with the first text."""
        prepared = self.prepare([example])
        assert isinstance(prepared, PreparedTexts)
        return prepared.rows[0][0] if prepared.rows else prepared.encoded[0]

    def lay_out_read(
        self,
        prepared: PreparedTexts,
        index: Sequence[int],
        contexts: Sequence[Context | StoredContext],
        skip: Sequence[int] | None,
    ) -> JudgedBatch:
        """All rows of these examples, one behind the other, or as branches of one row each."""
        counts = tuple(prepared.counts[i] for i in index)
        if self.branches:
            groups = [prepared.rows[i] for i in index]
            tokens = self.backbone.tokens
            reads: dict[str, Any] = {"answers": self.answers, "pool": self.pool}
            batch = lay_out_branched(groups, tokens, index=index, contexts=contexts, skip=skip, **reads)
            return judged_batch(batch, counts=counts)
        rows = [row for i in index for row in prepared.rows[i]]
        settings: dict[str, Any] = {"index": index, "labels": [-1] * len(rows), "has_types": self._has_types}
        if self.answers is not None:
            batch = lay_out_words(rows, self.answers, self.backbone.tokens, order=self.fill, **settings)
        else:
            assert self.pool is not None
            batch = lay_out_pooled(rows, self.pool, self.backbone.tokens, **settings)
        return judged_batch(batch, counts=counts)

    def num_answer_live(self, prepared: Prepared, number: int) -> int:
        """Tokens of the branches, or of the further rows, that texts are read in."""
        assert isinstance(prepared, PreparedTexts)
        if not prepared.rows:
            return 0
        rows, shared = prepared.rows[number], len(prepared.encoded[number])
        words = 0 if self.answers is None or self.answers.single else sum(len(word) - 1 for word in self.answers.ids)
        if self.branches:
            return sum(len(row) - shared + words for row in rows)
        return sum(map(len, rows)) - shared

    def why_read_all(self) -> str:
        """Texts that are read in rows of their own share none, and a head may pool tokens that would be kept."""
        if self.is_read and not self.branches:
            return "each text that is judged is read in a row of its own"
        return f"a head with pool: {self.pool} reads the tokens that would be kept" if self.pool in ("cls", "mean") else ""

    # -- batches to scores -------------------------------------------------------------------------------------------

    def head_scores(self, batch: JudgedBatch) -> Tensor:
        """[R, outputs] the head's scores of each row."""
        assert self.head is not None
        if self.pool == "mean":
            assert batch.pool is not None
            pooled: Tensor = self.head(self.backbone.hidden(batch.live, self.prompt(), batch.contexts), batch.pool)
            return pooled
        return self.head.score(self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts))

    def states(self, batch: JudgedBatch) -> Tensor:
        """[J, U, D] hidden states at the places that are read; J is 1 without candidates."""
        states: Tensor = self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts, batch.decoder)
        return states if self.has_candidates else states[None]

    def odds(self, states: Tensor, batch: JudgedBatch) -> Tensor:
        """[R] log-odds of yes over no."""
        assert self.yes_no is not None and self.answers is not None
        shape = {"num_examples": batch.num_examples, "num_words": len(self.answers)}
        words = word_scores(states, batch.reads, self.logits, **shape)
        labels = self.yes_no.label_scores(words, self.answers, num_scored(batch.reads, **shape))
        return labels[:, 0] - labels[:, 1]

    # -- on disk -----------------------------------------------------------------------------------------------------

    def read_settings(self) -> dict[str, Any]:
        """What a card keeps of the readout."""
        words = None if self.yes_no is None else asdict(self.yes_no)
        return {"yes_no": words, "pool": self.pool, "fill": self.fill, **form_settings(self.head)}

    @staticmethod
    def kept_readout(settings: Mapping[str, Any]) -> dict[str, Any]:
        """The reverse of `read_settings`, as arguments."""
        words = settings["yes_no"]
        return {
            "yes_no": None if words is None else Verbalizer.from_dict(words),
            "form": kept_form(settings),
            "pool": settings["pool"],
            "fill": settings["fill"],
        }


def yes_no_words(given: YesNo | Verbalizer | None) -> Verbalizer | None:
    """`[Yes, No]`, or two lists of words, as a verbalizer; None where nothing is given.

    Raises:
        VerbalizerError: not two, or words that cannot be.
    """
    if given is None or isinstance(given, Verbalizer):
        return given
    if isinstance(given, str) or len(given) != 2:
        raise VerbalizerError(f"yes_no is {given!r}", where="yes_no", fix="give the word for yes and that for no: [Yes, No]")
    return Verbalizer.parse({"yes": given[0], "no": given[1]})


def judged_batch(batch: Batch, **more: Any) -> JudgedBatch:
    """The batch with what is to be judged."""
    if isinstance(batch, JudgedBatch):
        return replace(batch, **more)
    return JudgedBatch(**{one.name: getattr(batch, one.name) for one in fields(batch)} | more)
