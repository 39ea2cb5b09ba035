"""A trained task in memory: predict, evaluate, save, load.

In: texts or rows. Out: `Prediction`s and `Report`s. A task is a `PromptModel` with the facts that its bundle keeps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ptune.backbone import Backbone, BackboneLike, DType, load_backbone
from ptune.bundle import Bundle, bundle_of, model_of, read_bundle
from ptune.data import Example, LabelSet, check_labels, read_examples
from ptune.errors import DataError
from ptune.model import PromptModel
from ptune.objective import Report, report

__all__ = ["Prediction", "Task", "check_judged", "judge_scores", "load", "task_of"]

_ROWS_PER_CHUNK = 512
Rows = Sequence[str | Mapping[str, Any]]


@dataclass(frozen=True)
class Prediction:
    """What the task says about one text.

    Args:
        label: the most probable label.
        probabilities: of every label.
    """

    label: str
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"label": self.label, "probabilities": self.probabilities}


@dataclass
class Task:
    """A task that is ready to use.

    Args:
        model: prompt, backbone and readout.
        facts: what the bundle's card keeps about the run (figures, data fingerprint, seed).
    """

    model: PromptModel
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of scores."""
        return self.model.labels.names

    def predict(self, texts: Rows, *, batch_size: int | None = None) -> list[Prediction]:
        """Labels texts.

        Args:
            texts: strings (for a template with one field) or rows with the template's fields.
            batch_size: rows per forward pass; None takes as many short texts or few long ones as are computed fast.

        Raises:
            DataError: a single text or row, or rows without a field that the template needs.
        """
        return list(self.stream(texts, batch_size=batch_size))

    def stream(self, texts: Iterable[str | Mapping[str, Any]], *, batch_size: int | None = None) -> Iterator[Prediction]:
        """Labels texts of any number, a chunk at a time; the rest is as in `predict`."""
        if isinstance(texts, str | Mapping):
            what = "one string" if isinstance(texts, str) else "one row"
            raise DataError(f"predict takes a list of texts, not {what}", fix="write task.predict([text])")
        chunk: list[str | Mapping[str, Any]] = []
        for text in texts:
            chunk.append(text)
            if len(chunk) == _ROWS_PER_CHUNK:
                yield from self._predictions(self.examples(chunk), batch_size)
                chunk = []
        if chunk:
            yield from self._predictions(self.examples(chunk), batch_size)

    def evaluate(
        self,
        source: str | Path | Sequence[Any],
        *,
        label: str = "label",
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        split: str | None = None,
        batch_size: int | None = None,
    ) -> Report:
        """Judges the task on labelled rows.

        Args:
            source: file, folder, hub id, or rows in memory.
            label, columns, encoding, split: as in a recipe.
            batch_size: rows per forward pass; None takes as many short texts or few long ones as are computed fast.

        Raises:
            DataError: a missing field, an unknown or missing label.
        """
        fields = self.model.template.field_names
        examples = read_examples(
            source, fields=fields, label=label, columns=columns, encoding=encoding, split=split, require_label=True
        )
        return self.judge(examples, batch_size=batch_size)

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None) -> Report:
        """Judges the task on examples that have been read already.

        Raises:
            DataError: no examples, or one without a label or with one that the task does not have.
        """
        if not examples:
            raise DataError("there are no rows to judge", fix="pass at least one")
        check_judged(examples, self.model.labels)
        return judge_scores(self.model, examples, self.scores(examples, batch_size=batch_size))

    def scores(self, examples: Sequence[Example], *, batch_size: int | None = None) -> torch.Tensor:
        """Label scores [B, C] of examples, in their order."""
        return self.model.scores(self.model.prepare(examples), batch_size=batch_size)

    def examples(self, texts: Sequence[str | Mapping[str, Any]]) -> tuple[Example, ...]:
        """Texts or rows as unlabelled examples with the template's fields.

        Raises:
            DataError: a plain text for a template with several fields, or a row without one of them.
        """
        names = self.model.template.field_names
        rows: list[Mapping[str, Any]] = []
        for number, text in enumerate(texts, 1):
            if isinstance(text, Mapping):
                rows.append(text)
            elif not isinstance(text, str):
                raise DataError(f"{text!r} is neither a text nor a row", where=f"row {number}", fix="give strings or mappings")
            elif len(names) == 1:
                rows.append({names[0]: text})
            else:
                raise DataError(
                    f"the template has the fields {', '.join(names)}, so a plain text is not enough",
                    where=f"row {number}",
                    fix="give rows such as {" + ", ".join(f'"{name}": ...' for name in names) + "}",
                )
        return read_examples(rows, fields=names, label=None) if rows else ()

    def bundle(self) -> Bundle:
        """The task as data."""
        return bundle_of(self.model, self.facts)

    def save(self, folder: str | Path) -> Path:
        """Writes the bundle and returns its folder.

        Raises:
            BundleError: the folder holds something else.
        """
        path = Path(folder)
        self.bundle().write(path)
        return path

    def _predictions(self, examples: Sequence[Example], batch_size: int | None) -> list[Prediction]:
        probabilities = torch.softmax(self.scores(examples, batch_size=batch_size), 1)
        return [self.prediction(row) for row in probabilities]

    def prediction(self, probabilities: torch.Tensor) -> Prediction:
        """One row's [C] probabilities with its labels."""
        return Prediction(self.labels[int(probabilities.argmax())], dict(zip(self.labels, probabilities.tolist(), strict=True)))


def check_judged(examples: Sequence[Example], labels: LabelSet) -> None:
    """Checks that each example carries one of the task's labels.

    Raises:
        DataError: at the first that does not.
    """
    check_labels(examples, labels, every_class=False)
    bare = next((example for example in examples if example.label is None), None)
    if bare is not None:
        raise DataError("the row has no label, so it cannot be judged", where=bare.where, fix="fill it in or leave the row out")


def judge_scores(model: PromptModel, examples: Sequence[Example], scores: torch.Tensor) -> Report:
    """A report from label scores and the examples' true labels."""
    true = [model.labels.index(example.label or "") for example in examples]
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(true)).item()
    return report(true, scores.argmax(1).tolist(), model.labels.names, loss=loss)


def load(folder: str | Path, *, backbone: BackboneLike | None = None, dtype: DType = "fp32", device: str = "auto") -> Task:
    """Loads a saved task.

    Args:
        folder: a bundle.
        backbone: a loaded backbone or a name; None loads the one the bundle names.
        dtype, device: of a backbone that is loaded here.

    Raises:
        BundleError: no bundle there, or one made for another backbone.
    """
    bundle = read_bundle(folder)
    kept = bundle.card["backbone"]
    return task_of(bundle, load_backbone(backbone or kept["name"], dtype=dtype, device=device, text_start=kept["text_start"]))


def task_of(bundle: Bundle, backbone: Backbone) -> Task:
    """A bundle that was read, on a loaded backbone.

    Raises:
        BundleError: it was made for another backbone.
    """
    facts = {key: value for key, value in bundle.card.items() if key not in ("format", "task", "backbone", "versions")}
    return Task(model_of(bundle, backbone), facts)
