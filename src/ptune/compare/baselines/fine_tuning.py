"""`head-fine-tuning` and `fine-tuning`: transformers' classifier on the model, its head alone or all weights.

The usual recipe: classifier of transformers, dropout as the model has it, AdamW with warm-up, dynamic padding. What is chosen
on validation is the learning rate; steps and batches are those of all contenders. The model's own weights are copied, so that
other contenders find it as it was; a fully tuned task needs a whole copy of the model on disk. Source: Devlin et al. 2019;
learning rates of its appendix A.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptune.compare.baselines.loop import train_network
from ptune.compare.baselines.plain import by_length, padded, plain_classifier, text_ids
from ptune.compare.contender import ON_TORCH, Contender, Fitted, Needs, Paradigm, Probabilities, Registry, Setup, rates
from ptune.data import Example

__all__ = ["FineTuning", "TunedClassifier", "train_classifier"]


@dataclass(kw_only=True)
class TunedClassifier(Fitted):
    """A classifier of transformers, perhaps inside PEFT's wrapper.

    Args:
        setup: what all contenders are given.
        model: the classifier.
    """

    setup: Setup
    model: Any

    def logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[B, C] of token rows."""
        batch = padded(rows, self.setup.model().tokens.pad_id)
        scores: Tensor = self.model(input_ids=batch.ids, attention_mask=batch.mask).logits
        return scores

    @torch.no_grad()
    def predict(self, rows: Sequence[Example]) -> Probabilities:
        """In batches of like lengths."""
        self.model.eval()
        ids = text_ids(self.setup, rows)
        found = torch.zeros(len(rows), len(self.setup.labels), dtype=torch.double)
        for batch in by_length([len(row) for row in ids]):
            found[batch] = torch.softmax(self.logits([ids[row] for row in batch]).double(), 1)
        probabilities: Probabilities = found.numpy()
        return probabilities


class FineTuning(Contender):
    """Fine-tuning of a classifier.

    Args:
        name, title: of the row.
        all_weights: whether the model learns too, or the head alone.
        rate: default learning rate.
    """

    paradigm: Paradigm = "fine-tuning"
    needs: Needs = "backbone"
    packages = ON_TORCH
    copies_model = True

    def __init__(self, name: str, title: str, *, all_weights: bool, rate: float) -> None:
        self.name, self.title, self._all_weights, self._rate = name, title, all_weights, rate
        self.load_per_step = 3.0 if all_weights else 1.5

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Learning rates."""
        return rates(self._rate, count)

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Trains a copy."""
        model = plain_classifier(setup.model(), len(setup.labels), seed)
        if not self._all_weights:
            getattr(model, model.base_model_prefix).requires_grad_(False)
            pooler = getattr(getattr(model, model.base_model_prefix), "pooler", None)
            if pooler is not None:
                pooler.requires_grad_(True)
        fitted = TunedClassifier(setup=setup, model=model)
        train_classifier(fitted, train, validation, seed=seed, rate=settings["learning_rate"])
        total = sum(parameter.numel() for parameter in model.parameters())
        fitted.num_bytes = 4 * (total if self._all_weights else fitted.num_trained)
        return fitted


def train_classifier(
    fitted: TunedClassifier, train: Sequence[Example], validation: Sequence[Example], *, seed: int, rate: float
) -> None:
    """Trains what may learn in a classifier, and fills in the looks and the number of parameters."""
    setup, model = fitted.setup, fitted.model
    ids, classes = text_ids(setup, train), torch.from_numpy(setup.classes(train))
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def loss_of(rows: Sequence[int]) -> Tensor:
        model.train()
        return nn.functional.cross_entropy(fitted.logits([ids[row] for row in rows]), classes[list(rows)])

    fitted.num_trained = sum(parameter.numel() for parameter in learned)
    fitted.curve = train_network(
        [{"params": learned, "lr": rate}],
        loss_of,
        lambda: fitted.predict(validation),
        setup.classes(validation),
        num_rows=len(train),
        num_steps=setup.steps(len(train)),
        batch_size=setup.batch_size,
        seed=seed,
        weight_decay=0.01,
    )
    model.eval()


Registry.add(FineTuning("head-fine-tuning", "fine-tuning of the head", all_weights=False, rate=3e-3))
Registry.add(FineTuning("fine-tuning", "fine-tuning of all weights", all_weights=True, rate=5e-5))
