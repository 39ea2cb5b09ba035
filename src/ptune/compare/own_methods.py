"""ptune's own methods as contenders: each is the recipe with some keys changed, run by `ptune.fit` as a user runs it.

How to learn (rate, candidates, head and the like) a method says itself, so that a recipe's own settings help none unasked.
Templates: methods that place their learned tokens themselves get the hard template; `p-tuning` gets the one that the recipe
has, or eight tokens behind the text where it has none. What is chosen on validation is the learning rate, as factors of the
method's own rule, and the step. On a causal model the contexts of texts are kept once for all cells that read the same
tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ptune.compare.contender import ON_TORCH, Contender, Fitted, Needs, Paradigm, Point, Probabilities, Registry, Setup, rates
from ptune.compare.store import files_of
from ptune.data import Example
from ptune.inputs import trunk_start
from ptune.prompt import MethodConfig, parse_method, registration
from ptune.readout import needs_words
from ptune.recipe import Recipe, build_model, fit, read_splits
from ptune.strategy import InContextSettings, run_in_context
from ptune.task import Task, as_classifier, load
from ptune.template import Field, Soft, Template, resolve
from ptune.train import TrainEvent

__all__ = ["InContextLearning", "OwnMethod", "fit_task", "own_method"]

Form = Literal["hard", "learned"]
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
        model = as_classifier(self.task)
        prepared = model.prepare(rows)
        prefixes = [row.ids[: trunk_start(row)] for row in prepared.encoded]
        is_long = sum(map(len, prefixes)) > _WORTH_KEEPING * sum(map(len, prepared.encoded))
        if is_long and not model.why_not_keep():
            prepared = replace(prepared, contexts=self.setup.kept.of(model.backbone, prefixes))
        probabilities: Probabilities = torch.softmax(model.scores(prepared).double(), 1).cpu().numpy()
        names = model.labels.names
        return probabilities[:, [names.index(name) for name in self.setup.labels]]

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
    ) -> None:
        self.name, self.title, self.paradigm = name, title, paradigm
        self.load_per_step = load_per_step if learns else 0.0
        self.copies_model, self.tries_within = changes.get("tune") == "lm", not rate_trials
        self._changes, self._form, self._learns = changes, form, learns
        self.own_fields = resolve(str(changes["template"])).field_names if "template" in changes else ()

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Factors of the method's own learning rate."""
        if not self._learns:
            return [{}]
        if self.tries_within:
            return [{"candidates": count}]
        return [{"rate_factor": settings["learning_rate"]} for settings in rates(1.0, count)]

    def num_trials(self, trials: Sequence[Mapping[str, Any]]) -> int:
        """Each candidate of a run is one."""
        return sum(settings.get("candidates") or self._changes.get("candidates") or 1 for settings in trials)

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
        if self._learns and settings.get("rate_factor", 1.0) != 1.0:
            words["learning_rate"] = _rate(words) * settings["rate_factor"]
        return fit_task(setup, words)

    def words(self, setup: Setup) -> dict[str, Any]:
        """The recipe's keys with this method's changes."""
        words = {**setup.recipe, "backbone": setup.backbone, "batch_size": setup.batch_size, **self._changes}
        words["method"] = _method(setup.recipe, self._changes)
        if "template" not in self._changes:
            words["template"] = str(_template(setup.recipe["template"], self._form))
        if not needs_words(words.get("head")):
            words |= {"labels": list(setup.labels), "calibration": self._changes.get("calibration")}
        if self._learns and not {"steps", "epochs"} & set(self._changes):
            words["steps"] = setup.steps
        return words

    def load(self, folder: Path, setup: Setup) -> Fitted | None:
        """A bundle on the loaded backbone."""
        task = load(folder, backbone=setup.model())
        return _Own(task=task, setup=setup, num_trained=task.facts.get("trained_parameters", 0))


def fit_task(setup: Setup, words: Mapping[str, Any]) -> Fitted:
    """Runs a recipe's words; `steps` may be a function of the number of rows."""
    points: list[Point] = []

    def listen(event: TrainEvent) -> None:
        if event.kind == "validation" and event.score is not None:
            points.append(Point(event.step, event.seconds, event.score, event.loss))

    task = fit(listeners=[listen], **_settled(words))
    return _fitted(task, setup, tuple(points))


def _fitted(task: Task, setup: Setup, curve: tuple[Point, ...] = ()) -> Fitted:
    bundle = task.bundle()
    size = bundle.num_bytes + len(str(bundle.card).encode())
    return _Own(task=task, setup=setup, num_trained=task.facts["trained_parameters"], num_bytes=size, curve=curve)


