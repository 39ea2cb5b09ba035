"""A comparison as data: a recipe with a section `compare:`, checked before any work.

In: a YAML file, or a recipe's words. Out: `Spec`: the recipe's own keys, and which methods, backbones, shots and seeds to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ptune.backbone import Backbone
from ptune.compare import baselines, own_methods  # noqa: F401  # which register themselves
from ptune.compare.contender import MAX_TRIALS, Contender, Registry
from ptune.compare.own_methods import own_method
from ptune.data import did_you_mean
from ptune.errors import RecipeError
from ptune.recipe import Recipe, read_values
from ptune.train import TrainSettings

__all__ = ["CORE", "CompareSettings", "Line", "Spec", "make_spec", "name_of", "read_spec", "with_settings"]

CORE = (
    "majority",
    "tfidf-naive-bayes",
    "tfidf-svm",
    "tfidf-logistic",
    "linear-probe",
    "setfit",
    "head-fine-tuning",
    "zero-shot",
    "zero-shot-prior",
    "p-tuning",
    "prompt-tuning",
    "p-tuning-v2",
)
"""The core dozen: what a comparison runs when its spec names no methods."""

_OWN_KEYS = ("train", "validation", "test", "columns", "shots", "hold_out", "seed", "backbone", "dtype", "device", "text_start")
"""Recipe keys that the comparison acts on itself: rows and models are there when a method gets them."""

_COMPUTING_KEYS = ("checkpointing", "keep_context", "context_memory", "context_dtype")
_LEARNING_KEYS = (
    *(key for key in TrainSettings.model_fields if key not in _COMPUTING_KEYS),
    *("tune", "head", "pool", "class_weights", "label_smoothing"),
    *("learn", "folds", "pull", "r_drop", "label_loss", "augment", "temperature", "abstain_below", "out_of_scope"),
)
"""Recipe keys that say how ptune's own methods learn: a method's own count; steps and batches are the same for all."""


class CompareSettings(BaseModel):
    """The section `compare:` of a recipe.

    Args:
        methods: names, `core`, `all`, or {name: recipe keys} for methods of your own; a list of these.
        leave_out: names to leave out.
        backbones: models to run on; None for the recipe's own.
        shots: rows of each class to learn from, a number or several.
        seeds: each draws its own rows.
        trials: settings that each method may choose from on validation; the same number for all.
        tune_on: `first` chooses on the first seed for all of them, `each` on every seed.
        validation_shots: rows of each class to choose on; None for as many as shots.
        test_rows: rows that are judged, the same for all; None for all there are.
        unlabelled: texts of the training file that word vectors may read without labels.
        tests: further test sets by name: other domains.
        examples: texts on which methods differ, in the report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    methods: Any = "core"
    leave_out: tuple[str, ...] = ()
    backbones: tuple[Any, ...] | None = Field(default=None, min_length=1)
    shots: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    trials: int = Field(default=3, ge=1, le=MAX_TRIALS)
    tune_on: Literal["first", "each"] = "first"
    validation_shots: int | None = Field(default=None, ge=1)
    test_rows: int | None = Field(default=300, ge=1)
    unlabelled: int = Field(default=1000, ge=0)
    tests: dict[str, Any] = Field(default_factory=dict)
    examples: int = Field(default=40, ge=0)

    @field_validator("shots", "seeds", "backbones", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str | Backbone) and not isinstance(value, bool) else value

    @field_validator("shots")
    @classmethod
    def _positive(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or min(value) < 1):
            raise ValueError("shots must be 1 or more")
        return None if value is None else tuple(sorted(set(value)))


@dataclass(frozen=True)
class Line:
    """A method on a model with so many shots: the seeds of a line share the choice among trials.

    Args:
        contender: the method.
        backbone: the model as it was named, or a loaded one; None for contenders that need none.
        shots: rows of each class.
    """

    contender: Contender
    backbone: Any
    shots: int

    @property
    def backbone_name(self) -> str:
        """Of the model; empty without one."""
        return name_of(self.backbone)

    def __str__(self) -> str:
        on = f" on {self.backbone_name}" if self.backbone is not None else ""
        return f"{self.contender.name}{on}, {self.shots} shots"


