"""A comparison as data: a recipe with a section `compare:`, checked before any work.

In: a YAML file, or a recipe's words. Out: `Spec`: the recipe's own keys, and which methods, backbones, shots and seeds to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ptune.backbone import Backbone
from ptune.compare import baselines, own_methods, strategy_methods  # noqa: F401  # which register themselves
from ptune.compare.contender import MAX_TRIALS, Contender, Registry, Setup
from ptune.compare.own_methods import OwnMethod, own_method
from ptune.data import did_you_mean
from ptune.errors import RecipeError
from ptune.recipe import Recipe, read_values
from ptune.train import TrainSettings

__all__ = ["CORE", "CompareSettings", "Further", "Line", "Spec", "make_spec", "name_of", "read_spec", "with_settings"]

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
    *("learn", "folds", "pull", "r_drop", "label_loss", "label_conditioning", "contrastive", "augment"),
    *("temperature", "abstain_below", "out_of_scope"),
)
"""Recipe keys that say how ptune's own methods learn: a method's own count; steps and batches are the same for all."""


def _as_several(value: Any) -> Any:
    return (value,) if isinstance(value, int | str | Backbone) and not isinstance(value, bool) else value


def _as_shots(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or min(value) < 1:
        raise ValueError("shots must be 1 or more")
    return tuple(sorted(set(value)))


def _as_parts(value: Any) -> Any:
    return (value,) if isinstance(value, Mapping) else value


Shots = Annotated[tuple[int, ...], BeforeValidator(_as_several), AfterValidator(_as_shots)]
Models = Annotated[tuple[Any, ...], BeforeValidator(_as_several), Field(min_length=1)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_as_several), Field(min_length=1)]


class Further(BaseModel):
    """What some of the methods are run on beside the rest: further numbers of shots (a learning curve), or further models.

    Args:
        methods: names of the comparison's methods, `core`, `all`, or a list of these.
        shots: rows of each class, a number or several; None for those of the comparison.
        backbones: models; None for those of the comparison.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: Any = "core"
    shots: Shots | None = None
    backbones: Models | None = None

    @model_validator(mode="after")
    def _adds_something(self) -> "Further":
        if self.shots is None and self.backbones is None:
            raise ValueError("neither shots nor backbones are given, so nothing is added")
        return self


