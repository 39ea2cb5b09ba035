"""Regression: a number for each text, on a scale of levels (ratings 1 to 5) or any number.

In: rows whose `label` column is a number. Out: numbers. Two ways:
- labels that are numbers, scored by label words ({1: [terrible], ..., 5: [great]}) or by a head with an output for each: the
  number is the expected value over the levels. Loss: cross-entropy, a number between two levels being shared out between them,
  or the squared error of the expected value.
- a head without labels: its one output is the number, in units of the training numbers' deviation from their mean. Loss:
  the squared error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite, nan
from statistics import fmean, pstdev
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example, LabelSet
from ptune.errors import DataError, RecipeError
from ptune.inputs import Batch, Context, StoredContext
from ptune.model.label_model import LabelModel
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import ensemble_scores
from ptune.model.task_model import LabelsAre, TaskKind
from ptune.objective import OrdinalReport, TaskReport, expected_value, level_loss, ordinal_report, squared_loss
from ptune.readout import Verbalizer, log_prior
from ptune.template import Template

__all__ = ["NumberLoss", "NumberPrediction", "RegressionModel"]

NumberLoss = Literal["cross-entropy", "squared"]
R = TypeVar("R", bound="RegressionModel")


@dataclass(frozen=True)
class NumberPrediction:
    """What the task says about one text.

    Args:
        value: the number.
        probabilities: of every level; None where there are no levels.
    """

    value: float
    probabilities: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return (
            {"value": self.value} if self.probabilities is None else {"value": self.value, "probabilities": self.probabilities}
        )

    def __str__(self) -> str:
        return f"{self.value:.2f}"


@dataclass(frozen=True)
class PreparedNumbers(Prepared):
    """Rows with their numbers.

    Args:
        numbers: one for each row, NaN where it is unknown.
    """

    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class NumberBatch(Batch):
    """A batch with its rows' numbers, [B]; NaN where unknown."""

    numbers: Tensor | None = None


