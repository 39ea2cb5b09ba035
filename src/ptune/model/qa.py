"""Extractive question answering: the span of a context that answers a question, or none, by a linear head on its tokens.

In: rows with `context`, `question` and `answers` (SQuAD's form). Out: answers as they stand in the context, with their
characters: the text is cut from the context, never put together from tokens. The head scores each token as the first and the
last one, and each window's null place as "no answer"; all three are normalised over the window, so that what counts is how much
a span beats its window's null, which can be compared between windows of a long context. Source: Devlin et al. 2019 (BERT),
section 4.2 and 4.3; the null place is the first special token of an encoder, else the last token, which has seen everything.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example, read_answers
from ptune.errors import DataError, TemplateError
from ptune.inputs import Batch, Context, Encoded, Place, StoredContext, lay_out_places
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import Tune
from ptune.model.qa_rows import BatchSpans, FoundAnswer, PreparedSpans, QaPrediction, QaRow, given_answers
from ptune.model.task_model import TaskKind
from ptune.model.windowed import WindowedModel, margin, pairs
from ptune.objective import SpanReport, answer_scores, span_report, span_rule
from ptune.prompt import MethodConfig
from ptune.readout import HeadForm, LinearHead, ModelHead, best_spans, best_threshold, build_head, form_settings, kept_form
from ptune.template import Template

__all__ = ["QaModel"]

T = TypeVar("T", bound="QaModel")
_CONTEXT, _QUESTION = "context", "question"
_START, _END, _NONE = 0, 1, 2
_NUM_KEPT = 20
"""Spans of each window that are compared with those of the others."""


class QaModel(WindowedModel):
    """See the module's docstring.

    Args:
        backbone, template: as in `TaskModel`.
        may_abstain: whether "no answer" may be said.
        threshold: how much the best span must beat its window's null for an answer to be given.
        max_answer_tokens: of an answer.
        n_best: answers that a prediction lists.
        doc_stride: tokens that neighbouring windows share.
        **common: as in `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "qa"
    metric: ClassVar[str] = "f1"
    keys: ClassVar[tuple[str, ...]] = ("examples", "no_answer", "max_answer_tokens", "n_best", "doc_stride")
    target_keys: ClassVar[tuple[str, ...]] = ("answers",)
    default_template: ClassVar[str | None] = "{question}{sep}{context}"
    long_field: ClassVar[str] = _CONTEXT

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        may_abstain: bool = False,
        threshold: float = 0.0,
        max_answer_tokens: int = 30,
        n_best: int = 5,
        doc_stride: int | None = None,
        form: HeadForm | None = None,
        **common: Any,
    ) -> None:
        super().__init__(backbone, template, doc_stride=doc_stride, **common)
        if _QUESTION not in self.template.field_names:
            raise TemplateError("the template has no {question}", where="template", fix="write {question}{sep}{context}")
        self.may_abstain, self.threshold = may_abstain, threshold
        self.max_answer_tokens, self.n_best = max_answer_tokens, n_best
        num_columns = 3 if form is None else 2
        self.head = build_head(backbone.spec.width, num_columns, form, seed=self.seed, dtype=self.head_dtype)
        self.check_readout()
        self.to(backbone.device)

    @classmethod
    def build(  # type: ignore[override]
        cls: type[T],
        *,
        backbone: Backbone,
        template: Template | str = "{question}{sep}{context}",
        examples: Sequence[Example] = (),
        no_answer: bool | None = None,
        max_answer_tokens: int = 30,
        n_best: int = 5,
        doc_stride: int | None = None,
        form: HeadForm | None = None,
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning-v2",
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        max_length: int | None = None,
        tune: Tune = "frozen",
        columns: Mapping[str, str] | None = None,
    ) -> T:
        """From the words of a recipe.

        Args:
            backbone, template, method, init_rows, init_deep, candidates, seed, max_length, tune, columns: as everywhere.
            examples: training rows.
            no_answer: whether "no answer" may be said; None where some training row has none.
            max_answer_tokens, n_best, doc_stride: see the class.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        column = (columns or {}).get("answers", "answers")
        if no_answer is None:
            no_answer = any(not given_answers(one, column) for one in examples if column in one.fields)
        first = cls.start(
            backbone,
            template,
            method,
            init_rows=init_rows,
            init_deep=init_deep,
            candidates=candidates,
            seed=seed,
            writes=False,
        )
        return cls(
            backbone,
            first.template,
            may_abstain=no_answer,
            max_answer_tokens=max_answer_tokens,
            n_best=n_best,
            doc_stride=doc_stride,
            form=form,
            **first.common,
            columns=columns,
            max_length=max_length,
            tune=tune,
            seed=seed,
        )

    # -- rows --------------------------------------------------------------------------------------------------------

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Answers that can be read and, in training, stand where they are said to.

        Raises:
            DataError: at the first row that does not fit.
        """
        for example in rows:
            given = given_answers(example, columns["answers"])
            if is_training and given:
                _place(example, given[0])

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedSpans:
        """Tokens and windows of rows, and where in them the first right answer stands.

        Raises:
            DataError: a row without a context, or answers that cannot be read.
            TemplateError: a missing field, or no room for the context.
            BackboneError: `keep_context`, see `why_not_keep`.
        """
        if keep_context:
            self.check_keep()
        encoded, tokens, places, windows, row_of, targets = [], [], [], [], [], []
        rows: list[QaRow] = []
        for example in examples:
            context = _context(example)
            windowed = self.windows(example, context)
            spans = pairs(windowed.spans, margin(context))
            row = QaRow(context, spans, self._answers(example))
            aim = self._aim(example, spans)
            for window in windowed.windows:
                own = [at for at in range(window.begin, window.end) if spans[at][0] < spans[at][1]]
                encoded.append(window.encoded)
                tokens.append(tuple(own))
                places.append((_null_place(window.encoded, self.backbone.kind == "encoder"), *map(window.place, own)))
                windows.append(window)
                row_of.append(len(rows))
                targets.append(_columns(aim, own))
            rows.append(row)
        return PreparedSpans(
            tuple(encoded),
            tokens=tuple(tokens),
            places=tuple(places),
            windows=tuple(windows),
            row_of=tuple(row_of),
            targets=tuple(targets),
            rows=rows,
        )

    def _answers(self, example: Example) -> tuple[str, ...] | None:
        if not self.has_target(example):
            return None
        return tuple(text for text, _ in given_answers(example, self.columns["answers"]))

    def _aim(self, example: Example, spans: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """First and last token of the first right answer; (-1, -1) where there is none to find, None where it is not known."""
        if not self.has_target(example):
            return None
        given = given_answers(example, self.columns["answers"])
        if not given:
            return -1, -1
        if given[0][1] is None:
            return None
        begin, end = _place(example, given[0])
        touching = [number for number, (start, stop) in enumerate(spans) if start < end and begin < stop]
        return (touching[0], touching[-1]) if touching else (-1, -1)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> BatchSpans:
        """The windows with these numbers, to be read at their null place and all tokens of the context."""
        assert isinstance(prepared, PreparedSpans)
        places = [prepared.places[i] for i in index]
        batch = lay_out_places(
            [prepared.encoded[i] for i in index],
            places,
            self.backbone.tokens,
            index=index,
            contexts=contexts,
            skip=skip,
            has_types=self._has_types,
        )
        column = torch.tensor([number for own in places for number in range(len(own))])
        aims = [aim for i in index if (aim := prepared.targets[i]) is not None]
        return BatchSpans(**vars(batch), column=column, targets=torch.tensor(aims) if len(aims) == len(index) else None)

    # -- scores ------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Start and end scores [2, B, 1 + L], of which column 0 is "no answer", and the mean cross-entropy of the two ends."""
        table = self._table(self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts), batch)
        assert isinstance(batch, BatchSpans)
        if batch.targets is None:
            return Outcome(table)
        targets = batch.targets.to(table.device)
        losses = [torch.nn.functional.cross_entropy(table[which], targets[:, which]) for which in (_START, _END)]
        return Outcome(table, (losses[0] + losses[1]) / 2)

    def _table(self, states: Float[Tensor, "U D"], batch: Batch) -> Float[Tensor, "2 B _"]:
        """The head's scores of each window's places, side by side."""
        assert isinstance(batch, BatchSpans) and batch.column is not None
        assert isinstance(self.head, LinearHead | ModelHead)
        scores = self.head.score(states)
        row, column = batch.reads.row.to(scores.device), batch.column.to(scores.device)
        is_null = column == 0
        has_none = scores.shape[1] > _NONE  # transformers' own heads score the null place like any other
        null = [scores[:, _NONE if has_none else which] for which in (_START, _END)]
        ends = torch.stack([torch.where(is_null, null[which], scores[:, which]) for which in (_START, _END)])
        table = torch.full((2, batch.num_examples, int(column.max()) + 1), -torch.inf, dtype=scores.dtype, device=scores.device)
        return table.index_put((torch.arange(2, device=scores.device)[:, None], row[None], column[None]), ends)

    def scores_in_batch(self, states: Float[Tensor, "U D"], batch: Batch) -> list[Tensor]:
        """As in `TaskModel`: of each window, start and end scores [2, 1 + L]."""
        return list(self._table(states, batch).float().cpu().unbind(1))

    def predictions_from(self, prepared: Prepared, scores: Sequence[Tensor]) -> list[QaPrediction]:
        """As in `TaskModel`."""
        assert isinstance(prepared, PreparedSpans)
        return self._predictions(self._found(prepared, scores))

    def candidates_of(self, prepared: PreparedSpans, *, batch_size: int | None = None) -> list[list[FoundAnswer]]:
        """Of each row, the best spans of all its windows, best first; each from the window with most around it."""
        tables: list[Tensor] = [torch.empty(0)] * len(prepared)
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                for number, table in zip(batch.index, self(batch).scores.float().cpu().unbind(1), strict=True):
                    tables[number] = table
        return self._found(prepared, tables)

    def _found(self, prepared: PreparedSpans, tables: Sequence[Float[Tensor, "2 _"]]) -> list[list[FoundAnswer]]:
        found: list[dict[tuple[int, int], FoundAnswer]] = [{} for _ in prepared.rows]
        for number, table in enumerate(tables):
            row = prepared.row_of[number]
            for one in self._window_spans(prepared, number, table):
                key = (one.start, one.end)
                if key not in found[row] or found[row][key].score < one.score:
                    found[row][key] = one
        return [sorted(spans.values(), key=lambda one: (-one.score, one.start, one.end)) for spans in found]

    def _window_spans(self, prepared: PreparedSpans, number: int, scores: Float[Tensor, "2 _"]) -> list[FoundAnswer]:
        tokens, window, row = prepared.tokens[number], prepared.windows[number], prepared.rows[prepared.row_of[number]]
        is_own = torch.tensor([window.own_begin <= token < window.own_end for token in tokens], dtype=torch.bool)
        start, end = scores[:, 1 : 1 + len(tokens)] - scores[:, :1]
        spans = best_spans(start, end, is_own, max_tokens=self.max_answer_tokens, num=max(_NUM_KEPT, self.n_best))
        found = []
        for first, last, score in spans:
            begin, stop = row.spans[tokens[first]][0], row.spans[tokens[last]][1]
            found.append(FoundAnswer(row.context[begin:stop], begin, stop, score))
        return found

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[QaPrediction]:
        """The best answer of each row, and the next ones."""
        return self._predictions(self.candidates_of(self.prepare(examples), batch_size=batch_size))

    def _predictions(self, found: Sequence[Sequence[FoundAnswer]]) -> list[QaPrediction]:
        return [QaPrediction.of(one, self.n_best, self.threshold if self.may_abstain else None) for one in found]

    def looks(self, prepared: Prepared) -> list[Look]:
        """F1 (with the best threshold, where no answer may be given), and the mean loss of a window."""
        assert isinstance(prepared, PreparedSpans)
        found = self.candidates_of(prepared)
        threshold = self._best_threshold(prepared, found) if self.may_abstain else None
        texts = [QaPrediction.of(one, 1, threshold).text for one in found]
        report = span_report(texts, [row.answers or () for row in prepared.rows])
        known = [number for number, aim in enumerate(prepared.targets) if aim is not None]
        return [Look(report.score, self.mean_loss(prepared.some(known)))]

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> SpanReport:
        """Exact match and F1, by the rules of SQuAD or, for Chinese, of CMRC 2018.

        Raises:
            DataError: a row without answers (an empty list says that there is none).
        """
        answers = [[text for text, _ in read_answers(self.value(one, "answers"), one.where)] for one in examples]
        return span_report([one.text for one in self.predict(examples, batch_size=batch_size)], answers)

    # -- beside training ---------------------------------------------------------------------------------------------

    def settle(self, rows: Prepared, validation: Prepared | None) -> None:
        """Chooses the threshold under which no answer is given, on validation rows."""
        if self.may_abstain and validation is not None:
            assert isinstance(validation, PreparedSpans)
            self.threshold = self._best_threshold(validation, self.candidates_of(validation))

    def _best_threshold(self, prepared: PreparedSpans, found: Sequence[Sequence[FoundAnswer]]) -> float:
        right = [row.answers or () for row in prepared.rows]
        rule = span_rule(right)
        scores = [one[0].score if one else -torch.inf for one in found]
        best = [one[0].text if one else "" for one in found]
        worth = [answer_scores(text, texts, rule=rule)[1] for text, texts in zip(best, right, strict=True)]
        return best_threshold(scores, worth, [answer_scores("", texts, rule=rule)[1] for texts in right])

    def facts(self) -> dict[str, Any]:
        """The threshold, where no answer may be given."""
        return {"no_answer_threshold": self.threshold} if self.may_abstain else {}

    def settings(self) -> dict[str, Any]:
        """How answers are chosen."""
        return {
            "may_abstain": self.may_abstain,
            "threshold": self.threshold,
            "max_answer_tokens": self.max_answer_tokens,
            "n_best": self.n_best,
            "doc_stride": self.doc_stride,
            **form_settings(self.head),
        }

    @classmethod
    def restore(cls: type[T], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> T:
        """From a bundle's card."""
        names = ("may_abstain", "threshold", "max_answer_tokens", "n_best", "doc_stride")
        return cls(backbone, template, form=kept_form(settings), **{name: settings[name] for name in names}, **common)


def _context(example: Example) -> str:
    """The text that the answer is taken from.

    Raises:
        DataError: there is none, or it is a list.
    """
    value = example.fields.get(_CONTEXT)
    if not isinstance(value, str):
        what = "the row has no 'context'" if value is None else "the context is a list, not a text"
        raise DataError(what, where=example.where, fix="give a text; columns: {passage: context} renames a column")
    return value


def _place(example: Example, answer: tuple[str, int | None]) -> tuple[int, int]:
    """Where an answer's characters stand in the context.

    Raises:
        DataError: no place is given, or another text stands there.
    """
    context = _context(example)
    text, start = answer
    if start is None:
        what = f"the answer {text!r} has no place in the context"
        raise DataError(what, where=example.where, fix='give "answer_start", the number of its first character')
    if context[start : start + len(text)] != text:
        at = context.find(text)
        stands = f"it stands at {at}" if at >= 0 else "it stands nowhere in the context"
        what = f"the answer {text!r} is said to begin at character {start}, but {stands}"
        raise DataError(what, where=example.where, fix="correct answer_start: characters count from 0")
    return start, start + len(text)


def _null_place(encoded: Encoded, is_encoder: bool) -> int:
    """Where "no answer" is read: never at a learned token."""
    specials = (at for at, owner in enumerate(encoded.owner) if owner == "special" and encoded.soft[at] < 0)
    return next(specials, len(encoded) - 1) if is_encoder else len(encoded) - 1


def _columns(aim: tuple[int, int] | None, tokens: Sequence[int]) -> tuple[int, int] | None:
    """The two columns to be learned of a window with these tokens: 0 where the whole answer is not in it."""
    if aim is None:
        return None
    begin, end = aim
    return (1 + tokens.index(begin), 1 + tokens.index(end)) if begin in tokens and end in tokens else (0, 0)
