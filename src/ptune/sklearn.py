"""`PromptClassifier`: a prompted task as a scikit-learn estimator.

In: texts (or rows of fields) and labels. Out: an estimator that clones, pickles and goes into `Pipeline` and `GridSearchCV`.
The backbone is a name or a loaded `Backbone`; clones share one loaded backbone per name, so that folds do not load it again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ptune.backbone import Backbone, load_backbone
from ptune.bundle import Bundle, model_of
from ptune.data import label_text
from ptune.errors import DataError
from ptune.readout import needs_words
from ptune.recipe import fit
from ptune.task import Task
from ptune.template import resolve

__all__ = ["PromptClassifier"]


class PromptClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A text classifier that learns a prompt on a frozen model.

    Args:
        backbone: catalogue name, folder, or a loaded `Backbone`.
        template: as in a recipe.
        labels: label words for each class, or None with `head="linear"`.
        method: prompt method, by name or with its settings.
        head: `linear` for a linear head instead of label words.
        steps: optimiser steps, None for the default.
        batch_size, learning_rate, max_length, seed: as in a recipe.
        settings: any other keys of a recipe.

    Attributes:
        classes_: labels in sorted order, the order of `predict_proba`'s columns.
        task_: the trained `Task`.
    """

    _loaded: ClassVar[dict[str, Backbone]] = {}

    def __init__(
        self,
        backbone: str | Backbone = "smollm2-135m-q4",
        template: str = "{text}{soft:8} It was{mask}",
        labels: Mapping[Any, Sequence[str]] | None = None,
        method: str | Mapping[str, Any] = "p-tuning",
        head: str | None = None,
        steps: int | None = None,
        batch_size: int = 8,
        learning_rate: float | None = None,
        max_length: int | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.template = template
        self.labels = labels
        self.method = method
        self.head = head
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.seed = seed
        self.settings = settings

    def fit(self, X: Any, y: ArrayLike) -> "PromptClassifier":
        """Learns from texts and labels.

        Args:
            X: texts, or rows (mappings) with the template's fields.
            y: a label for each.

        Raises:
            DataError: X and y differ in length, or are empty.
            PtuneError: see `ptune.fit`.
        """
        targets = np.asarray(y)
        rows = self._rows(X)
        if len(rows) != len(targets) or not rows:
            raise DataError(f"{len(rows)} texts and {len(targets)} labels", where="fit", fix="give one label for each text")
        self.classes_ = np.unique(targets)
        name_of = {label_text(value): value for value in self.classes_.tolist()}
        words = self.labels if self.labels is not None else {}
        given = {label_text(label): value for label, value in words.items()}
        labels: Any = list(name_of) if not needs_words(self.head) else {name: given.get(name, [name]) for name in name_of}
        train = [{**row, "label": label_text(target)} for row, target in zip(rows, targets.tolist(), strict=True)]
        optional: dict[str, Any] = {
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "max_length": self.max_length,
            "head": self.head,
        }
        self.task_: Task = fit(
            train=train,
            template=self.template,
            labels=labels,
            method=self.method,
            backbone=self._backbone(),
            batch_size=self.batch_size,
            seed=self.seed,
            **{key: value for key, value in optional.items() if value is not None},
            **dict(self.settings or {}),
        )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities [rows, classes] in the order of `classes_`."""
        check_is_fitted(self)
        rows = self._rows(X)
        order = [label_text(value) for value in self.classes_.tolist()]
        return np.array([[p.probabilities[name] for name in order] for p in self.task_.predict(rows)]).reshape(-1, len(order))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each text, of the same type as in `fit`."""
        check_is_fitted(self)
        chosen = self.predict_proba(X).argmax(1)
        predicted: NDArray[Any] = self.classes_[chosen]
        return predicted

    def _rows(self, X: Any) -> list[dict[str, Any]]:
        """Texts as rows of the template's one field; rows stay rows, a column of texts is unpacked."""
        if isinstance(X, str | Mapping):
            what = "one string" if isinstance(X, str) else "one row"
            raise DataError(f"X is {what}, not a list of texts", where="X", fix="give a list")
        values = list(X.to_dict("records")) if hasattr(X, "to_dict") and hasattr(X, "columns") else list(X)
        names = resolve(self.template).field_names
        rows = []
        for value in values:
            if isinstance(value, Mapping):
                rows.append(dict(value))
                continue
            cell = value[0] if isinstance(value, list | tuple | np.ndarray) and len(value) == 1 else value
            if not isinstance(cell, str) or len(names) != 1:
                needed = ", ".join(names)
                raise DataError(f"{cell!r} is no text for the template's fields {needed}", where="X", fix="give texts, or rows")
            rows.append({names[0]: str(cell)})
        return rows

    def _backbone(self) -> Backbone:
        if isinstance(self.backbone, Backbone):
            self._loaded[self.backbone.spec.name] = self.backbone  # for pickles, which hold the name
            return self.backbone
        if self.backbone not in self._loaded:
            self._loaded[self.backbone] = load_backbone(self.backbone)
        return self._loaded[self.backbone]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def __sklearn_clone__(self) -> "PromptClassifier":
        """A fresh estimator with the same settings; a loaded backbone is shared, never copied."""
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> dict[str, Any]:
        """The bundle and the backbone's name in place of the model itself."""
        state = dict(super().__getstate__())
        task = state.pop("task_", None)
        if task is not None:
            bundle = task.bundle()
            state["_bundle"] = (dict(bundle.card), dict(bundle.tensors), dict(bundle.tuned))
            state["backbone"] = bundle.card["backbone"]["name"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("_bundle", None)
        super().__setstate__(state)
        if kept is not None:
            bundle = Bundle(*kept)
            self.task_ = Task(model_of(bundle, self._backbone()), {})
