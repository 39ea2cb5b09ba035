"""Multiple choice and gap filling: which of a row's own choices is right.

In: rows with `choices` and `answer` (the right one's number, from 0). Out: scores [B, C] over each row's choices, -inf where it
has fewer. Three ways, by the template:
- `{text} It was{mask}`, or a `gap` in the text: a choice is scored as what fills the slot, by the log-probabilities of its
  tokens and (on a causal model) of what stands behind. A causal model's choices are branches on the shared text, a masked
  model's as many masks as they have tokens, an encoder-decoder's its decoder's text.
- `{text} {choice}` with `head: linear`: each choice is read in a row of its own, and a linear head gives it one score.
- `{text} {choice}? {mask}` with two labels: the log-odds of the first label's words over the second's in that row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import RecipeError
from ptune.inputs import (
    AnswerWords,
    Batch,
    Context,
    Encoded,
    FillOrder,
    Place,
    PoolKind,
    StoredContext,
    lay_out_pooled,
    lay_out_words,
)
from ptune.model.choice_rows import (
    ChoiceBatch,
    ChoicePrediction,
    PreparedChoices,
    answer_of,
    choice_batch,
    choices_of,
    report_of,
)
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import check_template, ensemble_scores, row_segments
from ptune.model.task_model import LabelsAre, TaskKind, TaskModel
from ptune.objective import ChoiceReport, TaskReport, classification_loss
from ptune.prompt import MethodConfig
from ptune.readout import (
    LengthRule,
    LinearHead,
    Verbalizer,
    choice_scores,
    choice_words,
    left_text,
    split_scores,
    word_scores,
)
from ptune.template import Choice, FieldSegment, MaskSegment, Template, TextSegment

__all__ = ["ChoiceModel"]

C = TypeVar("C", bound="ChoiceModel")


class ChoiceModel(TaskModel):
    """See the module's docstring.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        verbalizer: words for right and for wrong, where each choice is judged in a row of its own.
        pool: which hidden states a linear head reads, or None without a head.
        fill: how masks of a choice of several tokens are filled (parallel or chain).
        length: how choices of several tokens are scored; see `choice_scores`.
        terminator: text scored behind every choice.
        gap: what marks the slot in the row's own text, such as `#idiom#`; the template then has no `{mask}`.
        **common: see `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "choice"
    metric: ClassVar[str] = "accuracy"
    keys: ClassVar[tuple[str, ...]] = ("labels", "pool", "fill", "length", "terminator", "gap")
    input_keys: ClassVar[tuple[str, ...]] = ("choices",)
    target_keys: ClassVar[tuple[str, ...]] = ("answer",)
    labels_are: ClassVar[LabelsAre] = "optional"
    takes_candidates: ClassVar[bool] = True

    head: LinearHead | None

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        verbalizer: Verbalizer | None = None,
        pool: PoolKind | None = None,
        fill: FillOrder = "parallel",
        length: LengthRule = "auto",
        terminator: str = "",
        gap: str | None = None,
        **common: Any,
    ) -> None:
        is_read = any(isinstance(node, Choice) for node in template.nodes)
        _check_way(template, is_read=is_read, has_labels=verbalizer is not None, has_head=pool is not None, gap=gap)
        if fill == "pet" and not is_read:
            raise RecipeError("fill: pet is for label words", where="fill", fix="use parallel or chain with choices")
        if pool is None:
            backbone.require_output()
        if gap is not None and backbone.kind == "decoder" and _is_soft_last(template):
            what = "all learned tokens stand behind everything that is scored, where a causal model never reads them"
            raise RecipeError(what, where="template", fix='put them in front, as in "{soft:8} {text}"')
        super().__init__(backbone, template, **common)
        self.verbalizer, self.pool, self.gap = verbalizer, pool, gap
        self.fill: FillOrder = fill
        self.length: LengthRule = length
        self.terminator, self.is_read = terminator, is_read
        self.answers = None if verbalizer is None else verbalizer.answers(template, backbone.tokens)
        self.head = None if pool is None else LinearHead(backbone.spec.width, 1, seed=self.seed, dtype=self.head_dtype)
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
        labels: Verbalizer | Mapping[str, Any] | Sequence[str] = (),
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        pool: PoolKind | None = None,
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> C:
        """From the words of a recipe; `labels` only where each choice is judged by words in a row of its own.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        verbalizer = labels if isinstance(labels, Verbalizer) else None
        if isinstance(labels, Mapping):
            verbalizer = Verbalizer.parse(labels)
        first = cls.start(
            backbone,
            template,
            method,
            verbalizer=verbalizer,
            init_rows=init_rows,
            init_deep=init_deep,
            candidates=candidates,
            seed=seed,
            writes=pool is None,
        )
        return cls(
            backbone,
            first.template,
            verbalizer=verbalizer,
            pool=pool,
            method=first.method,
            layout=first.layout,
            start=first.prompt,
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
            choices = choices_of(row.fields[columns["choices"]], row.where)
            if columns["answer"] in row.fields:
                answer_of(row.fields[columns["answer"]], choices, row.where)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels by which choices are judged; none where they fill the slot."""
        return () if self.verbalizer is None else self.verbalizer.labels

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
        labels = tuple(
            answer_of(self.value(example, "answer"), mine, example.where) if self.has_target(example) else -1
            for example, mine in zip(examples, choices, strict=True)
        )
        words: tuple[AnswerWords, ...] = ()
        rows: tuple[tuple[Encoded, ...], ...] = ()
        if self.is_read:
            room = self.answers.max_tokens if self.answers else 1
            rows = tuple(
                tuple(self.encode(example, num_answer_tokens=room, choice=choice) for choice in mine)
                for example, mine in zip(examples, choices, strict=True)
            )
            encoded = tuple(each[0] for each in rows)
        else:
            words = tuple(self._words(example, mine) for example, mine in zip(examples, choices, strict=True))
            encoded = tuple(
                self.encode(example, num_answer_tokens=one.max_tokens) for example, one in zip(examples, words, strict=True)
            )
        contexts = self.kept_contexts(encoded, **storage) if keep_context else None
        return PreparedChoices(encoded, labels, contexts, words, rows, tuple(map(len, choices)))

    def _words(self, example: Example, choices: Sequence[str]) -> AnswerWords:
        template, left, leading = self.template, left_text(self.template), None
        if self.gap is not None:
            segments = row_segments(example, template, gap=self.gap)
            slot = next(at for at, segment in enumerate(segments) if isinstance(segment, MaskSegment))
            before, mask = segments[:slot], segments[slot]
            assert isinstance(mask, MaskSegment)
            texts = [segment.text for segment in before if isinstance(segment, TextSegment | FieldSegment)]
            left, leading = "".join(texts)[-1:], mask.leading
        return choice_words(
            choices,
            self.backbone.tokens,
            prefix=template.word_prefix if leading is None else lambda choice: leading,
            left=left,
            terminator=self.terminator,
            where=example.where,
        )

    def num_answer_live(self, prepared: Prepared, number: int) -> int:
        """Tokens of the choices' branches, or of the further rows that they are read in."""
        assert isinstance(prepared, PreparedChoices)
        row = prepared.encoded[number]
        if self.is_read:
            return sum(map(len, prepared.rows[number])) - len(row)
        lengths = [len(word) for word in prepared.words[number].ids]
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
    ) -> ChoiceBatch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        assert isinstance(prepared, PreparedChoices)
        counts = tuple(prepared.counts[i] for i in index)
        labels = [prepared.labels[i] for i in index]
        settings: dict[str, Any] = {"index": index, "has_types": self._has_types}
        if not self.is_read:
            rows = [prepared.encoded[i] for i in index]
            words = tuple(prepared.words[i] for i in index)
            batch = lay_out_words(
                rows,
                words,
                self.backbone.tokens,
                order=self.fill,
                labels=labels,
                contexts=contexts,
                skip=skip,
                **settings,
            )
            return choice_batch(batch, words=words, counts=counts, num_behind=tuple(map(self._num_behind, rows)))
        rows = [row for i in index for row in prepared.rows[i]]
        settings["labels"] = [-1] * len(rows)
        if self.answers is not None:
            order = "parallel" if self.fill == "pet" else self.fill
            batch = lay_out_words(rows, self.answers, self.backbone.tokens, order=order, **settings)
        else:
            assert self.pool is not None
            batch = lay_out_pooled(rows, self.pool, self.backbone.tokens, **settings)
        return choice_batch(batch, labels=torch.tensor(labels), counts=counts)

    def _num_behind(self, row: Encoded) -> int:
        """Tokens behind the slot that a causal model scores with each choice."""
        return sum(soft < 0 for soft in row.soft[row.slot :]) if self.backbone.kind == "decoder" else 0

    def why_read_all(self) -> str:
        """Choices that are read in the template make rows of their own."""
        return "each choice is read in a row of its own" if self.is_read else ""

    # -- batches to scores -------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Scores of the rows' choices, and the loss where every answer is known; of candidates, each one's and their sum."""
        assert isinstance(batch, ChoiceBatch)
        scores = self._scores(batch)
        joined = ensemble_scores(scores) if self.has_candidates else scores
        if bool((batch.labels < 0).any()):
            return Outcome(joined, candidate_scores=scores if self.has_candidates else None)
        if not self.has_candidates:
            return Outcome(joined, classification_loss(scores, batch.labels))
        losses = torch.stack([classification_loss(one, batch.labels) for one in scores])
        return Outcome(joined, losses.sum(), candidate_scores=scores, candidate_losses=losses)

    def _scores(self, batch: ChoiceBatch) -> Tensor:
        """[B, C], or [J, B, C] of candidates."""
        if self.head is not None:
            return split_scores(self._head_scores(batch), batch.counts)
        state = self.prompt()
        states = self.backbone.read(batch.live, state, batch.reads, batch.contexts, batch.decoder)
        each = [self._word_scores(one, batch) for one in (states if self.has_candidates else states[None])]
        return torch.stack(each) if self.has_candidates else each[0]

    def _head_scores(self, batch: ChoiceBatch) -> Tensor:
        """[R] the head's score of each row."""
        assert self.head is not None
        if self.pool == "mean":
            assert batch.pool is not None
            hidden = self.backbone.hidden(batch.live, self.prompt(), batch.contexts)
            pooled: Tensor = self.head(hidden, batch.pool)
            return pooled[:, 0]
        return self.head.score(self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts))[:, 0]

    def _word_scores(self, states: Tensor, batch: ChoiceBatch) -> Tensor:
        """[B, C] by the words in the slot: the choices themselves, or those for right and wrong."""
        if self.answers is None:
            words = word_scores(states, batch.reads, self.logits, num_examples=batch.num_examples, num_words=max(batch.counts))
            return choice_scores(words, batch.words, batch.num_behind, self.length)
        assert self.verbalizer is not None
        words = word_scores(states, batch.reads, self.logits, num_examples=batch.num_examples, num_words=len(self.answers))
        labels = self.verbalizer.label_scores(words, self.answers)
        return split_scores(labels[:, 0] - labels[:, 1], batch.counts)

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

    def looks(self, prepared: Prepared) -> list[Look]:
        """Accuracy and cross-entropy of each candidate."""
        assert isinstance(prepared, PreparedChoices)
        reports = [report_of(scores, prepared) for scores in self.candidate_scores(prepared)]
        return [Look(report.score, report.loss or 0.0) for report in reports]

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[ChoicePrediction]:
        """The most probable choice of each row."""
        if not examples:
            return []
        prepared = self.prepare(examples)
        predictions = []
        for example, row in zip(examples, torch.softmax(self.scores(prepared, batch_size=batch_size), 1), strict=True):
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
            labels=self.verbalizer or (),
            method="hard",
            pool=self.pool,
            max_length=self.max_length,
            columns=self.columns,
            **self._own(),
        )

    # -- on disk -----------------------------------------------------------------------------------------------------

    def _own(self) -> dict[str, Any]:
        return {"fill": self.fill, "length": self.length, "terminator": self.terminator, "gap": self.gap}

    def settings(self) -> dict[str, Any]:
        """Words for right and wrong, pooling, how choices are scored, the gap."""
        words = None if self.verbalizer is None else asdict(self.verbalizer)
        return {"labels": list(self.label_names), "verbalizer": words, "pool": self.pool, **self._own()}

    @classmethod
    def restore(cls: type[C], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> C:
        """A trained model from a card's `settings`."""
        words = settings["verbalizer"]
        return cls(
            backbone,
            template,
            verbalizer=None if words is None else Verbalizer.from_dict(words),
            **{name: settings[name] for name in ("pool", "fill", "length", "terminator", "gap")},
            **common,
        )


def _is_soft_last(template: Template) -> bool:
    """Whether there are learned tokens, and nothing else behind the first of them."""
    soft = [at for at, _ in template.soft_nodes]
    return bool(soft) and soft == list(range(soft[0], len(template.nodes)))


def _check_way(template: Template, *, is_read: bool, has_labels: bool, has_head: bool, gap: str | None) -> None:
    """Whether template, labels, head and gap are one of the three ways.

    Raises:
        RecipeError: they are none.
    """
    if is_read and not (has_labels or has_head):
        raise RecipeError(
            "the template reads each {choice}, but nothing says what is read off",
            where="template",
            fix="set head: linear, or labels: {right: [yes], wrong: [no]} with {mask}; or let the choices fill {mask}",
        )
    if not is_read and (has_labels or has_head):
        what = "labels" if has_labels else "head: linear"
        raise RecipeError(
            f"{what} needs each choice in the template", where=what, fix='write {choice} in it, as in "{text} {choice}"'
        )
    if gap is not None and (is_read or template.num_masks):
        what = "{choice}" if is_read else "{mask}"
        raise RecipeError(f"the template has {what}, but the slot is at the gap {gap!r}", where="gap", fix="leave one out")
