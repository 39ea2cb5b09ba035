"""Classification as entailment: one yes/no question for all labels, "does this text say that?", asked with each label's words.

In: rows with one label. Out: log-odds of yes over no [B, C], the label with the highest, probabilities that are their softmax.
A label's text stands in the template's `{choice}`; words (`yes_no: [Yes, No]`) or a head's one output judge it. What learns is
the question, so that labels help each other. In training a row is asked with its own label and `negatives` others, drawn anew
in each pass; the loss is binary cross-entropy over these pairs. To predict, all labels are asked.
Source: Wang et al. 2021 (EFL), section 3. Deviations: the model is frozen and a prompt learns; it is not trained on MNLI first.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch

from ptune.backbone import Backbone
from ptune.data import Example, LabelSet, check_labels
from ptune.errors import RecipeError
from ptune.inputs import Context, StoredContext
from ptune.model.multi_label_model import MultiLabelModel, PreparedSets
from ptune.model.outcome import Look, Prepared
from ptune.model.prompt_model import Prediction, check_judged
from ptune.model.read_model import JudgedBatch
from ptune.model.task_model import TaskKind
from ptune.objective import Report, report
from ptune.template import Template

__all__ = ["EntailmentModel"]

E = TypeVar("E", bound="EntailmentModel")


class EntailmentModel(MultiLabelModel):
    """See the module's docstring.

    Args:
        backbone: the frozen model.
        template: with `{choice}`, and the method's learned tokens already in it.
        negatives: wrong labels that a row is asked with in each training step; None for all.
        **words: see `MultiLabelModel`.
    """

    kind: ClassVar[TaskKind] = "entailment"
    metric: ClassVar[str] = "accuracy"
    keys: ClassVar[tuple[str, ...]] = ("labels", "label_texts", "pool", "yes_no", "fill", "negatives")
    target_keys: ClassVar[tuple[str, ...]] = ()
    reads_label: ClassVar[bool] = True

    def __init__(self, backbone: Backbone, template: Template, *, negatives: int | None = None, **words: Any) -> None:
        if not template.has_choice:
            raise RecipeError(
                "the template does not say where a label is asked for",
                where="template",
                fix='write {choice}, as in "{text}{soft:4} Is this about {choice}?{mask}"',
            )
        if len(words["labels"]) < 2:
            raise RecipeError("fewer than two labels are given", where="labels", fix="write labels: [sports, politics]")
        super().__init__(backbone, template, **words)
        self.negatives = negatives

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Known labels only; labels that no training row has are allowed, since the question is the same for all.

        Raises:
            DataError: at the first row with an unknown label.
        """
        check_labels(rows, LabelSet(labels), every_class=False)

    # -- rows to batches ---------------------------------------------------------------------------------------------

    def sets_of(self, examples: Sequence[Example]) -> tuple[tuple[bool, ...], ...]:
        """For each row, which label is its own; empty where a row has none of the task's."""
        if any(example.label not in self.names for example in examples):
            return ()
        return tuple(tuple(name == example.label for name in self.names) for example in examples)

    def lay_out(
        self,
        prepared: Prepared,
        index: Sequence[int],
        *,
        contexts: Sequence[Context | StoredContext] = (),
        skip: Sequence[int] | None = None,
    ) -> JudgedBatch:
        """As in `MultiLabelModel`; where gradients are wanted, each row with some of its wrong labels."""
        assert isinstance(prepared, PreparedSets)
        if torch.is_grad_enabled() and prepared.sets and self.negatives is not None:
            prepared = self._with_few(prepared, index, self.negatives)
        return super().lay_out(prepared, index, contexts=contexts, skip=skip)

    def _with_few(self, prepared: PreparedSets, index: Sequence[int], negatives: int) -> PreparedSets:
        """These rows with their own label and some others, drawn from torch's generator, which the loop seeds by the step."""
        drawn = random.Random(int(torch.randint(2**31, ())))
        rows, sets, counts = list(prepared.rows), list(prepared.sets), list(prepared.counts)
        for number in index:
            wrong = [at for at, is_own in enumerate(sets[number]) if not is_own]
            asked = set(drawn.sample(wrong, min(negatives, len(wrong))))
            kept = [at for at, is_own in enumerate(sets[number]) if is_own or at in asked]
            rows[number] = tuple(rows[number][at] for at in kept)
            sets[number] = tuple(sets[number][at] for at in kept)
            counts[number] = len(kept)
        return replace(prepared, rows=tuple(rows), sets=tuple(sets), counts=tuple(counts))

    # -- batches to scores -------------------------------------------------------------------------------------------

    def looks(self, prepared: Prepared) -> list[Look]:
        """Accuracy, and mean binary cross-entropy over all labels."""
        assert isinstance(prepared, PreparedSets)
        scores, targets = self.scores(prepared), torch.tensor(prepared.sets)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, targets.float()).item()
        accuracy = (scores.argmax(1) == targets.long().argmax(1)).float().mean().item()
        return [Look(accuracy, loss)]

    def settle(self, rows: Prepared, validation: Prepared | None) -> None:
        """Nothing is chosen: the highest log-odds win."""

    def predict(self, examples: Sequence[Example], *, batch_size: int | None = None) -> list[Prediction]:  # type: ignore[override]
        """The most probable label of each row, with the probabilities of all."""
        if not examples:
            return []
        scores = self.scores(self.prepare(examples), batch_size=batch_size)
        return [
            Prediction(self.names[int(row.argmax())], dict(zip(self.names, torch.softmax(row, 0).tolist(), strict=True)))
            for row in scores
        ]

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> Report:  # type: ignore[override]
        """Accuracy, F1 and confusion.

        Raises:
            DataError: an example without a label, or with one that the task does not have.
        """
        check_judged(examples, LabelSet(self.names))
        scores = self.scores(self.prepare(examples), batch_size=batch_size)
        true = [self.names.index(example.label or "") for example in examples]
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(true)).item()
        return report(true, scores.argmax(1).tolist(), self.names, loss=loss)

    def facts(self) -> dict[str, Any]:
        """How many wrong labels a row was asked with."""
        return {"negatives": len(self.names) - 1 if self.negatives is None else min(self.negatives, len(self.names) - 1)}

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Labels and their texts, and how they are judged."""
        return {"labels": list(self.names), "texts": list(self.texts), **self.read_settings()}

    @classmethod
    def restore(cls: type[E], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> E:
        """A trained model from a card's `settings`."""
        own = {name: settings[name] for name in ("labels", "texts")}
        return cls(backbone, template, **own, **cls.kept_readout(settings), **common)