class RegressionModel(LabelModel):
    """See the module's docstring; arguments beside those of `LabelModel`:

    Args:
        loss: `cross-entropy` or `squared`; None takes the first where there are levels.
        centre, scale: of a head's one output: the number is centre + scale * output. With levels, errors count in `scale`.
    """

    kind: ClassVar[TaskKind] = "regression"
    metric: ClassVar[str] = "spearman"
    keys: ClassVar[tuple[str, ...]] = ("labels", "pool", "fill", "loss", "examples")
    target_keys: ClassVar[tuple[str, ...]] = ("label",)
    labels_are: ClassVar[LabelsAre] = "optional"
    min_labels: ClassVar[int] = 0

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        labels: LabelSet,
        *,
        loss: NumberLoss | None = None,
        centre: float = 0.0,
        scale: float = 1.0,
        **settings: Any,
    ) -> None:
        levels = _levels(labels.names)
        if loss == "cross-entropy" and not levels:
            raise RecipeError("cross-entropy needs levels", where="loss", fix="give labels, [1, 2, 3] say, or loss: squared")
        super().__init__(backbone, template, labels, **settings)
        self.levels = levels
        self.loss: NumberLoss = loss or ("cross-entropy" if self.levels else "squared")
        self.centre, self.scale = centre, scale

    @classmethod
    def build(
        cls: type[R],
        *,
        labels: Verbalizer | Mapping[str, Any] | Sequence[str] = (),
        examples: Sequence[Example] = (),
        columns: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> R:
        """From the words of a recipe.

        Args:
            labels: label words for numbers, or numbers with a head; none with a head whose one output is the number.
            examples: training rows, whose numbers decide the unit of a head's output.
            columns: recipe key -> column.
            **settings: as in `LabelModel.build`, and `loss`.

        Raises:
            PtuneError: anything that does not fit together, before any work.
        """
        numbers = [_number(row.fields[(columns or {}).get("label", "label")], row.where) for row in examples]
        names = labels.labels if isinstance(labels, Verbalizer) else tuple(labels)
        spread = _levels(names) or tuple(numbers)
        unit: dict[str, Any] = {
            "centre": fmean(numbers) if numbers else 0.0,
            "scale": (pstdev(spread) if spread else 0.0) or 1.0,
        }
        return super().build(labels=labels, columns=columns, **unit, **settings)

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """A number in each row, in training within the levels.

        Raises:
            DataError: at the first row where that is not so.
            RecipeError: a label that is no number.
        """
        levels = _levels(labels)
        for row in rows:
            number = _number(row.fields[columns["label"]], row.where)
            if is_training and levels and not min(levels) <= number <= max(levels):
                what = f"{number:g} lies outside of the labels, {min(levels):g} to {max(levels):g}"
                raise DataError(what, where=row.where, fix="add a label for it, or correct the row")

    @property
    def num_outputs(self) -> int:
        """One for each level, or the number itself."""
        return len(self.labels) or 1

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> PreparedNumbers:
        """As in `BatchedRows`, with each row's number."""
        rows = super().prepare(examples, keep_context=keep_context, **storage)
        numbers = tuple(
            _number(self.value(example, "label"), example.where) if self.has_target(example) else nan for example in examples
        )
        return PreparedNumbers(rows.encoded, (), rows.contexts, numbers)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> NumberBatch:
        """As `batch`, with the contexts and each row's number of tokens in them decided already."""
        assert isinstance(prepared, PreparedNumbers)
        batch = super().lay_out(prepared, index, contexts=contexts, skip=skip)
        numbers = torch.tensor([prepared.numbers[i] for i in index], dtype=torch.float64)
        return NumberBatch(**{one.name: getattr(batch, one.name) for one in fields(batch)}, numbers=numbers)

    # -- batches to numbers ------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """Level scores (or the head's output), and the loss where every row has a number; of candidates, their sum."""
        assert isinstance(batch, NumberBatch) and batch.numbers is not None
        scores = self.corrected_scores(batch)
        many = self.has_candidates
        joined = ensemble_scores(scores) if many else scores
        if bool(batch.numbers.isnan().any()):
            return Outcome(joined, candidate_scores=scores if many else None)
        if not many:
            return Outcome(joined, self._loss(scores, batch.numbers))
        losses = torch.stack([self._loss(one, batch.numbers) for one in scores])
        return Outcome(joined, losses.sum(), candidate_scores=scores, candidate_losses=losses)

    def values(self, scores: Tensor) -> Tensor:
        """[B] numbers from scores."""
        if self.levels:
            return expected_value(scores, torch.tensor(self.levels, dtype=torch.float64))
        return self.centre + self.scale * scores[:, 0]

    def _loss(self, scores: Tensor, numbers: Tensor) -> Tensor:
        if self.loss == "cross-entropy":
            return level_loss(scores, numbers, torch.tensor(self.levels, dtype=torch.float64))
        return squared_loss(self.values(scores), numbers, scale=self.scale)

    def looks(self, prepared: Prepared) -> list[Look]:
        """Spearman's correlation and mean loss of each candidate."""
        assert isinstance(prepared, PreparedNumbers)
        numbers = torch.tensor(prepared.numbers, dtype=torch.float64)
        return [
            Look(ordinal_report(prepared.numbers, self.values(scores).tolist()).score, self._loss(scores, numbers).item())
            for scores in self.candidate_scores(prepared)
        ]

    def mean_loss(self, rows: Prepared) -> float:
        """Over all rows; candidates speak as an ensemble."""
        assert isinstance(rows, PreparedNumbers)
        return self._loss(self.scores(rows), torch.tensor(rows.numbers, dtype=torch.float64)).item()

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[NumberPrediction]:
        """The number of each row, with the probabilities of the levels."""
        prepared = self.prepare(examples)
        return self.predictions_from(prepared, list(self.scores(prepared, batch_size=batch_size)))

    def predictions_from(self, prepared: Prepared, scores: Sequence[Tensor]) -> list[NumberPrediction]:
        """As in `TaskModel`."""
        if not scores:
            return []
        joined = torch.stack(list(scores))
        values = self.values(joined).tolist()
        if not self.levels:
            return [NumberPrediction(value) for value in values]
        names = self.labels.names
        return [
            NumberPrediction(value, dict(zip(names, row.tolist(), strict=True)))
            for value, row in zip(values, torch.softmax(joined, 1), strict=True)
        ]

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> OrdinalReport:
        """Correlations and errors; with levels, how many steps off.

        Raises:
            DataError: a row without a number.
        """
        true = [_number(self.value(example, "label"), example.where) for example in examples]
        return self._report(true, self.scores(self.prepare(examples), batch_size=batch_size))

    def _report(self, true: Sequence[float], scores: Tensor) -> OrdinalReport:
        levels = self.levels if self.levels and set(true) <= set(self.levels) else None
        return ordinal_report(true, self.values(scores).tolist(), levels=levels)

    # -- beside training ---------------------------------------------------------------------------------------------

    def take_out_prior(self, rows: Prepared) -> None:
        """Divides each level's probability by its mean over the training texts, their numbers not looked at."""
        if self.head is None:
            each = torch.stack([log_prior(scores) for scores in self.candidate_scores(rows)])
            self.prior.copy_(each.view(self.prior.shape))

    def zero_shot(self, train_rows: Sequence[Example], judged: Sequence[Example]) -> dict[str, TaskReport]:
        """Figures of the hard template alone, as it is and with the prior of the (unlabelled) training texts taken out."""
        if self.head is not None:
            return {}
        hard = self.without_prompt()
        true = [_number(self.value(example, "label"), example.where) for example in judged]
        scores = hard.scores(hard.prepare(judged))
        prior = log_prior(hard.scores(hard.prepare(train_rows)))
        return {"zero_shot": self._report(true, scores), "prior_corrected": self._report(true, scores - prior)}

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Those of `LabelModel`, the loss and the unit."""
        return {**super().settings(), "loss": self.loss, "centre": self.centre, "scale": self.scale}

    @classmethod
    def restore(cls: type[R], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> R:
        """A trained model from a card's `settings`."""
        own = {name: settings[name] for name in ("loss", "centre", "scale")}
        return super().restore(settings, backbone=backbone, template=template, **own, **common)


def _levels(names: Sequence[str]) -> tuple[float, ...]:
    """The labels as numbers.

    Raises:
        RecipeError: one is no number.
    """
    levels = []
    for name in names:
        try:
            levels.append(float(name))
        except ValueError:
            what = f"the label {name!r} is no number"
            raise RecipeError(what, where="labels", fix="name numbers, as in {1: [terrible], 5: [great]}") from None
    return tuple(levels)


def _number(value: object, where: str) -> float:
    """A row's number.

    Raises:
        DataError: it is none.
    """
    try:
        number = float(str(value))
    except ValueError:
        number = nan
    if not isfinite(number):
        raise DataError(f"{value!r} is no number", where=where, fix="correct the row")
    return number
