"""`setfit`: the package SetFit on the backbone as a sentence encoder, with its own defaults.

Pairs of texts of the same and of different labels train the encoder, then a logistic regression learns from its embeddings. One
epoch over the oversampled pairs, batches of 16, mean pooling; what is chosen on validation is the encoder's learning rate. It
reads as many tokens of a text as the classifiers do. The tuned encoder belongs to the task, so a whole copy of the model has to
be stored. Source: Tunstall et al. 2022.
"""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptune.compare.baselines.optional import need, package_version
from ptune.compare.baselines.plain import plain_config, text_length
from ptune.compare.contender import ON_TORCH, Contender, Fitted, Needs, Paradigm, Probabilities, Registry, Setup, rates
from ptune.data import Example

__all__ = ["SetFit"]

_MAX_STEPS = 500


@dataclass(kw_only=True)
class _SetFitted(Fitted):
    setup: Setup
    model: Any

    def predict(self, rows: Sequence[Example]) -> Probabilities:
        whole = np.zeros((len(rows), len(self.setup.labels)))
        if rows:
            with _quiet():
                found = self.model.predict_proba(self.setup.texts(rows), as_numpy=True, show_progress_bar=False)
            whole[:, self.model.model_head.classes_] = np.asarray(found, dtype=np.float64)
        return whole


class SetFit(Contender):
    """See the module's docstring."""

    name = "setfit"
    title = "SetFit"
    paradigm: Paradigm = "fine-tuning"
    needs: Needs = "backbone"
    version = 2  # the recipe's max_length is read
    packages = (
        ("setfit", "setfit"),
        ("sentence-transformers", "sentence_transformers"),
        ("scikit-learn", "sklearn.linear_model"),
        ("datasets", "datasets"),
        *ON_TORCH,
    )
    copies_model = True
    load_per_step = 12.0  # two texts a pair, 16 pairs a step in place of 8 texts

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Learning rates of the encoder."""
        return rates(2e-5, count)

    def refusal(self, setup: Setup) -> str:
        """It is for sentence encoders."""
        model = setup.model()
        if model.kind == "encoder":
            return ""
        named = f"{model.spec.name} is no encoder ({model.kind})"
        return f"SetFit tunes a sentence encoder, and {named}; add one to compare.backbones, minilm-l6 say"

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Trains the encoder on pairs, then the classifier."""
        setfit, datasets = need("setfit"), need("datasets")
        encoder = _sentence_encoder(setup)
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch, _quiet():
            torch.manual_seed(seed)
            head = need("sklearn.linear_model", "scikit-learn").LogisticRegression(max_iter=1000)
            model = setfit.SetFitModel(model_body=encoder, model_head=head)
            rows = datasets.Dataset.from_dict({"text": setup.texts(train), "label": setup.classes(train).tolist()})
            arguments = setfit.TrainingArguments(
                output_dir=scratch,
                body_learning_rate=settings["learning_rate"],
                max_steps=_MAX_STEPS if _num_pairs(setup.classes(train)) > 16 * _MAX_STEPS else -1,
                num_epochs=1,
                seed=seed,
                report_to="none",
                show_progress_bar=False,
                save_strategy="no",
                logging_strategy="no",
            )
            trainer = setfit.Trainer(model=model, args=arguments, train_dataset=rows)
            trainer.train()
        total = sum(parameter.numel() for parameter in encoder.parameters())
        facts = {"package": package_version("setfit")}
        return _SetFitted(
            num_trained=total + head.coef_.size,
            num_bytes=4 * total + 8 * head.coef_.size,
            facts=facts,
            setup=setup,
            model=model,
        )


def _num_pairs(classes: NDArray[np.int64]) -> int:
    """Pairs of an epoch: those of equal and of different labels, the fewer kind repeated."""
    counts, total = np.bincount(classes), len(classes)
    same = int((counts * (counts + 1) // 2).sum())
    return 2 * max(same, total * (total + 1) // 2 - same)


def _sentence_encoder(setup: Setup) -> Any:
    """The backbone's weights as sentence-transformers reads them: from a folder, with mean pooling."""
    library = need("sentence_transformers", "sentence-transformers")
    backbone = setup.model()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder)
        base = type(backbone.model.base_model)(plain_config(backbone))
        base.load_state_dict(backbone.model.base_model.state_dict(), strict=False)  # a pooler may be missing; none is read
        base.save_pretrained(path)
        backbone.tokens.tokenizer.save_pretrained(path)
        encoder = library.SentenceTransformer(folder, device=str(backbone.device))  # a bare model gets mean pooling
    encoder.max_seq_length = text_length(setup)
    return encoder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """SetFit logs and draws bars; a comparison of hundreds of cells should not."""
    from transformers.utils import logging as transformers_logging

    before, bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if bars:
            transformers_logging.enable_progress_bar()


Registry.add(SetFit())
