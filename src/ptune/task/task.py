"""A trained task in memory: predict, evaluate, save, load.

In: texts or rows. Out: predictions and a report, of the kind of task. A task is a model with the facts that its bundle keeps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ptune.backbone import Backbone, BackboneLike, DType, load_backbone
from ptune.bundle import Bundle, bundle_of, model_of, read_bundle
from ptune.data import Example, read_examples
from ptune.errors import DataError, RecipeError, TrainError
from ptune.model import Prediction, PromptModel, TaskModel, TaskPrediction, WritingModel
from ptune.objective import TaskReport

__all__ = ["Task", "as_classifier", "as_writer", "load", "task_of"]

_ROWS_PER_CHUNK = 512
Rows = Sequence[str | Mapping[str, Any]]


@dataclass
class Task:
    """A task that is ready to use.

    Args:
        model: prompt, backbone and readout.
        facts: what the bundle's card keeps about the run (figures, data fingerprint, seed).
    """

    model: TaskModel
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of scores; none where the kind of task has no labels."""
        return self.model.label_names

    @property
    def field_names(self) -> tuple[str, ...]:
        """What a row must have to be predicted: the template's fields, and the columns that the kind of task reads."""
        columns = (self.model.columns[key] for key in self.model.input_keys)
        return tuple(dict.fromkeys((*self.model.fields_read(self.model.template), *columns)))

    def predict(self, texts: Rows, *, batch_size: int | None = None, **words: Any) -> list[Any]:
        """Answers texts.

        Args:
            texts: strings (for a template with one field) or rows with the template's fields.
            batch_size: rows per forward pass; None takes as many short texts or few long ones as are computed fast.
            **words: how texts are written (`max_new_tokens`, `beams`, `temperature`, `stop`, ...; see
                `ptune.decode.DecodeSettings`), for tasks that write some.

        Returns:
            One prediction a row: `Prediction` in classification, the kind's own class elsewhere.

        Raises:
            DataError: a single text or row, or rows without a field that the template needs.
            RecipeError: settings for writing that do not fit, or of a task that writes nothing.
        """
        return list(self.stream(texts, batch_size=batch_size, **words))

    def stream(
        self, texts: Iterable[str | Mapping[str, Any]], *, batch_size: int | None = None, **words: Any
    ) -> Iterator[TaskPrediction]:
        """Answers texts of any number, a chunk at a time; the rest is as in `predict`."""
        if words:
            as_writer(self, next(iter(words))).settings_of(words)
        if isinstance(texts, str | Mapping):
            what = "one string" if isinstance(texts, str) else "one row"
            raise DataError(f"predict takes a list of texts, not {what}", fix="write task.predict([text])")
        chunk: list[str | Mapping[str, Any]] = []
        for text in texts:
            chunk.append(text)
            if len(chunk) == _ROWS_PER_CHUNK:
                yield from self.model.predict(self.examples(chunk), batch_size=batch_size, **words)
                chunk = []
        if chunk:
            yield from self.model.predict(self.examples(chunk), batch_size=batch_size, **words)

    def stream_text(self, text: str | Mapping[str, Any], **words: Any) -> Iterator[str]:
        """Writes the answer to one text, piece by piece as the model finds it; the pieces join to what `predict` gives.

        Args:
            text: a string or a row.
            **words: as in `predict`; one text, without beams.

        Raises:
            DataError: a row without a field that the template needs.
            RecipeError: a task that writes no text, or settings that do not fit.
        """
        model = as_writer(self, "stream_text")
        (example,) = self.examples([text])
        return model.follow(example, model.settings_of(words, where="stream_text"))

    def evaluate(
        self,
        source: str | Path | Sequence[Any],
        *,
        label: str | None = None,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        split: str | None = None,
        batch_size: int | None = None,
        **words: Any,
    ) -> Any:
        """Judges the task on rows with known answers.

        Args:
            source: file, folder, hub id, or rows in memory.
            label, columns, encoding, split: as in a recipe; `label` None takes the task's own column.
            batch_size: rows per forward pass; None takes as many short texts or few long ones as are computed fast.
            **words: how texts are written, as in `predict`.

        Returns:
            `Report` in classification, the kind's own class elsewhere; all have `metric`, `score` and `to_dict()`.

        Raises:
            DataError: a missing field, an unknown or missing label.
        """
        examples = self.read_judged(source, label=label, columns=columns, encoding=encoding, split=split)
        return self.judge(examples, batch_size=batch_size, **words)

    def read_judged(
        self,
        source: str | Path | Sequence[Any],
        *,
        label: str | None = None,
        columns: Mapping[str, str] | None = None,
        encoding: str | None = None,
        split: str | None = None,
    ) -> tuple[Example, ...]:
        """Rows with known answers, to be judged; the arguments are those of `evaluate`.

        Raises:
            DataError: a missing field, label or column.
        """
        model = self.model
        column_of = {key: model.columns[key] for key in model.target_keys}
        if label is not None and "label" in column_of:
            column_of["label"] = label
        examples = read_examples(
            source,
            fields=tuple(dict.fromkeys((*self.field_names, *column_of.values()))),
            label=(label or "label") if model.reads_label else None,
            columns=columns,
            encoding=encoding,
            split=split,
            require_label=model.reads_label,
        )
        renamed = {column: model.columns[key] for key, column in column_of.items() if column != model.columns[key]}
        return tuple(_renamed(example, renamed) for example in examples) if renamed else examples

    def judge(self, examples: Sequence[Example], *, batch_size: int | None = None, **words: Any) -> Any:
        """Judges the task on examples that have been read already; `words` as in `predict`.

        Raises:
            DataError: no examples, or one without its answer, or with a label that the task does not have.
        """
        if not examples:
            raise DataError("there are no rows to judge", fix="pass at least one")
        if words:
            as_writer(self, next(iter(words)))
        judged: TaskReport = self.model.judge(examples, batch_size=batch_size, **words)
        return judged

    def scores(self, examples: Sequence[Example], *, batch_size: int | None = None) -> torch.Tensor:
        """Label scores [B, C] of examples, in their order.

        Raises:
            TrainError: the task is no classification.
        """
        model = as_classifier(self)
        return model.scores(model.prepare(examples), batch_size=batch_size)

    def examples(self, texts: Sequence[str | Mapping[str, Any]]) -> tuple[Example, ...]:
        """Texts or rows as unlabelled examples with the template's fields.

        Raises:
            DataError: a plain text for a template with several fields, or a row without one of them.
        """
        names = self.field_names
        alone = names[0] if len(names) == 1 else self.model.plain_column
        rows: list[Mapping[str, Any]] = []
        for number, text in enumerate(texts, 1):
            if isinstance(text, Mapping):
                rows.append(text)
            elif not isinstance(text, str):
                raise DataError(f"{text!r} is neither a text nor a row", where=f"row {number}", fix="give strings or mappings")
            elif alone is not None:
                rows.append({alone: text})
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

    def prediction(self, probabilities: torch.Tensor) -> Prediction:
        """One row's [C] probabilities with its labels.

        Raises:
            TrainError: the task is no classification.
        """
        return as_classifier(self).prediction(probabilities)


def as_classifier(task: Task) -> PromptModel:
    """The model of a classification task.

    Raises:
        TrainError: the task is of another kind.
    """
    if not isinstance(task.model, PromptModel):
        raise TrainError(f"this is for classification, the task is {task.model.kind}", where="task")
    return task.model


def as_writer(task: Task, asked: str) -> WritingModel:
    """The model of a task that writes texts.

    Args:
        task: of any kind.
        asked: what is asked of it, for the error.

    Raises:
        RecipeError: the task writes none.
    """
    if not isinstance(task.model, WritingModel):
        raise RecipeError(f"{asked} is for tasks that write texts, this one is {task.model.kind}", where="predict")
    return task.model


def _renamed(example: Example, columns: Mapping[str, str]) -> Example:
    return replace(example, fields={columns.get(name, name): value for name, value in example.fields.items()})


def load(folder: str | Path, *, backbone: BackboneLike | None = None, dtype: DType = "fp32", device: str = "auto") -> Task:
    """Loads a saved task.

    Args:
        folder: a bundle, or a hub repository that holds one: `hub:owner/name`, or `owner/name` where no such folder is.
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
