"""Multiple choice and gap filling: which of a row's own choices is right.

In: rows with `choices` and `answer` (the right one's number, from 0). Out: scores [B, C] over each row's choices, -inf where it
has fewer. Three ways, by the template:
- `{text} It was{mask}`, or a `gap` in the text: a choice is scored as what fills the slot, by the log-probabilities of its
  tokens and (on a causal model) of what stands behind. A causal model's choices are branches on the shared text, a masked
  model's as many masks as they have tokens, an encoder-decoder's its decoder's text.
- `{text} {choice}` with a head: each choice is read in a row of its own, and the head gives it one score.
- `{text} {choice}? {mask}` with `yes_no: [Yes, No]`: the log-odds of yes over no in that row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import RecipeError
from ptune.inputs import AnswerWords, Batch, Context, Encoded, FillOrder, Place, PoolKind, StoredContext, lay_out_words
from ptune.model.choice_rows import ChoicePrediction, PreparedChoices, answer_of, choices_of, report_of
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import check_template, ensemble_scores, is_soft_last, slot_side
from ptune.model.read_model import JudgedBatch, ReadModel, YesNo, judged_batch, yes_no_words
from ptune.model.task_model import TaskKind
from ptune.objective import ChoiceReport, TaskReport, classification_loss
from ptune.prompt import MethodConfig
from ptune.readout import HeadForm, LengthRule, Verbalizer, choice_scores, choice_words, split_scores, word_scores
from ptune.template import Template

__all__ = ["ChoiceModel"]

C = TypeVar("C", bound="ChoiceModel")


class ChoiceModel(ReadModel):
    """See the module's docstring.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        yes_no: words for right and for wrong, where each choice is judged by words in a row of its own.
        pool: which hidden states a head reads, or None without a head.
        form: of the head that transformers' own models have; None for a linear head.
        fill: how masks of a choice of several tokens are filled (parallel or chain).
        length: how choices of several tokens are scored; see `choice_scores`.
        terminator: text scored behind every choice.
        gap: what marks the slot in the row's own text, such as `#idiom#`; the template then has no `{mask}`.
        **common: see `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "choice"
    metric: ClassVar[str] = "accuracy"
    keys: ClassVar[tuple[str, ...]] = ("pool", "yes_no", "fill", "length", "terminator", "gap")
    input_keys: ClassVar[tuple[str, ...]] = ("choices",)
    target_keys: ClassVar[tuple[str, ...]] = ("answer",)

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        yes_no: Verbalizer | None = None,
        pool: PoolKind | None = None,
        form: HeadForm | None = None,
        fill: FillOrder = "parallel",
        length: LengthRule = "auto",
        terminator: str = "",
        gap: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(backbone, template, yes_no=yes_no, pool=pool, form=form, fill=fill, num_outputs=1, **common)
        self._check_way(gap)
        self.gap, self.terminator = gap, terminator
        self.length: LengthRule = length
        self.check_readout()
        if gap is None:
            check_template(template, backbone, has_words=pool is None, pool=pool)
        self.to(backbone.device)

    @classmethod
    def build(
        cls: type[C],
        *,
        backbone: Backbone,
        template: Template | str,
        yes_no: YesNo | Verbalizer | None = None,
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        pool: PoolKind | None = None,
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> C:
        """From the words of a recipe.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        words = yes_no_words(yes_no)
        first = cls.start(
            backbone,
            template,
            method,
            verbalizer=words,
            init_rows=init_rows,
            init_deep=init_deep,
            candidates=candidates,
            seed=seed,
            writes=pool is None,
        )
        return cls(
            backbone,
            first.template,
            yes_no=words,
            pool=pool,
            **first.common,
            seed=seed,
            **settings,
        )

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """At least two choices in each row, and an answer among them.

        Raises:
            DataError: at the first row where that is not so.
        """
        for row in rows:
            answer_of(row.fields[columns["answer"]], choices_of(row.fields[columns["choices"]], row.where), row.where)

    def _check_way(self, gap: str | None) -> None:
        """Whether template, words, head and gap are one of the three ways.

        Raises:
            RecipeError: they are none.
        """
        if self.is_read and self.yes_no is None and self.pool is None:
            raise RecipeError(
                "the template reads each {choice}, but nothing says what is read off",
                where="template",
                fix="set head: linear, or yes_no: [Yes, No] with {mask}; or let the choices fill {mask} themselves",
            )
        if not self.is_read and (self.yes_no is not None or self.pool is not None):
            what = "yes_no" if self.pool is None else "head"
            raise RecipeError(
                f"{what} needs each choice in the template", where=what, fix='write {choice} in it, as in "{text} {choice}"'
            )
        if gap is None:
            return
        if self.is_read or self.template.num_masks:
            what = "{choice}" if self.is_read else "{mask}"
            raise RecipeError(f"the template has {what}, but the slot is at the gap {gap!r}", where="gap", fix="leave one out")
        if self.backbone.kind == "decoder" and is_soft_last(self.template):
            what = "all learned tokens stand behind everything that is scored, where a causal model never reads them"
            raise RecipeError(what, where="template", fix='put them in front, as in "{soft:8} {text}"')

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def choices(self, example: Example) -> tuple[str, ...]:
        """A row's choices.

        Raises:
            DataError: no such column, or fewer than two.
        """
        return choices_of(self.value(example, "choices"), example.where)

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedChoices:
        """As in `BatchedRows`, with each row's choices and the number of the right one, -1 where unknown."""
        choices = [self.choices(example) for example in examples]
        pairs = list(zip(examples, choices, strict=True))
        labels = tuple(
            answer_of(self.value(example, "answer"), mine, example.where) if self.has_target(example) else -1
            for example, mine in pairs
        )
        words: tuple[AnswerWords, ...] = ()
        rows: tuple[tuple[Encoded, ...], ...] = ()
        if self.is_read:
            rows = tuple(self.read_rows(example, mine) for example, mine in pairs)
            encoded = tuple(map(self.encoded_of, rows))
        else:
            words = tuple(self._words(example, mine) for example, mine in pairs)
            rooms = [one.max_tokens for one in words]
            encoded = tuple(self.encode(example, num_answer_tokens=room) for example, room in zip(examples, rooms, strict=True))
        contexts = self.kept_contexts(encoded, **storage) if keep_context else None
        return PreparedChoices(encoded, labels, contexts, rows, tuple(map(len, choices)), words)

    def _words(self, example: Example, choices: Sequence[str]) -> AnswerWords:
        prefix, left = slot_side(example, self.template, self.gap)
        return choice_words(
            choices, self.backbone.tokens, prefix=prefix, left=left, terminator=self.terminator, where=example.where
        )

    def num_answer_live(self, prepared: Prepared, number: int) -> int:
        """Tokens of the choices' branches, or of the further rows that they are read in."""
        assert isinstance(prepared, PreparedChoices)
        if self.is_read:
            return super().num_answer_live(prepared, number)
        row, lengths = prepared.encoded[number], [len(word) for word in prepared.words[number].ids]
        if self.backbone.kind == "decoder":
            behind = len(row) - (row.slot or 0)
            return sum(length - 1 + behind for length in lengths) - behind
        return len(row) * (len(set(lengths)) - 1) + max(lengths)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> JudgedBatch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        assert isinstance(prepared, PreparedChoices)
        labels = [prepared.labels[i] for i in index]
        if self.is_read:
            return judged_batch(self.lay_out_read(prepared, index, contexts, skip), labels=torch.tensor(labels))
        rows = [prepared.encoded[i] for i in index]
        words = tuple(prepared.words[i] for i in index)
        batch = lay_out_words(
            rows,
            words,
            self.backbone.tokens,
            labels=labels,
            index=index,
            order=self.fill,
            contexts=contexts,
            skip=skip,
            has_types=self._has_types,
        )
        behind = tuple(map(self._num_behind, rows))
        return judged_batch(batch, words=words, counts=tuple(map(len, words)), num_behind=behind)

    def _num_behind(self, row: Encoded) -> int:
        """Tokens behind the slot that a causal model scores with each choice."""
        return sum(soft < 0 for soft in row.soft[row.slot :]) if self.backbone.kind == "decoder" else 0

    # -- batches to scores -------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Scores of the rows' choices, and the loss where every answer is known; of candidates, each one's and their sum."""
        assert isinstance(batch, JudgedBatch)
        scores = self._scores(batch)
        joined = ensemble_scores(scores) if self.has_candidates else scores
        if bool((batch.labels < 0).any()):
            return Outcome(joined, candidate_scores=scores if self.has_candidates else None)
        if not self.has_candidates:
            return Outcome(joined, classification_loss(scores, batch.labels))
        losses = torch.stack([classification_loss(one, batch.labels) for one in scores])
        return Outcome(joined, losses.sum(), candidate_scores=scores, candidate_losses=losses)

    def _scores(self, batch: JudgedBatch) -> Tensor:
        """[B, C], or [J, B, C] of candidates."""
        if self.head is not None:
            return split_scores(self.head_scores(batch)[:, 0], batch.counts)
        each = [self._word_scores(one, batch) for one in self.states(batch)]
        return torch.stack(each) if self.has_candidates else each[0]

    def _word_scores(self, states: Tensor, batch: JudgedBatch) -> Tensor:
        """[B, C] by the words in the slot: those for yes and no, or the choices themselves."""
        if self.is_read:
            return split_scores(self.odds(states, batch), batch.counts)
        most = max(batch.counts)
        sums = word_scores(states, batch.reads, self.logits, num_examples=batch.num_examples, num_words=most)
        return choice_scores(sums, batch.words, batch.num_behind, self.length)

    def candidate_scores(self, prepared: PreparedChoices, *, batch_size: int | None = None) -> Tensor:
        """[J, N, C] each candidate's scores of all rows in their own order, without gradients."""
        out = torch.full((self.num_candidates, len(prepared), max(prepared.counts, default=0)), -torch.inf)
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                outcome = self(batch)
                each = outcome.candidate_scores if self.has_candidates else outcome.scores[None]
                out[:, list(batch.index), : each.shape[2]] = each.float().cpu()
        return out

    def scores(self, prepared: PreparedChoices, *, batch_size: int | None = None) -> Tensor:
        """[N, C] scores of all rows in their own order, without gradients; candidates speak as an ensemble."""
        scores = self.candidate_scores(prepared, batch_size=batch_size)
        return scores[0] if len(scores) == 1 else ensemble_scores(scores)

    # -- looks, predictions, figures ---------------------------------------------------------------------------------

    def looks(self, prepared: Prepared) -> list[Look]:
        """Accuracy and cross-entropy of each candidate."""
        assert isinstance(prepared, PreparedChoices)
        reports = [report_of(scores, prepared) for scores in self.candidate_scores(prepared)]
        return [Look(report.score, report.loss or 0.0) for report in reports]

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[ChoicePrediction]:
        """The most probable choice of each row."""
        if not examples:
            return []
        predictions = []
        scores = self.scores(self.prepare(examples), batch_size=batch_size)
        for example, row in zip(examples, torch.softmax(scores, 1), strict=True):
            choices = self.choices(example)
            best = int(row.argmax())
            predictions.append(ChoicePrediction(best, choices[best], tuple(row[: len(choices)].tolist())))
        return predictions

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> ChoiceReport:
        """Accuracy beside that of guessing.

        Raises:
            DataError: a row without its answer.
        """
        for example in examples:
            self.value(example, "answer")
        prepared = self.prepare(examples)
        return report_of(self.scores(prepared, batch_size=batch_size), prepared)

    def zero_shot(self, train_rows: Sequence[Example], judged: Sequence[Example]) -> dict[str, TaskReport]:
        """The hard template's choice; nothing with a head, which is drawn at random."""
        return {} if self.head is not None else {"zero_shot": self.without_prompt().judge(judged)}

    def without_prompt(self: C) -> C:
        """The same task with the hard template alone: zero-shot."""
        return type(self).build(
            backbone=self.backbone,
            template=self.template.without_soft(),
            yes_no=self.yes_no,
            method="hard",
            pool=self.pool,
            fill=self.fill,
            max_length=self.max_length,
            columns=self.columns,
            **self._own(),
        )

    # -- on disk -----------------------------------------------------------------------------------------------------

    def _own(self) -> dict[str, Any]:
        return {"length": self.length, "terminator": self.terminator, "gap": self.gap}

    def settings(self) -> dict[str, Any]:
        """Words for yes and no, pooling, how choices are scored, the gap."""
        return {**self.read_settings(), **self._own()}

    @classmethod
    def restore(cls: type[C], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> C:
        """A trained model from a card's `settings`."""
        own = {name: settings[name] for name in ("length", "terminator", "gap")}
        return cls(backbone, template, **cls.kept_readout(settings), **own, **common)
