"""`tfidf-naive-bayes`, `tfidf-svm`, `tfidf-logistic`: counted words and a classical classifier, through scikit-learn.

Words and pairs of words; in Chinese, characters and pairs of them. What is chosen on validation is the smoothing of Naive Bayes
and the inverse regularisation of the others. A support vector machine has no probabilities: softmax of its margins stands in,
so its calibration error says little. Source: Jones 1972; Wang & Manning 2012 (Baselines and Bigrams).
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptune.compare.baselines.optional import need, package_version
from ptune.compare.contender import Contender, Fitted, Paradigm, Probabilities, Registry, Setup
from ptune.data import Example

__all__ = ["TfIdf"]


@dataclass(kw_only=True)
class _Pipeline(Fitted):
    setup: Setup
    vectoriser: Any
    classifier: Any

    def predict(self, rows: Sequence[Example]) -> Probabilities:
        if not rows:
            return np.zeros((0, len(self.setup.labels)))
        counted = self.vectoriser.transform(self.setup.texts(rows))
        if hasattr(self.classifier, "predict_proba"):
            found = self.classifier.predict_proba(counted)
        else:
            found = _softmax(self.classifier.decision_function(counted))
        whole = np.zeros((len(rows), len(self.setup.labels)))
        whole[:, self.classifier.classes_] = found
        return whole


class TfIdf(Contender):
    """Counted words and one classifier.

    Args:
        name, title: of the row.
        classifier: module and class in scikit-learn.
        key: the argument that trials vary.
        values: of it, the default first.
        fixed: other arguments.
    """

    paradigm: Paradigm = "counting"

    def __init__(self, name: str, title: str, classifier: str, key: str, values: Sequence[float], **fixed: Any) -> None:
        self.name, self.title = name, title
        self.packages = tuple(
            ("scikit-learn", module) for module in ("sklearn.feature_extraction.text", classifier.rpartition(".")[0])
        )
        self._classifier, self._key, self._values, self._fixed = classifier, key, values, fixed

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Values of the one argument."""
        return [{self._key: value} for value in self._values[:count]]

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Counts and fits."""
        text = need("sklearn.feature_extraction.text", "scikit-learn")
        module, _, kind = self._classifier.rpartition(".")
        build = getattr(need(module, "scikit-learn"), kind)
        cut = {"analyzer": "char"} if setup.language == "zh" else {"token_pattern": r"(?u)\b\w+\b"}
        vectoriser = text.TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), **cut)
        seeded = {} if self._key == "alpha" else {"random_state": seed}
        classifier = build(**self._fixed, **settings, **seeded)
        classifier.fit(vectoriser.fit_transform(setup.texts(train)), setup.classes(train))
        weights = getattr(classifier, "coef_", getattr(classifier, "feature_log_prob_", np.zeros(0)))
        size = len(pickle.dumps((vectoriser, classifier)))  # measured, never loaded
        return _Pipeline(
            num_trained=int(weights.size),
            num_bytes=size,
            facts={"package": package_version("scikit-learn")},
            setup=setup,
            vectoriser=vectoriser,
            classifier=classifier,
        )


def _softmax(margins: Probabilities) -> Probabilities:
    """[R, C] from margins [R, C], or [R] of two classes."""
    both = np.stack([-margins, margins], 1) if margins.ndim == 1 else margins
    raised = np.exp(both - both.max(1, keepdims=True))
    shares: Probabilities = raised / raised.sum(1, keepdims=True)
    return shares


Registry.add(
    TfIdf(
        "tfidf-naive-bayes", "TF-IDF + naive Bayes", "sklearn.naive_bayes.MultinomialNB", "alpha", (0.1, 1.0, 0.01, 0.3, 0.03)
    )
)
Registry.add(TfIdf("tfidf-svm", "TF-IDF + linear SVM", "sklearn.svm.LinearSVC", "C", (1.0, 10.0, 0.1, 3.0, 0.3), dual=True))
Registry.add(
    TfIdf(
        "tfidf-logistic",
        "TF-IDF + logistic regression",
        "sklearn.linear_model.LogisticRegression",
        "C",
        (10.0, 1.0, 100.0, 3.0, 30.0),
        max_iter=1000,
    )
)