@dataclass(frozen=True)
class Spec:
    """A comparison.

    Args:
        recipe: the recipe's words, rows and all.
        settings: of the comparison.
        contenders: what is compared.
        name: for the report.
    """

    recipe: Mapping[str, Any]
    settings: CompareSettings
    contenders: tuple[Contender, ...]
    name: str

    @property
    def backbones(self) -> tuple[Any, ...]:
        """Names or loaded models."""
        return self.settings.backbones or (self.recipe["backbone"],)

    @property
    def shots(self) -> tuple[int, ...]:
        """Rows of each class."""
        return self.settings.shots or (self.recipe.get("shots") or 16,)

    @property
    def words(self) -> dict[str, Any]:
        """The recipe's keys that contenders are given: how texts are read and asked."""
        return {key: value for key, value in self.recipe.items() if key not in (*_OWN_KEYS, *_LEARNING_KEYS)}

    def lines(self) -> list[Line]:
        """All of them; contenders that need no model stand once for each number of shots."""
        return [
            Line(contender, backbone, shots)
            for shots in self.shots
            for contender in self.contenders
            for backbone in (self.backbones if contender.needs == "backbone" else (None,))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        named = Recipe.of(self.recipe, where=self.name).to_dict()
        settings = self.settings.model_dump(exclude={"backbones", "methods"}, mode="json", fallback=str)
        return {
            "name": self.name,
            "recipe": named,
            **settings,
            "shots": list(self.shots),
            "backbones": [name_of(one) for one in self.backbones],
            "methods": [contender.name for contender in self.contenders],
        }


def name_of(backbone: Any) -> str:
    """What a model is called; empty for none."""
    if backbone is None:
        return ""
    return backbone.spec.name if isinstance(backbone, Backbone) else str(backbone)


def read_spec(path: str | Path, overrides: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None) -> Spec:
    """Reads a recipe with or without a section `compare:`.

    Args:
        path: a YAML file; paths in it are seen from its folder.
        overrides: recipe keys that replace the file's.
        settings: keys of the section that replace the file's.

    Raises:
        RecipeError: see `make_spec`.
    """
    values = read_values(path, overrides)
    section = values.pop("compare", None) or {}
    if not isinstance(section, dict):
        raise RecipeError("compare is no mapping of keys to values", where=str(path), fix="see docs/comparison.md")
    folder = Path(path).parent
    if isinstance(section.get("tests"), dict):
        section["tests"] = {name: _beside(source, folder) for name, source in section["tests"].items()}
    if section.get("backbones") is not None:
        given = section["backbones"]
        section["backbones"] = [_beside(one, folder) for one in (given if isinstance(given, list) else [given])]
    return make_spec(values, {**section, **(settings or {})}, name=Path(path).stem, where=str(path))


def make_spec(values: Mapping[str, Any], settings: Mapping[str, Any], *, name: str, where: str = "compare") -> Spec:
    """Checks a recipe's words and a comparison's settings.

    Raises:
        RecipeError: a key or value that cannot be, an unknown method, another kind of task than classification.
        PtuneError: a template or label words that cannot be.
    """
    chosen = _settings(settings, where)
    recipe = {key: value for key, value in values.items() if value is not None}
    recipe.setdefault("backbone", (chosen.backbones or ("",))[0])
    checked = Recipe.of(recipe, where=where)
    if checked.task != "classification":
        what = f"a comparison is for task: classification, the recipe has task: {checked.task}"
        raise RecipeError(what, where=where, fix="`ptune train` and `ptune runs` serve the other kinds")
    recipe["template"] = str(checked.parsed_template())
    return Spec(recipe, chosen, _contenders(chosen, recipe), name)


def with_settings(spec: Spec, **changes: Any) -> Spec:
    """The comparison with other settings."""
    return replace(spec, settings=spec.settings.model_copy(update=changes))


def _settings(values: Mapping[str, Any], where: str) -> CompareSettings:
    for key in values:
        if key not in CompareSettings.model_fields:
            fix = did_you_mean(str(key), CompareSettings.model_fields, "see docs/comparison.md")
            raise RecipeError(f"there is no key {key!r}", where=f"{where}, compare", fix=fix)
    try:
        return CompareSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"][:1]))
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{message} (got {first['input']!r})", where=f"{where}, compare.{key}") from None


def _contenders(settings: CompareSettings, recipe: Mapping[str, Any]) -> tuple[Contender, ...]:
    given = settings.methods if isinstance(settings.methods, list | tuple) else [settings.methods]
    chosen: dict[str, Contender] = {}
    for one in given:
        if isinstance(one, Mapping):
            chosen |= {str(name): _defined(str(name), changes, recipe) for name, changes in one.items()}
        elif one in ("core", "all"):
            chosen |= {name: Registry.get(name) for name in (CORE if one == "core" else Registry.contenders)}
        else:
            chosen[str(one)] = Registry.get(str(one))
    for name in settings.leave_out:
        if name not in chosen:
            raise RecipeError(f"{name!r} is not among the methods", where="compare.leave_out", fix=did_you_mean(name, chosen))
        del chosen[name]
    if not chosen:
        raise RecipeError("no method is left to compare", where="compare.methods", fix="name some, or write core")
    return tuple(chosen.values())


def _defined(name: str, changes: Any, recipe: Mapping[str, Any]) -> Contender:
    if name in Registry.contenders:
        raise RecipeError(f"{name!r} is a method's own name", where="compare.methods", fix="choose another name")
    if not isinstance(changes, Mapping):
        raise RecipeError(f"{name!r} has no recipe keys", where="compare.methods", fix="write {my name: {method: p-tuning}}")
    if "batch_size" in changes:
        fix = "set it in the recipe itself"
        raise RecipeError("all methods have the same batch_size", where=f"compare.methods.{name}", fix=fix)
    for key in changes:
        if key not in Recipe.model_fields or key in _OWN_KEYS:
            fix = did_you_mean(str(key), Recipe.model_fields, "see docs/recipe.md")
            raise RecipeError(f"{key!r} is no recipe key that a method can change", where=f"compare.methods.{name}", fix=fix)
    return own_method(name, changes, recipe)


def _beside(value: Any, folder: Path) -> Any:
    """A path as seen from the file's folder, where something is there."""
    if not isinstance(value, str):
        return value
    there = folder / Path(value).expanduser()
    return str(there) if there.exists() else value
