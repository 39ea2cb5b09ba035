"""One run as data: every setting by name, checked before any work starts.

A recipe is a YAML file (`reading`), keyword arguments of `ptune.fit`, or both (`--set key=value`): the same words everywhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, PositiveFloat, ValidationError, field_validator, model_validator

from ptune.backbone import Backbone
from ptune.data import Augment, did_you_mean, label_text
from ptune.errors import PtuneError, RecipeError, TemplateError
from ptune.inputs import FillOrder, PoolKind
from ptune.model import TaskModel, Tune, task_class
from ptune.prompt import parse_method, registration
from ptune.readout import Aggregate, LengthRule, Verbalizer, label_head, needs_words
from ptune.recipe.care_keys import CARE_KEYS, CareKeys
from ptune.recipe.paths import whole, with_paths
from ptune.recipe.task_keys import TaskKeys, foreign_key
from ptune.template import Template, has_words_to_learn, learn_words, resolve
from ptune.train import TrainSettings

__all__ = ["Recipe"]

_NULL_IS_A_VALUE = ("clip_norm",)  # everywhere else null says that a key is not set


class Recipe(TrainSettings, TaskKeys, CareKeys):
    """Everything that decides a run; the keys of single kinds of task stand in `TaskKeys`, those of calibration in `CareKeys`.

    Args:
        train: training rows: a file, a folder of splits, a hub id, or rows in memory.
        validation: rows for early stopping; None trains on a fixed schedule (see also `hold_out`).
        test: rows for the final figures only; no choice is ever made on them.
        columns: renames columns, as in {review: text}.
        label: the column that holds the label.
        encoding: of text files; None finds out.
        shots: rows per class (in tasks without classes, rows) to train on, sampled with the seed; None takes all.
        hold_out: rows per class (in tasks without classes, rows) taken out of the shots for validation.
        card_examples: training texts of each label that the bundle and its model card show; 0 keeps all texts out of them.
        template: text with {fields}, {soft} tokens and {mask}, or `library:ID`; None where the kind of task has its own.
        labels: label words: {label: [words]}, or label names with a head; only for kinds of task that have labels.
        aggregate: how a label's words are joined (mean, logsumexp, max).
        length: how words of several tokens are scored (auto, sum, mean per token).
        terminator: text scored behind every label word.
        fill: order in which a masked model fills a word of several tokens (parallel, chain, pet).
        head: `linear` reads a linear head instead of label words, `model` the head of transformers' own models, `vectors`
            one learned vector for each label, started from its words, `prototypes` one learned point for each label, `weights`
            the weight of each word in its label.
        pool: what the head reads (cls, last, mean, mask); None fits the backbone.
        method: prompt method, by name or with its settings.
        backbone: catalogue name, folder, GGUF file, hub id, or a loaded backbone.
        dtype, device: of the backbone.
        text_start: token that plain text starts with; None takes the catalogue's or the tokenizer's.
        max_length: tokens of a whole row.
        tune: what learns besides the prompt: nothing (`frozen`), `lm`, `lm-head`, or the `task-head`.
        class_weights: one factor per label, or `balanced`.
        label_smoothing: share of the target that is spread over all labels.
        prior: `correct` takes the model's own preference among labels out before training; `keep` leaves it in.
        seed: of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    train: Any
    validation: Any = None
    test: Any = None
    columns: dict[str, str] | None = None
    label: str = "label"
    encoding: str | None = None
    shots: int | None = Field(default=None, ge=1)
    hold_out: int | None = Field(default=None, ge=1)
    card_examples: int = Field(default=2, ge=0)
    template: Any = None
    labels: Any = None
    aggregate: Aggregate = "mean"
    length: LengthRule = "auto"
    terminator: str = ""
    fill: FillOrder = "parallel"
    head: Literal["linear", "model", "vectors", "prototypes", "weights"] | None = None
    pool: PoolKind | None = None
    method: Any = "p-tuning"
    backbone: Any
    dtype: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    text_start: str | None = None
    max_length: int | None = Field(default=None, ge=4)
    tune: Tune = "frozen"
    class_weights: dict[str, PositiveFloat] | Literal["balanced"] | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    prior: Literal["correct", "keep"] = "correct"
    seed: int = Field(default=0, ge=0)

    @field_validator("labels", "class_weights", mode="before")
    @classmethod
    def _label_names_are_text(cls, value: Any) -> Any:
        """Labels that are numbers or truth values, written as data files write them."""
        if isinstance(value, str | Verbalizer) or not isinstance(value, Mapping | Sequence):
            return value
        names = [label_text(name) for name in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"label {twice!r} is named twice")
        return dict(zip(names, value.values(), strict=True)) if isinstance(value, Mapping) else names

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; give one")
        if self.validation is not None and self.hold_out is not None:
            raise ValueError("validation and hold_out exclude each other; give one")
        if self.hold_out is not None and self.shots is not None and self.hold_out >= self.shots:
            raise ValueError(f"hold_out ({self.hold_out}) must be smaller than shots ({self.shots})")
        if self.patience is not None and self.validation is None and self.hold_out is None:
            raise ValueError("patience needs validation rows; set validation or hold_out")
        if self.keep_candidates is not None and self.candidates == 1:
            raise ValueError("keep_candidates needs candidates; set candidates: 8, say")
        if self.keep_candidates == "best" and self.validation is None and self.hold_out is None:
            raise ValueError("keep_candidates: best needs validation rows; set validation or hold_out, or ensemble")
        if foreign := foreign_key(self.kind, self.model_fields_set):
            raise ValueError(f"{foreign[0]} is for task: {' or '.join(foreign[1])}, not for {self.task}; leave it out")
        if self.candidates > 1 and not self.kind.takes_candidates:
            raise ValueError(f"task: {self.task} trains one prompt at a time; leave out candidates")
        if self.candidates > 1 and (self.head is not None or self.tune != "frozen"):
            raise ValueError("candidates are for label words on a frozen model; leave out head and tune, or candidates")
        if self.pool is not None and self.head is None:
            raise ValueError("pool needs head: linear or model")
        self._check_head()
        self._check_care()
        own = [key for key in ("aggregate", "length", "terminator") if key in self.model_fields_set]
        if isinstance(self.labels, Verbalizer) and own:
            raise ValueError(f"{own[0]} stands beside a Verbalizer, which has its own; set it there")
        loaded = [key for key in ("dtype", "device", "text_start") if key in self.model_fields_set]
        if isinstance(self.backbone, Backbone) and loaded:
            raise ValueError(f"{loaded[0]} stands beside a loaded backbone, which has its own; give it to load_backbone")
        return self

    def _check_head(self) -> None:
        if self.head is not None and self.head not in self.kind.heads:
            raise ValueError(f"head: {self.head} is not for task: {self.task}; use {' or '.join(self.kind.heads)}")
        if label_head(self.head) is None:
            return
        if self.pool is not None:
            raise ValueError(f"head: {self.head} reads the answer slot; leave out pool")
        if self.tune == "lm-head":
            raise ValueError(f"head: {self.head} is learned in place of the output layer; leave out tune: lm-head")

    def _check_care(self) -> None:
        given = [key for key in CARE_KEYS if key in self.model_fields_set and getattr(self, key) is not None]
        if given and self.task != "classification":
            raise ValueError(f"{given[0]} is for task: classification; leave it out")
        if "calibration" in given and not needs_words(self.head):
            raise ValueError("calibration is for label words; a head has no preference before it is trained")
        if self.prior == "keep" and "calibration" in given and self.calibration_name != "none":
            raise ValueError("prior: keep and calibration contradict each other; leave one out")
        if (self.num_folds or self.pull) and (self.head is not None or self.tune != "frozen"):
            raise ValueError("folds and pull are for label words on a frozen model; leave out head and tune, or folds and pull")
        if self.num_folds and (self.candidates > 1 or self.keep_candidates is not None):
            raise ValueError("folds are candidates already; leave out candidates and keep_candidates")
        if self.num_folds and self.augment is not None:
            raise ValueError("folds judge by rows not seen, and a copy of a row is seen; leave out folds or augment")
        if self.r_drop and not getattr(parse_method(self.method), "dropout", 0):
            raise ValueError(
                "r_drop compares readings with different dropout; set method: {name: p-tuning-v2, dropout: 0.1}, say"
            )
        if self.r_drop and label_head(self.head) is not None:
            raise ValueError(f"r_drop is for label words and linear heads, not for head: {self.head}; leave one out")
        if self.label_loss == "decoupled":
            self._check_decoupled("calibration" in given and self.calibration_name != "none")
        if self.contrastive and self.batch_size == 1:
            raise ValueError("contrastive compares the texts of a batch; set batch_size: 8, say")
        if self.label_conditioning and self.head is not None:
            raise ValueError("label_conditioning fills in label words; leave out the head")
        if self.learn == "words" and parse_method(self.method).name != "p-tuning":
            raise ValueError("learn: words is for method: p-tuning")
        if self.temperature and self.validation is None and self.hold_out is None:
            raise ValueError("temperature needs validation rows; set validation or hold_out")

    def _check_decoupled(self, is_calibrated: bool) -> None:
        others = {
            "a head": self.head is not None or self.pool is not None,
            "label_smoothing": bool(self.label_smoothing),
            "folds or pull": bool(self.num_folds or self.pull),
            "fill: pet": self.fill == "pet",
            "a calibration": is_calibrated,
        }
        wrong = next((name for name, is_there in others.items() if is_there), None)
        if wrong is not None:
            raise ValueError(f"label_loss: decoupled learns probabilities of label words as they are; leave out {wrong}")

    @classmethod
    def of(cls, values: Mapping[str, Any], *, where: str = "recipe") -> "Recipe":
        """Checks all keys and values, the template and the label words.

        Raises:
            RecipeError: an unknown or missing key, or a value that does not fit.
            PtuneError: a template, method or label words that cannot be.
        """
        for key in values:
            if key not in cls.model_fields:
                fix = did_you_mean(str(key), cls.model_fields, "see `ptune init` for the keys")
                raise RecipeError(f"there is no key {key!r}", where=where, fix=fix)
        try:
            recipe = cls(**{key: value for key, value in values.items() if value is not None or key in _NULL_IS_A_VALUE})
        except ValidationError as error:
            raise _recipe_error(error, where) from None
        for key, is_needed in (
            ("template", recipe.kind.default_template is None),
            ("labels", recipe.kind.labels_are == "required"),
        ):
            if is_needed and getattr(recipe, key) is None:
                raise _missing(key, where)
        try:
            if not recipe.complete_template().field_names:
                fix = "write one, such as {text}, where the text of a row goes"
                raise TemplateError("the template has no field, so it reads nothing of a row", where="template", fix=fix)
            recipe._check_labels()
        except PtuneError as error:
            error.where = f"{where}, {error.where}" if error.where else where
            raise
        return recipe

    @property
    def kind(self) -> type[TaskModel]:
        """The model class of the kind of task."""
        return task_class(self.task)

    @property
    def task_columns(self) -> dict[str, str]:
        """Recipe key -> column, of the columns that the kind of task reads beside the template's fields."""
        return {key: getattr(self, key) for key in (*self.kind.input_keys, *self.kind.target_keys)}

    def parsed_template(self) -> Template:
        """The template, from the library or as written; the kind of task's own where none is set."""
        template = self._given_template()
        return learn_words(template) if self.learns_words else template

    @property
    def learns_words(self) -> bool:
        """Whether the template's own words are what learns; by themselves they do where nothing else of it could."""
        if self.learn != "auto":
            return self.learn == "words"
        is_for_words = self.task == "classification" and self.has_label_words and parse_method(self.method).name == "p-tuning"
        template = self._given_template()
        return is_for_words and not template.has_soft and has_words_to_learn(template)

    def _given_template(self) -> Template:
        given = self.kind.default_template if self.template is None else self.template
        return given if isinstance(given, Template) else resolve(given)  # type: ignore[arg-type]  # `of` saw to it

    def complete_template(self) -> Template:
        """The template with the method's own learned tokens in it.

        Raises:
            PromptError: method and template do not go together.
        """
        method = parse_method(self.method)
        return registration(method).template(method, self.parsed_template())

    def verbalizer(self) -> Verbalizer:
        """The label words.

        Raises:
            VerbalizerError: see `Verbalizer.parse`.
        """
        if isinstance(self.labels, Verbalizer):
            return self.labels
        if not isinstance(self.labels, Mapping):
            raise RecipeError(
                f"labels is {type(self.labels).__name__}, not label words",
                where="labels",
                fix="write labels: {positive: [great], negative: [terrible]}, or set head: linear",
            )
        rules: dict[str, Any] = {"aggregate": self.aggregate, "length": self.length, "terminator": self.terminator}
        return Verbalizer.parse(self.labels, **rules, num_slots=max(1, self.parsed_template().num_masks))

    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, with or without words; none where the recipe has none."""
        if self.labels is None:
            return ()
        return self.labels.labels if isinstance(self.labels, Verbalizer) else tuple(self.labels)

    def label_texts(self) -> dict[str, str]:
        """The texts that stand for labels, where there are some: the first of each.

        Raises:
            RecipeError: a label whose text is empty or no text.
        """
        texts: dict[str, str] = {}
        for name, given in self.labels.items() if isinstance(self.labels, Mapping) else ():
            text = next(iter(given), "") if isinstance(given, Sequence | Mapping) and not isinstance(given, str) else given
            text = label_text(text) if isinstance(text, int | float) else text
            if not isinstance(text, str) or not text.strip():
                what = f"{text!r} is no text that says what the label {name!r} is"
                raise RecipeError(what, where=f"labels.{name}", fix="write some words in quotes, or its name")
            texts[name] = text
        return texts

    @property
    def has_label_words(self) -> bool:
        """Whether labels are scored by their words, or by a head that starts from them."""
        return needs_words(self.head) and self.kind.label_words

    def _check_labels(self) -> None:
        """Checks label words, or the names of labels that a head scores.

        Raises:
            PtuneError: what `verbalizer` or `_check_label_names` raise.
        """
        if self.labels is None:
            return
        if self.has_label_words:
            verbalizer, head = self.verbalizer(), label_head(self.head)
            if head is not None:
                head.check_words(verbalizer)
        else:
            self._check_label_names()

    def _check_label_names(self) -> None:
        """Checks the labels of a head.

        Raises:
            RecipeError: they are no list of names, or fewer than two.
        """
        if not isinstance(self.labels, Verbalizer | Mapping | list):
            what = f"labels is {type(self.labels).__name__}, not a list of label names"
            raise RecipeError(what, where="labels", fix="write labels: [positive, negative]")
        least = 2 if self.kind.labels_are == "required" else 1
        if len(self.label_names()) < least:
            raise RecipeError("fewer than two labels are given", where="labels", fix="write labels: [positive, negative]")
        if "label_texts" in self.kind.keys:
            self.label_texts()

    def train_settings(self) -> TrainSettings:
        """The training keys alone."""
        keys = [key for key in TrainSettings.model_fields if key in self.model_fields_set]
        values: dict[str, Any] = {key: getattr(self, key) for key in keys}
        if self.num_folds:
            values["keep_candidates"] = "ensemble"
        return TrainSettings(**values)

    def to_dict(self) -> dict[str, Any]:
        """The keys that were set, as plain values; rows and objects in memory are named, not copied."""
        values = {key: _plain(getattr(self, key)) for key in type(self).model_fields if key in self.model_fields_set}
        return values | _rules(self.labels) if isinstance(self.labels, Verbalizer) else values

    def to_yaml(self) -> str:
        """The recipe as a file that can be run from anywhere: paths that exist are written whole."""
        values = with_paths(self.to_dict(), lambda value, _: whole(value))
        return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)


def _rules(verbalizer: Verbalizer) -> dict[str, Any]:
    """What a `Verbalizer` says beside its words, as keys of a recipe; defaults are left out."""
    rules = {key: getattr(verbalizer, key) for key in ("aggregate", "length", "terminator")}
    return {key: value for key, value in rules.items() if value != Recipe.model_fields[key].default}


def _words(verbalizer: Verbalizer) -> dict[str, Any]:
    """Label words as a recipe writes them, with weights where they differ."""
    weights = verbalizer.weights or {}
    return {
        name: dict(zip(words, weights[name], strict=True)) if len(set(weights.get(name, ()))) > 1 else list(words)
        for name, words in verbalizer.words.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Template):
        return str(value)
    if isinstance(value, Verbalizer):
        return _words(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    if isinstance(value, Sequence):
        return (
            [_plain(inner) for inner in value]
            if all(isinstance(inner, str | int | float) for inner in value)
            else f"{len(value)} rows in memory"
        )
    return getattr(getattr(value, "spec", None), "name", type(value).__name__)


def _recipe_error(error: ValidationError, where: str) -> RecipeError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part in Recipe.model_fields or part in Augment.model_fields)
    if first["type"] == "missing":
        return _missing(key, where)
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return RecipeError(message, where=where)
    return RecipeError(f"{message} (got {first['input']!r})", where=f"{where}, {key}")


def _missing(key: str, where: str) -> RecipeError:
    return RecipeError(f"the key {key!r} is missing", where=where, fix="see `ptune init DATA` for a recipe that has it all")
