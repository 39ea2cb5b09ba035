"""`linear-probe`: logistic regression (scikit-learn) on the frozen model's hidden states.

An encoder's states are averaged over the text, a causal model's last state is taken; each text is read once. What is chosen on
validation is the inverse regularisation. Source: Alain & Bengio 2017; sentence encoders as in SetFit's own baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptune.compare.baselines.optional import need, package_version
from ptune.compare.baselines.plain import by_length, padded, text_ids
from ptune.compare.contender import ON_TORCH, Contender, Fitted, Needs, Paradigm, Probabilities, Registry, Setup
from ptune.data import Example

__all__ = ["LinearProbe", "embeddings"]


@torch.no_grad()
def embeddings(setup: Setup, rows: Sequence[Example]) -> NDArray[np.float32]:
    """[R, D] hidden states of texts: the mean over an encoder's tokens, a causal model's last one."""
    backbone = setup.model()
    trunk = backbone.model.get_encoder() if backbone.kind == "encoder-decoder" else backbone.model.base_model
    ids = text_ids(setup, rows)
    found = np.zeros((len(rows), backbone.spec.width), dtype=np.float32)
    for numbers in by_length([len(row) for row in ids]):
        batch = padded([ids[row] for row in numbers], backbone.tokens.pad_id)
        states = trunk(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state.float()
        if backbone.kind == "decoder":
            pooled = states[torch.arange(len(numbers)), batch.mask.sum(1) - 1]
        else:
            weight = batch.mask[..., None].float()
            pooled = (states * weight).sum(1) / weight.sum(1)
        found[numbers] = pooled.numpy()
    return found


@dataclass(kw_only=True)
class _Probe(Fitted):
    setup: Setup
    classifier: Any

    def predict(self, rows: Sequence[Example]) -> Probabilities:
        whole = np.zeros((len(rows), len(self.setup.labels)))
        if rows:
            whole[:, self.classifier[-1].classes_] = self.classifier.predict_proba(embeddings(self.setup, rows))
        return whole


class LinearProbe(Contender):
    """See the module's docstring."""

    name = "linear-probe"
    title = "logistic regression on hidden states"
    paradigm: Paradigm = "fine-tuning"
    needs: Needs = "backbone"
    packages = (
        ("scikit-learn", "sklearn.linear_model"),
        ("scikit-learn", "sklearn.preprocessing"),
        ("scikit-learn", "sklearn.pipeline"),
        *ON_TORCH,
    )

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Values of the inverse regularisation."""
        return [{"C": value} for value in (1.0, 0.1, 10.0, 0.01, 100.0)[:count]]

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Reads the texts and fits."""
        linear, scaling = need("sklearn.linear_model", "scikit-learn"), need("sklearn.preprocessing", "scikit-learn")
        pipeline = need("sklearn.pipeline", "scikit-learn")
        classifier = pipeline.make_pipeline(scaling.StandardScaler(), linear.LogisticRegression(max_iter=2000, **settings))
        classifier.fit(embeddings(setup, train), setup.classes(train))
        size = classifier[-1].coef_.size + classifier[-1].intercept_.size
        facts = {"package": package_version("scikit-learn")}
        num_bytes = 8 * (size + 2 * setup.model().spec.width)
        return _Probe(num_trained=size, num_bytes=num_bytes, facts=facts, setup=setup, classifier=classifier)


Registry.add(LinearProbe())
