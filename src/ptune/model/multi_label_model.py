"""Multi-label classification: any number of labels for each text, none included.

In: rows whose `label` column is a list, or one text with bars between labels. Out: log-odds [B, C], a decision for each label.
Two ways, by the template:
- with a head and no `{choice}`: one output for each label on the pooled text;
- with `{choice}`: each label's text is read in a row of its own, and judged by a head's one output or by words
  (`yes_no: [Yes, No]`): as many rows as labels, but label names mean something, and few rows teach them all.
The loss is binary cross-entropy, the mean over rows and labels; the threshold is chosen on the validation rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example, FieldValue, did_you_mean, label_text, listed
from ptune.errors import DataError, RecipeError, notice
from ptune.inputs import Batch, Context, Encoded, FillOrder, Place, PoolKind, StoredContext, lay_out_pooled
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import check_template
from ptune.model.read_model import JudgedBatch, PreparedTexts, ReadModel, YesNo, judged_batch, yes_no_words
from ptune.model.task_model import LabelsAre, TaskKind
from ptune.objective import MultiLabelReport, TaskReport, label_set_report
from ptune.prompt import MethodConfig
from ptune.readout import HeadForm, Verbalizer, best_log_odds
from ptune.template import Template

__all__ = ["LabelsPrediction", "MultiLabelModel"]

M = TypeVar("M", bound="MultiLabelModel")


@dataclass(frozen=True)
class LabelsPrediction:
    """What the task says about one text.

    Args:
        labels: those that are probable enough, in the task's order.
        probabilities: of every label, each by itself.
    """

    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"labels": list(self.labels), "probabilities": self.probabilities}

    def __str__(self) -> str:
        given = [f"{label} {self.probabilities[label]:.2f}" for label in self.labels]
        return ", ".join(given) or "none"


@dataclass(frozen=True)
class PreparedSets(PreparedTexts):
    """Rows with their sets of labels.

    Args:
        sets: for each row, whether it has each label; empty where that is unknown.
    """

    sets: tuple[tuple[bool, ...], ...] = ()


class MultiLabelModel(ReadModel):
    """See the module's docstring.

    Args:
        backbone: the frozen model.
        template: with the method's learned tokens already in it.
        labels: names.
        texts: what stands for each in `{choice}`.
        yes_no: words that judge a label in the template, or None with a head.
        pool: which hidden states a head reads, or None with words.
        form: of the head that transformers' own models have; None for a linear head.
        fill: how masks of a word of several tokens are filled (parallel or chain).
        threshold: log-odds above which a label is given; None for 0, until `settle` chooses one.
        **common: see `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "multi-label"
    metric: ClassVar[str] = "micro_f1"
    keys: ClassVar[tuple[str, ...]] = ("labels", "label_texts", "pool", "yes_no", "fill", "threshold")
    target_keys: ClassVar[tuple[str, ...]] = ("label",)
    labels_are: ClassVar[LabelsAre] = "required"
    takes_candidates: ClassVar[bool] = False

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        labels: Sequence[str],
        texts: Sequence[str],
        yes_no: Verbalizer | None = None,
        pool: PoolKind | None = None,
        form: HeadForm | None = None,
        fill: FillOrder = "parallel",
        threshold: float | None = None,
        **common: Any,
    ) -> None:
        names = tuple(labels)
        outputs = 1 if template.has_choice else len(names)
        super().__init__(backbone, template, yes_no=yes_no, pool=pool, form=form, fill=fill, num_outputs=outputs, **common)
        if not names:
            raise RecipeError("no labels are given", where="labels", fix="write labels: [sports, politics]")
        if pool is None and (yes_no is None or not self.is_read):
            raise RecipeError(
                "nothing says how labels are judged",
                where="head",
                fix="set head: linear; or write {choice} and {mask} in the template, and yes_no: [Yes, No]",
            )
        self.names, self.texts = names, tuple(texts)
        self.threshold, self.is_threshold_given = threshold or 0.0, threshold is not None
        self.check_readout()
        check_template(template, backbone, has_words=pool is None, pool=pool)
        self.to(backbone.device)

    @classmethod
    def build(  # type: ignore[override]  # labels must be given
        cls: type[M],
        *,
        backbone: Backbone,
        template: Template | str,
        labels: Sequence[str],
        label_texts: Mapping[str, str] | None = None,
        yes_no: YesNo | Verbalizer | None = None,
        threshold: float | None = None,
        method: str | Mapping[str, Any] | MethodConfig = "p-tuning",
        pool: PoolKind | None = None,
        init_rows: Tensor | None = None,
        init_deep: Mapping[Place, Tensor] | None = None,
        candidates: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> M:
        """From the words of a recipe.

        Args:
            backbone: a loaded backbone.
            template: text or `Template`.
            labels: names.
            label_texts: what stands for a label in `{choice}`, where that is not its name.
            yes_no: words for yes and no.
            threshold: probability from which a label is given; None chooses it on the validation rows.
            method, pool, init_rows, init_deep, candidates, seed: as in `LabelModel.build`.
            **settings: form, fill, columns, max_length, tune.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        words, names = yes_no_words(yes_no), tuple(map(label_text, labels))
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
            labels=names,
            texts=[(label_texts or {}).get(name, name) for name in names],
            yes_no=words,
            pool=pool,
            threshold=None if threshold is None else float(torch.logit(torch.tensor(threshold, dtype=torch.float64))),
            **first.common,
            seed=seed,
            **settings,
        )

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Known labels only; labels that no training row has are named, but allowed.

        Raises:
            DataError: at the first row with an unknown label.
        """
        sets = [_labels_of(row.fields[columns["label"]], labels, row.where) for row in rows]
        absent = [name for name in labels if not any(name in found for found in sets)]
        if is_training and absent:
            notice(f"no training row has the label {listed(absent)}")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels in the order of scores."""
        return self.names

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedSets:
        """As in `BatchedRows`, with each row's labels."""
        rows: tuple[tuple[Encoded, ...], ...] = ()
        if self.is_read:
            rows = tuple(self.read_rows(example, self.texts) for example in examples)
            encoded = tuple(map(self.encoded_of, rows))
        else:
            encoded = tuple(map(self.encode, examples))
        contexts = self.kept_contexts(encoded, **storage) if keep_context else None
        return PreparedSets(encoded, (), contexts, rows, (len(self.names),) * len(examples), self.sets_of(examples))

    def sets_of(self, examples: Sequence[Example]) -> tuple[tuple[bool, ...], ...]:
        """For each row, whether it has each label; empty where a row's labels are unknown."""
        if not all(map(self.has_target, examples)):
            return ()
        found = [_labels_of(self.value(example, "label"), self.names, example.where) for example in examples]
        return tuple(tuple(name in one for name in self.names) for one in found)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> JudgedBatch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        assert isinstance(prepared, PreparedSets)
        targets = torch.tensor([prepared.sets[i] for i in index], dtype=torch.bool) if prepared.sets else None
        if self.is_read:
            return judged_batch(self.lay_out_read(prepared, index, contexts, skip), targets=targets)
        assert self.pool is not None
        batch = lay_out_pooled(
            [prepared.encoded[i] for i in index],
            self.pool,
            self.backbone.tokens,
            labels=[-1] * len(index),
            index=index,
            contexts=contexts,
            skip=skip,
            has_types=self._has_types,
        )
        return judged_batch(batch, targets=targets)

    # -- batches to scores -------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Log-odds of the labels, and the loss where the rows' labels are known."""
        assert isinstance(batch, JudgedBatch)
        scores = self.odds(self.states(batch)[0], batch) if self.head is None else self.head_scores(batch)
        scores = scores.reshape(len(batch.index), -1)
        if batch.targets is None:
            return Outcome(scores)
        targets = batch.targets.to(scores)
        return Outcome(scores, torch.nn.functional.binary_cross_entropy_with_logits(scores, targets))

    def scores(self, prepared: Prepared, *, batch_size: int | None = None) -> Tensor:
        """[N, C] log-odds of all rows in their own order, without gradients."""
        out = torch.zeros(len(prepared), len(self.names))
        with torch.no_grad():
            for batch in self.batches(prepared, batch_size):
                out[list(batch.index)] = self(batch).scores.float().cpu()
        return out

    def looks(self, prepared: Prepared) -> list[Look]:
        """Micro F1 with the threshold that does best on these rows, and mean loss."""
        assert isinstance(prepared, PreparedSets)
        scores, targets = self.scores(prepared), torch.tensor(prepared.sets)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, targets.float()).item()
        return [Look(best_log_odds(scores, targets)[1], loss)]

    def settle(self, rows: Prepared, validation: Prepared | None) -> None:
        """Chooses the threshold on the validation rows, where none was given and there are some."""
        if validation is not None and not self.is_threshold_given:
            assert isinstance(validation, PreparedSets)
            self.threshold, _ = best_log_odds(self.scores(validation), torch.tensor(validation.sets))

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[LabelsPrediction]:
        """The labels of each row."""
        if not examples:
            return []
        scores = self.scores(self.prepare(examples), batch_size=batch_size)
        return [
            LabelsPrediction(self._given(row), dict(zip(self.names, torch.sigmoid(row).tolist(), strict=True)))
            for row in scores
        ]

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> MultiLabelReport:
        """Micro and macro F1, whole sets, figures of each label.

        Raises:
            DataError: a row without its labels, or with an unknown one.
        """
        true = [_labels_of(self.value(example, "label"), self.names, example.where) for example in examples]
        scores = self.scores(self.prepare(examples), batch_size=batch_size)
        return label_set_report(true, [self._given(row) for row in scores], self.names)

    def _given(self, scores: Tensor) -> tuple[str, ...]:
        return tuple(name for name, score in zip(self.names, scores.tolist(), strict=True) if score > self.threshold)

    def zero_shot(self, train_rows: Sequence[Example], judged: Sequence[Example]) -> dict[str, TaskReport]:
        """The hard template's judgement at even odds; nothing with a head, which is drawn at random."""
        return {} if self.head is not None else {"zero_shot": self.without_prompt().judge(judged)}

    def without_prompt(self: M) -> M:
        """The same task with the hard template alone: zero-shot."""
        return type(self).build(
            backbone=self.backbone,
            template=self.template.without_soft(),
            labels=self.names,
            label_texts=dict(zip(self.names, self.texts, strict=True)),
            yes_no=self.yes_no,
            method="hard",
            pool=self.pool,
            fill=self.fill,
            max_length=self.max_length,
            columns=self.columns,
        )

    def facts(self) -> dict[str, Any]:
        """The threshold, as a probability."""
        return {"threshold": 1 / (1 + exp(-self.threshold))}

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Labels and their texts, how they are judged, the threshold."""
        return {
            "labels": list(self.names),
            "texts": list(self.texts),
            "threshold": self.threshold,
            **self.read_settings(),
        }

    @classmethod
    def restore(cls: type[M], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> M:
        """A trained model from a card's `settings`."""
        own = {name: settings[name] for name in ("labels", "texts", "threshold")}
        return cls(backbone, template, **own, **cls.kept_readout(settings), **common)


def _labels_of(value: FieldValue, names: Sequence[str], where: str) -> frozenset[str]:
    """A row's labels, from a list or from one text with bars between them.

    Raises:
        DataError: a label that the task does not have.
    """
    given = value.split("|") if isinstance(value, str) else value
    found = frozenset(label.strip() for label in given if label.strip())
    strange = sorted(found.difference(names))
    if strange:
        otherwise = f"correct the row or declare the label; declared are {listed(names)}"
        raise DataError(f"unknown label '{strange[0]}'", where=where, fix=did_you_mean(strange[0], names, otherwise))
    return found
