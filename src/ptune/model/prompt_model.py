"""Classification: one label of several for each text, by a prompt, a frozen backbone and a readout.

In: rows of data (`prepare`), then batches of them. Out: `Outcome` with label scores and, where labels are known, the loss.
`parameters()` and `state_dict()` hold what is learned and nothing of the backbone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example, LabelSet, check_labels
from ptune.errors import DataError
from ptune.inputs import AnswerWords, Batch, Context, StoredContext
from ptune.model.contrastive import check_contrastive, contrastive_losses
from ptune.model.label_conditioning import check_conditioning, conditioning_losses
from ptune.model.label_model import LabelModel
from ptune.model.near_demos import NearDemos
from ptune.model.outcome import Look, Outcome, Prepared
from ptune.model.parts import ensemble_scores
from ptune.model.targets import TargetBatch, TargetRows, target_batch
from ptune.model.task_model import TaskKind
from ptune.objective import (
    Report,
    TaskReport,
    classification_loss,
    decoupled_loss,
    distribution_loss,
    report,
    two_way_divergence,
)
from ptune.readout import (
    CalibrationName,
    HeadForm,
    LabelHead,
    LabelSetup,
    LinearHead,
    ModelHead,
    batch_prior,
    build_label_head,
    contextual_prior,
    domain_prior,
    label_heads,
    log_normaliser,
    log_prior,
)
from ptune.template import Template

__all__ = ["OUT_OF_SCOPE", "Prediction", "PromptModel", "check_judged", "judge_scores"]

OUT_OF_SCOPE = "unknown"
"""What a task says, unless told otherwise, where no label is probable enough."""

C = TypeVar("C", bound="PromptModel")


@dataclass(frozen=True)
class Prediction:
    """What the task says about one text.

    Args:
        label: the most probable label; of a task that may abstain, its word for that where no label is probable enough.
        probabilities: of every label.
    """

    label: str
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"label": self.label, "probabilities": self.probabilities}

    def __str__(self) -> str:
        return f"{self.label}  {max(self.probabilities.values()):.2f}"


class PromptModel(LabelModel):
    """See the module's docstring; `PromptModel.build` makes one from the words of a recipe, and `LabelModel` names them.

    Args:
        r_drop: weight of what two readings of a row with different dropout disagree in; 0 reads once.
        label_loss: `cross-entropy` of the labels' share among each other, or `decoupled`: each label's own probability among
            all words is raised or lowered.
        label_conditioning: weight of the loss of the text's own words given the label, see `label_conditioning`; 0 for none.
        contrastive: weight of the loss of pairs of texts by their states in the answer slot, see `contrastive`; 0 for none.
        *args, **settings: of `LabelModel`.
    """

    kind: ClassVar[TaskKind] = "classification"
    metric: ClassVar[str] = "accuracy"
    reads_label: ClassVar[bool] = True
    keys: ClassVar[tuple[str, ...]] = (*LabelModel.keys, "r_drop", "label_loss", "label_conditioning", "contrastive")
    heads: ClassVar[tuple[str, ...]] = (*LabelModel.heads, *label_heads())

    abstain_below: float | None = None
    out_of_scope: str = OUT_OF_SCOPE
    near_demos: NearDemos | None = None  # what fills {demos} for each text, where the template has it

    def __init__(
        self,
        *args: Any,
        r_drop: float = 0.0,
        label_loss: Literal["cross-entropy", "decoupled"] = "cross-entropy",
        label_conditioning: float = 0.0,
        contrastive: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.r_drop, self.label_loss = r_drop, label_loss
        self.label_conditioning, self.contrastive = label_conditioning, contrastive
        if label_conditioning:
            check_conditioning(self)
        if contrastive:
            check_contrastive(self)

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Known labels only, and in training each of them.

        Raises:
            DataError: at the first row with an unknown label, or naming the labels that never occur.
        """
        check_labels(rows, LabelSet(labels), every_class=is_training)

    def build_head(self, form: HeadForm | str | None, answers: AnswerWords | None) -> LinearHead | ModelHead | LabelHead:
        """As in `LabelModel`, and heads in which labels learn, by name."""
        if not isinstance(form, str):
            return super().build_head(form, answers)
        common: dict[str, Any] = {"num_classes": self.num_outputs, "seed": self.seed, "dtype": self.head_dtype}
        return build_label_head(form, LabelSetup(self.backbone, self.template, self.verbalizer, answers, **common))

    def prepare(self, examples: Sequence[Example], *, keep_context: bool = False, **storage: Any) -> Prepared:
        """As in `BatchedRows`, with each row's class number, and its own demonstrations where the task shows some."""
        known = {name: number for number, name in enumerate(self.labels.names)}
        labels = tuple(-1 if example.label is None else known.get(example.label, -1) for example in examples)
        shown = examples if self.near_demos is None else self.near_demos.fill(examples)
        return replace(super().prepare(shown, keep_context=keep_context, **storage), labels=labels)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> Batch:
        """As in `LabelModel`, with what the rows are learned by beside their labels."""
        batch = super().lay_out(prepared, index, contexts=contexts, skip=skip)
        if self.label_conditioning and torch.is_grad_enabled():
            batch = replace(batch, rows=tuple(prepared.encoded[i] for i in index))
        return target_batch(batch, prepared, index) if isinstance(prepared, TargetRows) else batch

    def forward(self, batch: Batch) -> Outcome:
        """Label scores, and the loss where every row has a label; of candidates, each one's and their sum."""
        is_contrasted = self.contrastive > 0 and torch.is_grad_enabled()
        states = self._read_states(batch) if isinstance(self.head, LabelHead) or is_contrasted else None
        outcome = self._outcome(batch, states)
        if outcome.loss is None or not torch.is_grad_enabled():
            return outcome
        if states is not None and is_contrasted:
            outcome = outcome.plus(self.contrastive * contrastive_losses(self, batch, states))
        if self.label_conditioning:
            outcome = outcome.plus(self.label_conditioning * conditioning_losses(self, batch))
        return outcome

    def _outcome(self, batch: Batch, states: Tensor | None) -> Outcome:
        """Scores and the loss of the labels, from hidden states where they have been read."""
        scores = self.corrected_scores(batch) if states is None else self.scores_of_states(states, batch)
        many = self.has_candidates
        joined = ensemble_scores(scores) if many else scores
        has_targets = isinstance(batch, TargetBatch) and batch.targets is not None
        if bool((batch.labels < 0).any()) and not has_targets:
            return Outcome(joined, candidate_scores=scores if many else None)
        if isinstance(self.head, LabelHead) and states is not None:
            return Outcome(joined, self._loss(scores, batch, 0) + self.head.own_loss(states, batch.labels))
        if not many:
            return Outcome(joined, self._loss(scores, batch, 0) if not self._reads_twice else self._r_drop_loss(scores, batch))
        losses = torch.stack([self._loss(one, batch, number) for number, one in enumerate(scores)])
        return Outcome(joined, losses.sum(), candidate_scores=scores, candidate_losses=losses)

    @property
    def _reads_twice(self) -> bool:
        return self.r_drop > 0 and self.training and torch.is_grad_enabled()

    def _r_drop_loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """The mean of both readings' losses, and `r_drop` times how far they differ: half of Liang et al. 2021, equation 4."""
        again = self.corrected_scores(batch)
        loss = (self._loss(scores, batch, 0) + self._loss(again, batch, 0)) / 2
        return loss + self.r_drop / 2 * two_way_divergence(scores, again)

    def _scores_of(self, states: Tensor, batch: Batch) -> Tensor:
        """As in `LabelModel`; a decoupled loss needs log-probabilities among all words, which differ by one number a row."""
        scores = super()._scores_of(states, batch)
        if self.label_loss != "decoupled" or not torch.is_grad_enabled() or batch.reads.columns is None:
            return scores
        each = [log_normaliser(one, self.logits)[:, None] for one in (states if states.dim() == 3 else states[None])]
        return scores - (torch.stack(each) if states.dim() == 3 else each[0])

    def _loss(self, scores: Tensor, batch: Batch, candidate: int) -> Tensor:
        """Cross-entropy with the labels, or with the batch's distributions; of the rows that this candidate learns from."""
        has_targets = isinstance(batch, TargetBatch) and batch.targets is not None
        if self.label_loss == "decoupled" and torch.is_grad_enabled() and not has_targets:
            return decoupled_loss(scores, batch.labels, class_weights=self.class_weights)
        settings: dict[str, Any] = {"class_weights": self.class_weights, "label_smoothing": self.label_smoothing}
        if not isinstance(batch, TargetBatch):
            return classification_loss(scores, batch.labels, **settings)
        seen = batch.seen_by(candidate)
        if not bool(seen.any()):
            return scores.sum() * 0
        if batch.targets is None:
            return classification_loss(scores[seen], batch.labels[seen], **settings)
        return distribution_loss(scores[seen], batch.targets[seen], **settings)

    def looks(self, prepared: Prepared) -> list[Look]:
        """Accuracy and cross-entropy of each candidate."""
        labels, looks = torch.tensor(prepared.labels), []
        for scores in self.candidate_scores(prepared):
            accuracy = report(prepared.labels, scores.argmax(1).tolist(), self.labels.names).accuracy
            looks.append(Look(accuracy, torch.nn.functional.cross_entropy(scores, labels).item()))
        return looks

    def mean_loss(self, rows: Prepared) -> float:
        """Cross-entropy over all rows; candidates speak as an ensemble."""
        return torch.nn.functional.cross_entropy(self.scores(rows), torch.tensor(rows.labels)).item()

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[Prediction]:
        """The most probable label of each row, with the probabilities of all."""
        scores = self.scores(self.prepare(examples), batch_size=batch_size)
        return [self.prediction(row) for row in torch.softmax(scores, 1)]

    def predictions_from(self, prepared: Prepared, scores: Sequence[Tensor]) -> list[Prediction]:
        """As in `TaskModel`."""
        return [self.prediction(torch.softmax(row, 0)) for row in scores]

    def prediction(self, probabilities: Tensor) -> Prediction:
        """One row's [C] probabilities with its labels."""
        names = self.labels.names
        label = names[int(probabilities.argmax())]
        if self.abstain_below is not None and float(probabilities.max()) < self.abstain_below:
            label = self.out_of_scope
        return Prediction(label, dict(zip(names, probabilities.tolist(), strict=True)))

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> Report:
        """Accuracy, F1 and confusion.

        Raises:
            DataError: an example without a label, or with one that the task does not have.
        """
        check_judged(examples, self.labels)
        return judge_scores(self, examples, self.scores(self.prepare(examples), batch_size=batch_size))

    def facts(self) -> dict[str, Any]:
        """Those of `LabelModel`, and what a head in which labels learn has to say."""
        return {**super().facts(), **(self.head.facts() if isinstance(self.head, LabelHead) else {})}

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Those of `LabelModel`, when the task abstains, and the rows that it shows beside a text."""
        kept = super().settings()
        if self.abstain_below is not None:
            kept |= {"abstain_below": self.abstain_below, "out_of_scope": self.out_of_scope}
        if self.near_demos is not None:
            kept["near_demos"] = self.near_demos.settings()
        return kept

    @classmethod
    def restore(cls: type[C], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> C:
        """A trained model from a card's `settings`."""
        model = super().restore(settings, backbone=backbone, template=template, **common)
        model.abstain_below = settings.get("abstain_below")
        model.out_of_scope = settings.get("out_of_scope", OUT_OF_SCOPE)
        if "near_demos" in settings:
            model.near_demos = NearDemos.restore(settings["near_demos"], backbone)
        return model

    def tensors(self) -> dict[str, Tensor]:
        """Those of `LabelModel`, and the states that nearness is measured by."""
        own = {} if self.near_demos is None else {"near_demos": self.near_demos.vectors}
        return {**super().tensors(), **own}

    def put_back(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        super().put_back(tensors)
        if self.near_demos is not None:
            self.near_demos = replace(self.near_demos, vectors=tensors["near_demos"])

    # -- beside training ---------------------------------------------------------------------------------------------

    def take_out_prior(self, rows: Prepared, calibration: CalibrationName = "prior") -> None:
        """Divides each label's probability by its mean over the training texts, their labels not looked at.

        A decoupled loss learns probabilities as they are, so none is taken out.

        Args:
            rows: the training texts; for other calibrations, unlabelled texts or texts without content.
            calibration: how the preference is measured, see `ptune.readout.calibrate`.
        """
        if self.verbalizer is not None and calibration != "none" and self.label_loss != "decoupled":
            rule = _RULES[calibration]
            self.prior.zero_()  # measured on the model's own scores, also the second time
            each = torch.stack([rule(scores) for scores in self.candidate_scores(rows)])
            self.prior.copy_(each.view(self.prior.shape))

    def zero_shot(self, train_rows: Sequence[Example], judged: Sequence[Example]) -> dict[str, TaskReport]:
        """Figures of the hard template alone, as it is and with the prior of the (unlabelled) training texts taken out."""
        if self.verbalizer is None:
            return {}
        hard = self.without_prompt()
        scores = hard.scores(hard.prepare(judged))
        prior = log_prior(hard.scores(hard.prepare(train_rows)))
        return {
            "zero_shot": judge_scores(self, judged, scores),
            "prior_corrected": judge_scores(self, judged, scores - prior),
        }


_RULES: dict[CalibrationName, Callable[[Tensor], Tensor]] = {
    "prior": log_prior,
    "batch": batch_prior,
    "contextual": contextual_prior,
    "domain": domain_prior,
}


def check_judged(examples: Sequence[Example], labels: LabelSet) -> None:
    """Checks that each example carries one of the task's labels.

    Raises:
        DataError: at the first that does not.
    """
    check_labels(examples, labels, every_class=False)
    bare = next((example for example in examples if example.label is None), None)
    if bare is not None:
        raise DataError("the row has no label, so it cannot be judged", where=bare.where, fix="fill it in or leave the row out")


def judge_scores(model: PromptModel, examples: Sequence[Example], scores: Tensor) -> Report:
    """A report from label scores and the examples' true labels."""
    true = [model.labels.index(example.label or "") for example in examples]
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(true)).item()
    return report(true, scores.argmax(1).tolist(), model.labels.names, loss=loss)
