"""`PromptClassifier` among scikit-learn's tools: clone, pickle, pipeline, grid search, and scikit-learn's own checks."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import ptune
from ptune.backbone import Backbone
from ptune.sklearn import PromptClassifier
from tiny import build_backbone

TEMPLATE = "{text}{soft:2} It was{mask}"

# scikit-learn's own estimator checks hand over numeric matrices, or test how such are validated. A text classifier can run only
# those that need no data; they are named in the last test.


@pytest.fixture
def texts(rows: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    return [row["text"] for row in rows], [row["label"] for row in rows]


@pytest.fixture
def classifier(gpt2_folder: Path) -> PromptClassifier:
    return PromptClassifier(backbone=str(gpt2_folder), template=TEMPLATE, steps=4, batch_size=4)


def test_parameters_and_clones(classifier: PromptClassifier) -> None:
    twin = clone(classifier)
    assert twin.get_params() == classifier.get_params() and twin is not classifier
    assert twin.set_params(steps=7).steps == 7 and classifier.steps == 4
    assert vars(PromptClassifier()).keys() == set(PromptClassifier().get_params()), "__init__ only stores what it is given"
    with pytest.raises(NotFittedError, match="not fitted"):
        classifier.predict(["a text"])


def test_fit_predict_and_classes(classifier: PromptClassifier, texts: tuple[list[str], list[str]]) -> None:
    assert classifier.fit(*texts) is classifier
    assert classifier.classes_.tolist() == ["bad", "good"]
    probabilities = classifier.predict_proba(texts[0])
    assert probabilities.shape == (12, 2) and np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (classifier.predict(texts[0]) == classifier.classes_[probabilities.argmax(1)]).all()
    assert 0 <= classifier.score(*texts) <= 1


@pytest.mark.parametrize(("good", "bad"), [(1, 0), (True, False), (np.int64(7), np.int64(3))])
def test_labels_keep_their_type(
    classifier: PromptClassifier, texts: tuple[list[str], list[str]], good: object, bad: object
) -> None:
    targets = [good if label == "good" else bad for label in texts[1]]
    classifier.set_params(labels={good: ["good"], bad: ["bad"]}).fit(texts[0], targets)
    assert set(classifier.predict(texts[0]).tolist()) <= {good, bad}
    assert classifier.classes_.dtype == np.asarray(targets).dtype


def test_pickling_keeps_the_predictions(classifier: PromptClassifier, texts: tuple[list[str], list[str]]) -> None:
    classifier.fit(*texts)
    packed = pickle.dumps(classifier)
    assert len(packed) < 20_000, "the model itself must not be pickled"
    assert np.array_equal(pickle.loads(packed).predict_proba(texts[0]), classifier.predict_proba(texts[0]))


def test_pickling_with_a_loaded_backbone(gpt2_folder: Path, texts: tuple[list[str], list[str]]) -> None:
    backbone = ptune.load_backbone(str(gpt2_folder))
    classifier = PromptClassifier(backbone=backbone, template=TEMPLATE, steps=2).fit(*texts)
    assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict(texts[0]), classifier.predict(texts[0]))
    assert clone(classifier).backbone is backbone, "a clone shares the loaded backbone"


def test_a_backbone_that_is_handed_in_is_the_one_that_is_used(texts: tuple[list[str], list[str]]) -> None:
    for _ in range(2):  # two models of one name
        backbone = build_backbone("gpt2")
        classifier = PromptClassifier(backbone=backbone, template=TEMPLATE, steps=1).fit(*texts)
        assert classifier.task_.model.backbone is backbone


def test_a_template_of_the_library(classifier: PromptClassifier, texts: tuple[list[str], list[str]]) -> None:
    classifier.set_params(template="library:en/sentiment/it-was-open", method="hard").fit(*texts)
    assert len(classifier.predict(texts[0])) == 12


def test_folds_share_one_loaded_backbone(
    classifier: PromptClassifier, texts: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_loads = 0
    real = ptune.sklearn.load_backbone  # type: ignore[attr-defined]

    def counting(name: str) -> Backbone:
        nonlocal num_loads
        num_loads += 1
        return real(name)

    monkeypatch.setattr("ptune.sklearn.load_backbone", counting)
    monkeypatch.setattr(PromptClassifier, "_loaded", {})
    search = GridSearchCV(classifier, {"learning_rate": [1e-3, 1e-2]}, cv=2).fit(*texts)
    assert search.best_params_["learning_rate"] in (1e-3, 1e-2) and num_loads == 1


def test_inside_a_pipeline(classifier: PromptClassifier, texts: tuple[list[str], list[str]]) -> None:
    lower = FunctionTransformer(lambda values: [value.lower() for value in values])
    pipeline = Pipeline([("lower", lower), ("prompt", classifier)])
    assert len(cross_val_score(pipeline, *texts, cv=2)) == 2
    assert len(pipeline.fit(*texts).predict(["A GREAT DAY"])) == 1


def test_a_linear_head_and_an_error_that_reads_well(classifier: PromptClassifier, texts: tuple[list[str], list[str]]) -> None:
    classifier.set_params(head="linear", template="{text}{soft:2}").fit(*texts)
    assert set(classifier.predict(texts[0])) <= {"good", "bad"}
    with pytest.raises(ptune.PtuneError, match="12 texts and 3 labels"):
        classifier.fit(texts[0], [1, 0, 1])
    with pytest.raises(ptune.PtuneError, match="is no text"):
        classifier.fit([1, 2], ["a", "b"])
    with pytest.raises(ptune.PtuneError, match="one string, not a list"):
        classifier.predict("good")


def test_checks_of_scikit_learn_that_need_no_data(classifier: PromptClassifier) -> None:
    from sklearn.utils import estimator_checks

    for check in (
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
    ):
        check("PromptClassifier", classifier)