class CompareSettings(BaseModel):
    """The section `compare:` of a recipe.

    Args:
        methods: names, `core`, `all`, or {name: recipe keys} for methods of your own; a list of these.
        leave_out: names to leave out.
        backbones: models to run on; None for the recipe's own.
        shots: rows of each class to learn from, a number or several.
        also: further numbers of shots or models for some of the methods.
        wordings: method -> what it asks with in place of the recipe's template and words: templates of entailment and of
            demonstrations, PET's patterns, lists of label words.
        seeds: each draws its own rows.
        trials: settings that each method may choose from on validation; the same number for all.
        tune_on: `first` chooses on the first seed for all of them, `each` on every seed.
        validation_shots: rows of each class to choose on; None for as many as shots.
        test_rows: rows that are judged, the same for all; None for all there are.
        other_rows: rows of each further test set that are judged; None for as many as `test_rows`.
        unlabelled: texts of the training file that word vectors may read without labels; PET reads 300 of them, refinement 200.
        tests: further test sets by name: other domains.
        examples: texts on which methods differ, in the report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    methods: Any = "core"
    leave_out: tuple[str, ...] = ()
    backbones: Models | None = None
    shots: Shots | None = None
    also: Annotated[tuple[Further, ...], BeforeValidator(_as_parts)] = ()
    wordings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seeds: Seeds = (1, 2, 3)
    trials: int = Field(default=3, ge=1, le=MAX_TRIALS)
    tune_on: Literal["first", "each"] = "first"
    validation_shots: int | None = Field(default=None, ge=1)
    test_rows: int | None = Field(default=300, ge=1)
    other_rows: int | None = Field(default=None, ge=1)
    unlabelled: int = Field(default=1000, ge=0)
    tests: dict[str, Any] = Field(default_factory=dict)
    examples: int = Field(default=40, ge=0)

    @model_validator(mode="after")
    def _has_other_rows(self) -> "CompareSettings":
        if self.other_rows is not None and not self.tests:
            raise ValueError("other_rows is for further test sets; name them under tests")
        return self


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
        """Rows of each class that all methods have."""
        return self.settings.shots or (self.recipe.get("shots") or 16,)

    @property
    def all_shots(self) -> tuple[int, ...]:
        """Those that only some methods have too."""
        return tuple(sorted({*self.shots, *(shots for one in self.settings.also for shots in one.shots or ())}))

    @property
    def all_backbones(self) -> tuple[Any, ...]:
        """Those that only some methods run on too."""
        further = (backbone for one in self.settings.also for backbone in one.backbones or ())
        return tuple({name_of(one): one for one in (*self.backbones, *further)}.values())

    @property
    def words(self) -> dict[str, Any]:
        """The recipe's keys that contenders are given: how texts are read and asked."""
        return {key: value for key, value in self.recipe.items() if key not in (*_OWN_KEYS, *_LEARNING_KEYS)}

    def lines(self) -> list[Line]:
        """All of them; contenders that need no model stand once for each number of shots."""
        return [
            Line(contender, backbone, shots)
            for shots in self.all_shots
            for contender in self.contenders
            for backbone in (self.all_backbones if contender.needs == "backbone" else (None,))
            if self._is_asked(contender, backbone, shots)
        ]

    def _is_asked(self, contender: Contender, backbone: Any, shots: int) -> bool:
        """Whether a line is one of all methods, or of some that are run further."""
        parts = [Further(methods="all", shots=self.shots), *self.settings.also]
        return any(
            {"all", contender.name} & {*_names(one.methods)}
            and shots in (one.shots or self.shots)
            and (backbone is None or name_of(backbone) in map(name_of, one.backbones or self.backbones))
            for one in parts
        )

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
    also = _as_parts(section.get("also"))
    for part in (section, *(also if isinstance(also, list | tuple) else ())):
        if isinstance(part, dict) and part.get("backbones") is not None:
            given = part["backbones"]
            part["backbones"] = [_beside(one, folder) for one in (given if isinstance(given, list) else [given])]
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
    spec = Spec(recipe, chosen, _contenders(chosen, recipe), name)
    _check_further(spec)
    return replace(spec, contenders=_reworded(spec, checked.label_names()))


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
        key = ".".join(map(str, ("compare", *first["loc"])))
        got = f" (got {first['input']!r})" if first["loc"] else ""  # else of the whole section
        raise RecipeError(first["msg"].removeprefix("Value error, ") + got, where=f"{where}, {key}") from None


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


def _names(methods: Any) -> list[str]:
    """Methods of a list, `core` spelt out."""
    given = methods if isinstance(methods, list | tuple) else [methods]
    return [name for one in given for name in (CORE if one == "core" else (str(one),))]


def _check_further(spec: Spec) -> None:
    """Refuses to run further what is not compared.

    Raises:
        RecipeError: a method that the comparison has not.
    """
    have = [contender.name for contender in spec.contenders]
    for number, one in enumerate(spec.settings.also):
        given = one.methods if isinstance(one.methods, list | tuple) else [one.methods]
        other = next((str(name) for name in given if name not in ("core", "all") and str(name) not in have), None)
        if other is not None:
            fix = did_you_mean(other, have, "name some of compare.methods")
            raise RecipeError(f"{other!r} is not among the methods", where=f"compare.also[{number}].methods", fix=fix)


def _reworded(spec: Spec, labels: tuple[str, ...]) -> tuple[Contender, ...]:
    """The contenders, some of them with wordings of their own.

    Raises:
        PtuneError: wordings of a method that takes none or is not compared, or that cannot be.
    """
    chosen = {contender.name: contender for contender in spec.contenders}
    rows = {"train": spec.recipe["train"], "backbone": spec.recipe["backbone"], "steps": None, "epochs": None}
    for name, keys in spec.settings.wordings.items():
        where, contender = f"compare.wordings.{name}", chosen.get(name, Registry.get(name))
        if not isinstance(contender, OwnMethod) or not contender.wording:
            those = ", ".join(one.name for one in Registry.contenders.values() if one.wording)
            what = f"{name!r} asks with the recipe's own template and words"
            raise RecipeError(what, where=where, fix=f"{those} take others")
        for key in keys:
            if key not in contender.wording:
                fix = did_you_mean(key, contender.wording, f"it takes {', '.join(contender.wording)}")
                raise RecipeError(f"{key!r} is no wording of {name}", where=where, fix=fix)
        changed = contender.reworded(keys, Setup(labels, "en", spec.words), rows, where)
        if name in chosen:
            chosen[name] = changed
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
    return str(there.resolve()) if there.exists() else value