def _settled(words: Mapping[str, Any]) -> dict[str, Any]:
    """Words without those that say nothing, `steps` as a number."""
    steps = words.get("steps")
    settled = {**words, "steps": steps(len(words["train"])) if callable(steps) else steps}
    return {key: value for key, value in settled.items() if value is not None}


def _rate(words: Mapping[str, Any]) -> float:
    """The learning rate that the recipe's words lead to by themselves."""
    settled = _settled(words)
    if settled.get("learning_rate") is not None:
        return float(settled["learning_rate"])
    recipe = Recipe.of(settled, where="compare")
    return float(build_model(recipe, settled["backbone"], read_splits(recipe)).parameter_groups()[0]["lr"])


def _template(text: str, form: Form) -> Template:
    template = resolve(text)
    if form == "hard":
        return template.without_soft()
    if template.has_soft:
        return template
    before = len(template.before_mask())
    last = max((at for at, node in enumerate(template.nodes[:before]) if isinstance(node, Field)), default=before - 1)
    return Template((*template.nodes[: last + 1], Soft(_NUM_SOFT), *template.nodes[last + 1 :]))


class InContextLearning(Contender):
    """Labelled texts in front of each new one; nothing is trained."""

    name = "in-context"
    title = "in-context learning"
    paradigm: Paradigm = "prompting"
    needs: Needs = "backbone"
    packages = ON_TORCH

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Demonstrations of each label."""
        return [{"per_label": number} for number in (4, 2, 8, 1, 16)[:count]]

    def refusal(self, setup: Setup) -> str:
        """A masked model was never trained to go on with examples."""
        return "" if setup.model().kind == "decoder" else "in-context learning is for causal models"

    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Chooses demonstrations among the training rows; fewer where a label has fewer."""
        fewest = min(sum(row.label == name for row in train) for name in setup.labels)
        template = _template(setup.recipe["template"], "hard")
        words = {**setup.recipe, "template": "{demos}" + str(template), "method": "hard", "backbone": setup.backbone}
        words |= {"train": tuple(train), "seed": seed, "batch_size": setup.batch_size}
        recipe = Recipe.of(words, where="compare")
        found = run_in_context(recipe, InContextSettings(per_label=min(settings["per_label"], fewest)))
        return _fitted(found.tasks[0], setup)

    def load(self, folder: Path, setup: Setup) -> Fitted | None:
        """A bundle, which holds the demonstrations."""
        return _Own(task=load(folder, backbone=setup.model()), setup=setup)


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


_HARD: dict[str, Any] = {"method": "hard", "tune": "frozen"}
_PRIOR_OUT = {"prior": "correct", "calibration": "prior"}
_add("zero-shot", "template alone", {**_HARD, "prior": "keep", "calibration": "none"}, form="hard", learns=False)
_add("zero-shot-prior", "template alone, prior out", {**_HARD, **_PRIOR_OUT}, form="hard", learns=False)
Registry.add(InContextLearning())
_add("p-tuning", "p-tuning", {"method": {"name": "p-tuning"}}, load_per_step=0.8)  # contexts are kept on causal models
_add("p-tuning-mlp", "p-tuning, MLP encoder", {"method": {"name": "p-tuning", "encoder": "mlp"}})
_add("p-tuning-lstm", "p-tuning, LSTM encoder", {"method": {"name": "p-tuning", "encoder": "lstm"}})
_add("p-tuning-candidates", "p-tuning, candidates", {"method": {"name": "p-tuning"}}, rate_trials=False)
_add("p-tuning-head", "p-tuning + linear head", {"method": {"name": "p-tuning"}, "head": "linear"})
_add("prompt-tuning", "prompt tuning", {"method": {"name": "prompt-tuning"}}, form="hard")
_add("prefix-tuning", "prefix tuning", {"method": {"name": "prefix-tuning"}}, form="hard")
_add("p-tuning-v2", "P-Tuning v2", {"method": {"name": "p-tuning-v2"}}, form="hard")
_add("p-tuning-v2-head", "P-Tuning v2 + linear head", {"method": {"name": "p-tuning-v2"}, "head": "linear"}, form="hard")
_add(
    "p-tuning-v2-behind",
    "P-Tuning v2 behind the text",
    {"method": {"name": "p-tuning-v2", "placement": "behind"}},
    form="hard",
    load_per_step=1.0,
)
_add("template-fine-tuning", "fine-tuning with the template", {**_HARD, "tune": "lm"}, form="hard", load_per_step=3.0)
