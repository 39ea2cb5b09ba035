"""Tagging: a tag for each word of a text, and the spans that the tags stand for, by a linear head on the words' tokens.

In: rows with `tokens` and `tags`, or plain texts. Out: tags in one scheme, and spans with their characters. Each word is read
at its first token; special, learned and template tokens, and the rest of a word, carry no label (-100). Where one token covers
several words (积极 is one token on Gemma, and two words character by character), it is trained towards the tag of the first,
and the others continue it: B-X is followed by I-X. On a causal model a token has seen nothing of what follows; a template with
`{tokens}` twice lets it, since the second copy is the one that is read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import (
    Example,
    TagScheme,
    convert_tags,
    did_you_mean,
    tag_names,
    tag_scheme,
    tag_spans,
    tag_types,
    tags_of,
    transitions,
)
from ptune.errors import DataError, RecipeError
from ptune.inputs import (
    Batch,
    Context,
    Place,
    StoredContext,
    WordPiece,
    lay_out_places,
    word_units,
)
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import Tune
from ptune.model.tag_rows import (
    IGNORED,
    TEXT_FIELD,
    BatchTags,
    FoundSpan,
    PreparedTags,
    TagPrediction,
    TagRow,
    checked_tags,
    words_of,
)
from ptune.model.task_model import LabelsAre, TaskKind
from ptune.model.windowed import WindowedModel, margin, pairs
from ptune.objective import TagReport, tag_report
from ptune.prompt import MethodConfig
from ptune.readout import HeadForm, LinearHead, ModelHead, best_tags, build_head, form_settings, kept_form
from ptune.template import Template

__all__ = ["TagModel"]

T = TypeVar("T", bound="TagModel")


class TagModel(WindowedModel):
    """See the module's docstring.

    Args:
        backbone, template: as in `TaskModel`.
        types: of spans.
        scheme: in which tags are learned and given out.
        valid_tags: give the best sequence in which every tag may follow the one in front, rather than each word's best tag.
        word_piece: which token of a word is read; on a causal model the last one has seen the whole word.
        doc_stride: tokens that neighbouring windows share.
        **common: as in `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "tagging"
    metric: ClassVar[str] = "f1"
    keys: ClassVar[tuple[str, ...]] = ("labels", "examples", "scheme", "valid_tags", "word_piece", "doc_stride")
    target_keys: ClassVar[tuple[str, ...]] = ("tags",)
    labels_are: ClassVar[LabelsAre] = "optional"
    default_template: ClassVar[str | None] = "{tokens}"
    long_field: ClassVar[str] = TEXT_FIELD

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        types: Sequence[str],
        scheme: TagScheme = "BIO",
        valid_tags: bool = True,
        word_piece: WordPiece = "first",
        doc_stride: int | None = None,
        form: HeadForm | None = None,
        **common: Any,
    ) -> None:
        super().__init__(backbone, template, doc_stride=doc_stride, **common)
        self.types, self.scheme = tuple(types), scheme
        self.tags = tag_names(self.types, scheme)
        self.valid_tags, self.word_piece = valid_tags, word_piece
        self._allowed = transitions(self.tags, scheme)
        self._reach: dict[str, Any] = {}
        self.head = build_head(backbone.spec.width, len(self.tags), form, seed=self.seed, dtype=self.head_dtype)
        self.check_readout()
        self.to(backbone.device)

    @classmethod
    def build(  # type: ignore[override]
        cls: type[T],
        *,
        backbone: Backbone,
        template: Template | str = "{tokens}",
        labels: Sequence[str] = (),
        examples: Sequence[Example] = (),
        scheme: TagScheme | None = None,
        valid_tags: bool = True,
        word_piece: WordPiece = "first",
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
            labels: types of spans; none takes those of `examples`.
            examples: training rows, from which types and scheme are taken where they are not given.
            scheme: None for that of the examples (IOB1, which no decoding can hold to, becomes BIO).
            valid_tags, word_piece, doc_stride: see the class.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        column = (columns or {}).get("tags", "tags")
        rows = [value for one in examples if isinstance(value := one.fields.get(column), tuple)]
        types = tuple(labels) or tag_types(rows)
        if not types:
            what = "no types of spans are named, and the training rows have none"
            raise RecipeError(what, where="labels", fix="write labels: [PER, LOC], say")
        found = scheme or tag_scheme(rows)
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
            types=types,
            scheme="BIO" if found == "IOB1" else found,
            valid_tags=valid_tags,
            word_piece=word_piece,
            doc_stride=doc_stride,
            form=form,
            **first.common,
            columns=columns,
            max_length=max_length,
            tune=tune,
            seed=seed,
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The types of spans."""
        return self.types

    # -- rows --------------------------------------------------------------------------------------------------------

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """As many tags as words, of known types, and in training some that are not O.

        Raises:
            DataError: at the first row that does not fit.
        """
        for example in rows:
            tags = checked_tags(example, columns["tags"])
            unknown = next((name for name in tag_types([tags]) if labels and name not in labels), None)
            if unknown is not None:
                fix = did_you_mean(
                    unknown, labels, f"the recipe has the labels {', '.join(labels)}; add it or leave labels out"
                )
                raise DataError(f"the tags have a type {unknown!r} that is no label", where=example.where, fix=fix)
        if is_training and rows and not labels and not tag_types(checked_tags(row, columns["tags"]) for row in rows):
            raise DataError("no training row has a tag but O", where=rows[0].where, fix="name the column with tags: ...")

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedTags:
        """Words, tokens and windows of rows, and their tags where they have them.

        Raises:
            DataError: tags that do not fit the words.
            TemplateError: a missing field, or no room for the text.
            BackboneError: `keep_context`, see `why_not_keep`.
        """
        if keep_context:
            self.check_keep()
        number_of = {tag: number for number, tag in enumerate(self.tags)}
        rows: list[TagRow] = []
        encoded, places, units, row_of, targets = [], [], [], [], []
        for example in examples:
            words = words_of(example)
            windowed = self.windows(example, words.text)
            spans = pairs(windowed.spans, margin(words.text))
            row = TagRow(words, word_units(words, spans, piece=self.word_piece), self._tags(example))
            unit_tags = tags_of(row.unit_spans, len(row.units), self.scheme) if row.tags is not None else ()
            for window in windowed.windows:
                own = [at for at, unit in enumerate(row.units) if window.own_begin <= unit.token < window.own_end]
                encoded.append(window.encoded)
                units.append(tuple(own))
                places.append(tuple(window.place(row.units[at].token) for at in own))
                row_of.append(len(rows))
                targets.append(tuple(number_of.get(unit_tags[at], IGNORED) for at in own) if row.tags is not None else ())
            rows.append(row)
        return PreparedTags(
            tuple(encoded),
            places=tuple(places),
            units=tuple(units),
            row_of=tuple(row_of),
            targets=tuple(targets),
            rows=rows,
        )

    def _tags(self, example: Example) -> tuple[str, ...] | None:
        if not self.has_target(example):
            return None
        return convert_tags(checked_tags(example, self.columns["tags"]), self.scheme)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> BatchTags:
        """The windows with these numbers, to be read at their places."""
        assert isinstance(prepared, PreparedTags)
        batch = lay_out_places(
            [prepared.encoded[i] for i in index],
            [prepared.places[i] for i in index],
            self.backbone.tokens,
            index=index,
            contexts=contexts,
            skip=skip,
            has_types=self._has_types,
        )
        is_known = all(prepared.rows[prepared.row_of[i]].tags is not None for i in index)
        targets = torch.tensor([tag for i in index for tag in prepared.targets[i]], dtype=torch.long) if is_known else None
        return BatchTags(**vars(batch), targets=targets)

    # -- scores ------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Tag scores of each place [U, C], and their mean cross-entropy."""
        assert isinstance(batch, BatchTags) and isinstance(self.head, LinearHead | ModelHead)
        scores = self.head.score(self.backbone.read(batch.live, self.prompt(), batch.reads, batch.contexts))
        if batch.targets is None:
            return Outcome(scores)
        return Outcome(scores, _loss(scores, batch.targets.to(scores.device)))

    def log_probabilities(self, prepared: PreparedTags, *, batch_size: int | None = None) -> list[Float[Tensor, "L C"]]:
        """Of each row, the log-probabilities of the tags of its units, each from the window that is its own."""
        parts: list[Tensor] = [torch.empty(0)] * len(prepared)
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                for number, part in zip(batch.index, _parts(self(batch).scores, batch), strict=True):
                    parts[number] = part
        return self._of_rows(prepared, parts)

    def scores_in_batch(self, states: Float[Tensor, "U D"], batch: Batch) -> list[Tensor]:
        """As in `TaskModel`: of each window, the log-probabilities of its units' tags."""
        assert isinstance(self.head, LinearHead | ModelHead)
        return _parts(self.head.score(states), batch)

    def predictions_from(self, prepared: Prepared, scores: Sequence[Tensor]) -> list[TagPrediction]:
        """As in `TaskModel`."""
        assert isinstance(prepared, PreparedTags)
        joined = self._of_rows(prepared, scores)
        return [self._prediction(row, one) for row, one in zip(prepared.rows, joined, strict=True)]

    def _of_rows(self, prepared: PreparedTags, parts: Sequence[Tensor]) -> list[Float[Tensor, "L C"]]:
        """The windows' scores put together, row by row."""
        out = [torch.zeros(len(row.units), len(self.tags)) for row in prepared.rows]
        for number, part in enumerate(parts):
            out[prepared.row_of[number]][list(prepared.units[number])] = part
        return out

    def decode(self, log_probabilities: Float[Tensor, "L C"]) -> tuple[str, ...]:
        """The tags of a row's units."""
        if self.valid_tags:
            return tuple(self.tags[number] for number in best_tags(log_probabilities, self._allowed))
        return tuple(self.tags[number] for number in log_probabilities.argmax(1).tolist())

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[TagPrediction]:
        """Tags and spans of each row."""
        prepared = self.prepare(examples)
        scores = self.log_probabilities(prepared, batch_size=batch_size)
        return [self._prediction(row, one) for row, one in zip(prepared.rows, scores, strict=True)]

    def looks(self, prepared: Prepared) -> list[Look]:
        """F1 of the spans, and the mean loss of a word."""
        assert isinstance(prepared, PreparedTags)
        scores = self.log_probabilities(prepared)
        targets = [torch.full((len(row.units),), IGNORED) for row in prepared.rows]
        for number, row in enumerate(prepared.row_of):
            targets[row][list(prepared.units[number])] = torch.tensor(prepared.targets[number], dtype=torch.long)
        loss = _loss(torch.cat(scores), torch.cat(targets)).item()
        return [Look(self._report(prepared, scores).score, loss)]

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> TagReport:
        """Precision, recall and F1 of the spans.

        Raises:
            DataError: a row without tags.
        """
        for example in examples:
            self.value(example, "tags")
        prepared = self.prepare(examples)
        return self._report(prepared, self.log_probabilities(prepared, batch_size=batch_size))

    def _report(self, prepared: PreparedTags, scores: Sequence[Tensor]) -> TagReport:
        found = [self._prediction(row, one).tags for row, one in zip(prepared.rows, scores, strict=True)]
        return tag_report([row.tags or () for row in prepared.rows], found)

    def _prediction(self, row: TagRow, log_probabilities: Tensor) -> TagPrediction:
        tags = self.decode(log_probabilities)
        probabilities = log_probabilities.exp()
        found = []
        unit_spans = tag_spans(tags)
        spans = row.in_words(unit_spans)
        for unit_span, span in zip(unit_spans, spans, strict=True):
            start, end = row.words.spans[span.start][0], row.words.spans[span.end - 1][1]
            each = [float(probabilities[at, self.tags.index(tags[at])]) for at in range(unit_span.start, unit_span.end)]
            found.append(FoundSpan(span.type, row.words.text[start:end], start, end, sum(each) / len(each)))
        in_words = tags_of(spans, len(row.words.spans), self.scheme)
        return TagPrediction(row.words.text, row.words.words, in_words, tuple(found))

    # -- beside training ---------------------------------------------------------------------------------------------

    def settle(self, rows: Prepared, validation: Prepared | None) -> None:
        """Counts the true spans that this tokenizer can tell from their neighbours."""
        assert isinstance(rows, PreparedTags)
        num = num_in_reach = 0
        for row in rows.rows:
            true = set(tag_spans(row.tags or ()))
            num, num_in_reach = num + len(true), num_in_reach + len(true & set(row.in_words(row.unit_spans)))
        self._reach = {"train_spans": num, "train_spans_at_token_borders": num_in_reach}

    def facts(self) -> dict[str, Any]:
        """How many training spans begin and end where tokens do: no tag can hit the others."""
        return self._reach

    def settings(self) -> dict[str, Any]:
        """Types, scheme and how tags are read."""
        return {
            "labels": list(self.types),
            "scheme": self.scheme,
            "valid_tags": self.valid_tags,
            "word_piece": self.word_piece,
            "doc_stride": self.doc_stride,
            **form_settings(self.head),
        }

    @classmethod
    def restore(cls: type[T], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> T:
        """From a bundle's card."""
        own = {key: settings[key] for key in ("scheme", "valid_tags", "word_piece", "doc_stride")}
        return cls(backbone, template, types=settings["labels"], form=kept_form(settings), **own, **common)


def _parts(scores: Float[Tensor, "U C"], batch: Batch) -> list[Tensor]:
    """Log-probabilities of each row of a batch."""
    counts = torch.bincount(batch.reads.row.cpu(), minlength=len(batch.index)).tolist()
    return list(torch.split(torch.log_softmax(scores.float().cpu(), 1), counts))


def _loss(scores: Float[Tensor, "U C"], targets: Int[Tensor, " U"]) -> Tensor:
    """Mean cross-entropy of the places with a target; 0 where there are none."""
    total = torch.nn.functional.cross_entropy(scores, targets, ignore_index=IGNORED, reduction="sum")
    return total / max(1, int((targets != IGNORED).sum()))
