"""ptune's own methods as contenders: each is the recipe with some keys changed, run by `ptune.fit` as a user runs it.

How to learn (rate, candidates, head and the like) a method says itself, so that a recipe's own settings help none unasked.
Templates: methods that place their learned tokens themselves get the hard template; `p-tuning` gets the one that the recipe
has, or eight tokens behind the text where it has none. What is chosen on validation is the learning rate, as factors of the
method's own rule, and the step. On a causal model the contexts of texts are kept once for all cells that read the same
tokens. Ways that do more than train one recipe stand in `strategy_methods.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ptune.compare.contender import ON_TORCH, Contender, Fitted, Needs, Paradigm, Point, Probabilities, Registry, Setup, rates
from ptune.compare.store import files_of
from ptune.data import Example
from ptune.errors import RecipeError
from ptune.inputs import trunk_start
from ptune.model import Prediction, Prepared, PromptModel
from ptune.prompt import MethodConfig, parse_method, registration
from ptune.readout import needs_words
from ptune.recipe import Recipe, build_model, read_splits, run
from ptune.task import Task, load
from ptune.template import Field, Soft, Template, resolve
from ptune.train import TrainEvent

__all__ = ["Form", "OwnMethod", "Words", "check_labels_of", "fit_task", "fitted_task", "own_method", "settled", "template_in"]

Form = Literal["hard", "learned"]
Words = dict[str, Any]
Asks = Callable[[Setup], Words]
_NUM_SOFT = 8
_MAX_BUNDLE = 20 << 20
"""Larger ones are learned again rather than kept."""
_WORTH_KEEPING = 0.5


@dataclass(kw_only=True)
class _Own(Fitted):
    task: Task
    setup: Setup

    def predict(self, rows: Sequence[Example]) -> Probabilities:
        if not rows:
            return np.zeros((0, len(self.setup.labels)))
        model, names = self.task.model, self.setup.labels
        if not isinstance(model, PromptModel):  # entailment, whose rows are asked label by label
            answers = [one for one in model.predict(rows) if isinstance(one, Prediction)]
            return np.array([[one.probabilities[name] for name in names] for one in answers])
        scores = model.scores(self._prepared(model, rows))
        probabilities: Probabilities = torch.softmax(scores.double(), 1).cpu().numpy()
        return probabilities[:, [model.labels.names.index(name) for name in names]]

    def _prepared(self, model: PromptModel, rows: Sequence[Example]) -> Prepared:
        """Rows with the contexts that other cells have computed; demonstrations of a text's own are no other cell's."""
        prepared = model.prepare(rows)
        if model.near_demos is not None:
            return prepared
        prefixes = [row.ids[: trunk_start(row)] for row in prepared.encoded]
        num_kept, in_common = sum(map(len, prefixes)), model.num_lead(prepared.encoded) * len(prefixes)
        is_long = num_kept > _WORTH_KEEPING * sum(map(len, prepared.encoded))
        is_own = num_kept > 2 * in_common  # what all rows start with, demonstrations say, is read once in any case
        if not is_long or not is_own or model.why_not_keep():
            return prepared
        return replace(prepared, contexts=self.setup.kept.of(model.backbone, prefixes))

    def save(self, folder: Path) -> bool:
        if self.task.bundle().num_bytes > _MAX_BUNDLE:
            return False
        self.task.save(folder)
        return True


class OwnMethod(Contender):
    """The recipe with some keys changed.

    Args:
        name, title: of the row.
        changes: recipe keys that differ; a `method` of the recipe's own name keeps the recipe's settings.
        form: whether learned tokens of the template stay.
        learns: False for what trains nothing.
        paradigm: of the row.
        load_per_step: see `Contender`.
        rate_trials: False where the candidates of one run are the trials.
        asks: keys of a method that asks otherwise than the recipe does, made from the recipe's; `changes` go first.
        wording: keys that a comparison may give in their place.
    """

    needs: Needs = "backbone"
    packages = ON_TORCH

    def __init__(
        self,
        name: str,
        title: str,
        changes: Mapping[str, Any],
        *,
        form: Form = "learned",
        learns: bool = True,
        paradigm: Paradigm = "prompting",
        load_per_step: float = 2.0,
        rate_trials: bool = True,
        asks: Asks = lambda setup: {},
        wording: tuple[str, ...] = (),
    ) -> None:
        self.name, self.title, self.paradigm = name, title, paradigm
        self.load_per_step = load_per_step if learns else 0.0
        self.version = 1 if rate_trials else 2  # the chosen candidate's rate is noted
        self.copies_model, self.wording, self.own_fields = changes.get("tune") == "lm", wording, _fields(changes)
        self._changes, self._form, self._learns, self._asks, self._in_one_run = changes, form, learns, asks, not rate_trials

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Factors of the method's own learning rate."""
        if not self._learns:
            return [{}]
        if self._in_one_run:
            return [{"candidates": count}]
        return [{"rate_factor": settings["learning_rate"]} for settings in rates(1.0, count)]

    def num_trials(self, trials: Sequence[Mapping[str, Any]]) -> int:
        """Each candidate of a run is one."""
        return sum(settings.get("candidates") or self._changes.get("candidates") or 1 for settings in trials)

    def carried(self, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """The learning rate of the candidate that was chosen; where nothing was chosen among candidates, the settings."""
        is_chosen = self._in_one_run and "learning_rate" in facts
        return {"learning_rate": facts["learning_rate"]} if is_chosen else dict(settings)

    @property
    def identity(self) -> dict[str, Any]:
        """The changed keys too."""
        return {**super().identity, "changes": self._changes, "files": files_of(self._changes), "form": self._form}

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Runs the recipe."""
        words = {**self.words(setup), "train": tuple(train), "validation": tuple(validation), "seed": seed}
        if settings.get("candidates", 1) > 1:
            words["candidates"] = settings["candidates"]
        elif self._in_one_run:  # one prompt: there is nothing to join
            words.pop("keep_candidates", None)
        if "learning_rate" in settings:
            words["learning_rate"] = settings["learning_rate"]
        elif self._learns and settings.get("rate_factor", 1.0) != 1.0:
            words["learning_rate"] = _rate(words) * settings["rate_factor"]
        return self.run(setup, words, settings)

    def run(self, setup: Setup, words: Words, settings: Mapping[str, Any]) -> Fitted:
        """Learns by the recipe's words, rows and all.

        Args:
            setup: what all are given.
            words: of the recipe; `steps` may be a function of the number of rows.
            settings: the trial's, as far as they are no recipe keys.
        """
        return fit_task(setup, words)

    def words(self, setup: Setup) -> Words:
        """The recipe's keys with this method's changes."""
        changes = {**self._asks(setup), **self._changes}
        words = {**setup.recipe, "backbone": setup.backbone, "batch_size": setup.batch_size, **changes}
        words["method"] = _method(setup.recipe, changes)
        if "template" not in changes:
            words["template"] = str(template_in(setup.recipe["template"], self._form))
        if not needs_words(words.get("head")):
            words |= {"labels": list(setup.labels), "calibration": changes.get("calibration")}
        if self._learns and not {"steps", "epochs"} & set(changes):
            words["steps"] = setup.steps
        return words

    def reworded(self, keys: Mapping[str, Any], setup: Setup, words: Words, where: str) -> "OwnMethod":
        """The same method asking with other keys, which are checked.

        Args:
            keys: of `wording`.
            setup: of the comparison, without a model.
            words: what the recipe needs beside those of a method: where rows and model are.
            where: to name in an error.

        Raises:
            PtuneError: keys that cannot be, or other labels than the recipe's.
        """
        other = copy(self)
        other._changes = {**self._changes, **keys}
        recipe = Recipe.of(settled({**other.words(setup), **words}), where=where)
        check_labels_of(recipe, setup, where)
        if recipe.task == "entailment" and not recipe.parsed_template().has_choice:
            fix = 'write {choice}, as in "{text}{soft:4} It was {choice}, yes or no?{mask}"'
            raise RecipeError("the template does not say where a label is asked for", where=f"{where}.template", fix=fix)
        other.own_fields = _fields(other._changes)
        return other

    def load(self, folder: Path, setup: Setup) -> Fitted | None:
        """A bundle on the loaded backbone."""
        task = load(folder, backbone=setup.model())
        return _Own(task=task, setup=setup, num_trained=task.facts.get("trained_parameters", 0))


def _fields(changes: Mapping[str, Any]) -> tuple[str, ...]:
    return resolve(str(changes["template"])).field_names if "template" in changes else ()


def check_labels_of(recipe: Recipe, setup: Setup, where: str) -> None:
    """Refuses a wording whose labels are not the comparison's.

    Raises:
        RecipeError: naming both.
    """
    if set(recipe.label_names()) != set(setup.labels):
        what = f"the labels are {', '.join(recipe.label_names())}, the recipe's {', '.join(setup.labels)}"
        raise RecipeError(what, where=where, fix="give the same labels; only their words may differ")


def fit_task(setup: Setup, words: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Fitted:
    """Runs a recipe's words.

    Args:
        setup: what all are given.
        words: of the recipe; `steps` may be a function of the number of rows.
        facts: for the report.
    """
    points: list[Point] = []

    def listen(event: TrainEvent) -> None:
        if event.kind == "validation" and event.score is not None:
            points.append(Point(event.step, event.seconds, event.score, event.loss))

    task = run(Recipe.of(settled(words), where="compare"), listeners=[listen], measures=False)  # rivals take no figures either
    training = task.facts.get("training", {})
    chosen = training.get("chosen")
    own = {} if chosen is None else {"learning_rate": training["candidates"][chosen - 1]["learning_rate"]}
    return fitted_task(task, setup, curve=tuple(points), facts={**own, **(facts or {})})


def fitted_task(task: Task, setup: Setup, *, curve: tuple[Point, ...] = (), facts: Mapping[str, Any] | None = None) -> Fitted:
    """A task that was learned, with its price."""
    bundle = task.bundle()
    size = bundle.num_bytes + len(str(bundle.card).encode())
    trained = task.facts["trained_parameters"]
    return _Own(task=task, setup=setup, num_trained=trained, num_bytes=size, curve=curve, facts=dict(facts or {}))


def settled(words: Mapping[str, Any]) -> Words:
    """Words without those that say nothing, `steps` as a number."""
    steps = words.get("steps")
    found = {**words, "steps": steps(len(words["train"])) if callable(steps) else steps}
    return {key: value for key, value in found.items() if value is not None}


def _rate(words: Mapping[str, Any]) -> float:
    """The learning rate that the recipe's words lead to by themselves."""
    given = settled(words)
    if given.get("learning_rate") is not None:
        return float(given["learning_rate"])
    recipe = Recipe.of(given, where="compare")
    return float(build_model(recipe, given["backbone"], read_splits(recipe)).parameter_groups()[0]["lr"])


def template_in(text: str, form: Form) -> Template:
    """The template with its learned tokens, eight behind the text where it has none; or without any."""
    template = resolve(text)
    if form == "hard":
        return template.without_soft()
    if template.has_soft:
        return template
    before = len(template.before_mask())
    last = max((at for at, node in enumerate(template.nodes[:before]) if isinstance(node, Field)), default=before - 1)
    return Template((*template.nodes[: last + 1], Soft(_NUM_SOFT), *template.nodes[last + 1 :]))


def _as_question(setup: Setup) -> Words:
    """The recipe's template as a question for each label, whose first word, or name, stands in the answer slot."""
    before = str(Template(template_in(setup.recipe["template"], "learned").before_mask())).rstrip()
    if setup.language == "zh":
        return {"template": f"{before}{{choice}}，对吗？{{mask}}", "yes_no": ["对", "错"]}
    return {"template": f"{before} {{choice}}, yes or no?{{mask}}", "yes_no": ["Yes", "No"]}


def own_method(name: str, changes: Mapping[str, Any], recipe: Mapping[str, Any]) -> OwnMethod:
    """A contender that a comparison defines itself: recipe keys under a name.

    Args:
        name: of the row.
        changes: its keys; the prompt method is the recipe's where it names none.
        recipe: of the comparison.

    Raises:
        PromptError: a method that cannot be.
        TemplateError: a template that cannot be.
    """
    method = parse_method(_method(recipe, changes))
    form: Form = "learned" if method.name == "p-tuning" else "hard"
    learns = registration(method).learns or changes.get("tune", "frozen") != "frozen" or bool(changes.get("head"))
    return OwnMethod(name, name, changes, form=form, learns=learns)


def _method(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """The prompt method of a changed recipe: one of the recipe's own name has the recipe's settings too."""
    given = _settings(recipe.get("method", Recipe.model_fields["method"].default))
    wanted = _settings(changes.get("method", given))
    are_settings = isinstance(given, Mapping) and isinstance(wanted, Mapping)
    return {**given, **wanted} if are_settings and wanted.get("name") == given.get("name") else wanted


def _settings(method: Any) -> Any:
    """A method as a recipe writes it whole: `{name: p-tuning, encoder: lstm}`."""
    if isinstance(method, MethodConfig):
        return {**method.model_dump(exclude_unset=True), "name": method.name}
    return {"name": method} if isinstance(method, str) else method


def _add(name: str, title: str, changes: Mapping[str, Any], **rest: Any) -> None:
    Registry.add(OwnMethod(name, title, changes, **rest))


_NOT_OF_ENTAILMENT = dict.fromkeys(("calibration", "aggregate", "length", "terminator", "prior"))
_HARD: Words = {"method": "hard", "tune": "frozen"}
_LAYERS_BEHIND: Words = {"name": "p-tuning-v2", "placement": "behind"}


def _calibrated(name: str) -> Words:
    return {**_HARD, "prior": "correct", "calibration": name}


_add("zero-shot", "template alone", {**_HARD, "prior": "keep", "calibration": "none"}, form="hard", learns=False)
_add("zero-shot-prior", "template alone, prior out", _calibrated("prior"), form="hard", learns=False)
_add("zero-shot-contextual", "template alone, contextual calibration", _calibrated("contextual"), form="hard", learns=False)
_add("zero-shot-domain", "template alone, domain calibration", _calibrated("domain"), form="hard", learns=False)
_add("zero-shot-batch", "template alone, batch calibration", _calibrated("batch"), form="hard", learns=False)
_add("p-tuning", "p-tuning", {"method": {"name": "p-tuning"}}, load_per_step=0.8)  # contexts are kept on causal models
_add("p-tuning-mlp", "p-tuning, MLP encoder", {"method": {"name": "p-tuning", "encoder": "mlp"}})
_add("p-tuning-lstm", "p-tuning, LSTM encoder", {"method": {"name": "p-tuning", "encoder": "lstm"}})
_add("p-tuning-candidates", "p-tuning, candidates", {"method": {"name": "p-tuning"}}, rate_trials=False)
_add(
    "p-tuning-ensemble",
    "p-tuning, candidates averaged",
    {"method": {"name": "p-tuning"}, "keep_candidates": "ensemble"},
    rate_trials=False,
)
_add("p-tuning-words", "p-tuning of the template's words", {"method": {"name": "p-tuning"}, "learn": "words"}, form="hard")
_add(
    "p-tuning-words-folds",
    "p-tuning of the template's words, folds",
    {"method": {"name": "p-tuning"}, "learn": "words", "folds": 4},
    form="hard",
    load_per_step=4.0,
)
_add("p-tuning-decoupled", "p-tuning, decoupled loss (ADAPET)", {"method": {"name": "p-tuning"}, "label_loss": "decoupled"})
_add(
    "p-tuning-augmented",
    "p-tuning, changed copies",
    {"method": {"name": "p-tuning"}, "augment": {"copies": 2, "punctuate": 0.1}},
)
_add("p-tuning-head", "p-tuning + linear head", {"method": {"name": "p-tuning"}, "head": "linear"})
_add("label-vectors", "label vectors (WARP)", {"method": {"name": "p-tuning"}, "head": "vectors"})
_add("prototypes", "prototypes (ProtoVerb)", {"method": {"name": "p-tuning"}, "head": "prototypes"})
_add(
    "entailment",
    "entailment (EFL)",
    {"method": {"name": "p-tuning"}, "task": "entailment", **_NOT_OF_ENTAILMENT},
    asks=_as_question,
    wording=("template", "labels", "yes_no"),
    load_per_step=4.0,
)
_add("prompt-tuning", "prompt tuning", {"method": {"name": "prompt-tuning"}}, form="hard")
_add("prefix-tuning", "prefix tuning", {"method": {"name": "prefix-tuning"}}, form="hard")
_add("p-tuning-v2", "P-Tuning v2", {"method": {"name": "p-tuning-v2"}}, form="hard")
_add("p-tuning-v2-head", "P-Tuning v2 + linear head", {"method": {"name": "p-tuning-v2"}, "head": "linear"}, form="hard")
_add("p-tuning-v2-behind", "P-Tuning v2 behind the text", {"method": _LAYERS_BEHIND}, form="hard", load_per_step=1.0)
_add(
    "p-tuning-v2-r-drop",
    "P-Tuning v2 behind the text, R-Drop",
    {"method": {**_LAYERS_BEHIND, "dropout": 0.1}, "r_drop": 1.0},
    form="hard",
)
_add("template-fine-tuning", "fine-tuning with the template", {**_HARD, "tune": "lm"}, form="hard", load_per_step=3.0)
