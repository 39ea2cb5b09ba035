"""Ways to learn from few labels as contenders: demonstrations, PET, searched templates and label words, refined words.

Each is recipe keys, a strategy and the strategy's section, run by `ptune.strategy` as `ptune icl`, `pet` and `search` run it.
What is chosen on validation is a key of the section where nothing is trained, else the learning rate; PET and prompts behind
demonstrations have no validation rows to choose a step on. Patterns and word lists are wordings that a recipe does not hold:
a comparison gives them (`wordings`), and without them the method is refused. Not here: chain of thought, whose answers have no
probabilities; continued pre-training, which makes another model; and what learns from other tasks' rows.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ptune.backbone import sharing_contexts
from ptune.compare.contender import Fitted, Registry, Setup
from ptune.compare.own_methods import Form, OwnMethod, Words, check_labels_of, fit_task, fitted_task, settled
from ptune.data import did_you_mean
from ptune.errors import RecipeError
from ptune.prompt import parse_method
from ptune.readout import Verbalizer
from ptune.recipe import Recipe
from ptune.strategy import (
    InContextSettings,
    PetSettings,
    RefineSettings,
    SearchSettings,
    TemplateSearchSettings,
    refine_words,
    run_in_context,
    run_pet,
    search_labels,
    search_template,
    section_of,
)
from ptune.template import Demos, resolve

__all__ = ["Strategy", "StrategyMethod"]

_WHERE = "compare"
_DEMOS = "{demos}"
_OF_PATTERN = ("template", "labels", "aggregate", "length", "terminator")


@dataclass(frozen=True)
class Strategy:
    """What runs a way.

    Args:
        name: of its section in a recipe.
        settings: that the section is checked by.
        run: (what all are given, the recipe's words, the section's) -> what was learned.
        lacks: (what all are given, the section's words) -> why it cannot run; empty where it can.
        wording: keys of the section that a comparison may give.
    """

    name: str
    settings: type[BaseModel]
    run: Callable[[Setup, Words, Words], Fitted]
    lacks: Callable[[Setup, Words], str] = lambda setup, section: ""
    wording: tuple[str, ...] = ()


class StrategyMethod(OwnMethod):
    """A strategy run on the recipe with some keys changed.

    Args:
        name, title, changes, **rest: see `OwnMethod`.
        strategy: what runs it.
        section: its settings.
        choices: settings of the section to choose from on validation, the default first; without any, the learning rate.
        unlabelled: texts without labels that it reads at most.
        wording: recipe keys that a comparison may give; those of the section come with it.
        load_per_step: see `Contender`; a search reads as much as so many steps would.
    """

    def __init__(
        self,
        name: str,
        title: str,
        changes: Mapping[str, Any],
        strategy: Strategy,
        *,
        section: Mapping[str, Any] | None = None,
        choices: Sequence[Mapping[str, Any]] = (),
        unlabelled: int = 0,
        wording: tuple[str, ...] = (),
        form: Form = "learned",
        load_per_step: float | None = None,
    ) -> None:
        super().__init__(name, title, changes, form=form, learns=not choices, wording=(*wording, *strategy.wording))
        self.load_per_step = self.load_per_step if load_per_step is None else load_per_step
        self.uses_unlabelled, self.most_unlabelled = unlabelled > 0, unlabelled
        self._strategy, self._section, self._choices = strategy, dict(section or {}), tuple(choices)

    def trials(self, count: int) -> list[dict[str, Any]]:
        """Settings of the section, or factors of the learning rate."""
        return [dict(choice) for choice in self._choices[:count]] or super().trials(count)

    @property
    def identity(self) -> dict[str, Any]:
        """The section too."""
        return {**super().identity, "strategy": self._strategy.name, "section": self._section}

    def refusal(self, setup: Setup) -> str:
        """What the strategy lacks."""
        return self._strategy.lacks(setup, self._section)

    def run(self, setup: Setup, words: Words, settings: Mapping[str, Any]) -> Fitted:
        """Runs the strategy."""
        own = {key: value for key, value in settings.items() if key in self._strategy.settings.model_fields}
        section = {**self._section, **own}
        if self.uses_unlabelled:
            section["unlabelled"] = list(setup.unlabelled[: self.most_unlabelled])
        return self._strategy.run(setup, settled(words), section)

    def reworded(self, keys: Mapping[str, Any], setup: Setup, words: Words, where: str) -> "StrategyMethod":
        """As in `OwnMethod`, with keys of the section as well."""
        of_section = {key: value for key, value in keys.items() if key in self._strategy.wording}
        other = super().reworded({key: keys[key] for key in keys if key not in of_section}, setup, words, where)
        assert isinstance(other, StrategyMethod)
        other._section = {**self._section, **of_section}
        common = {**other.words(setup), **words}
        for number, pattern in enumerate(_patterns(other._section, where)):
            at = f"{where}.patterns[{number}]"
            check_labels_of(Recipe.of(settled({**common, **pattern}), where=at), setup, at)
            other.own_fields += resolve(str(pattern["template"])).field_names
        _check_lists(other._section, setup, where)
        return other


def _patterns(section: Words, where: str) -> list[Words]:
    """PET's patterns: they say how is asked, and not how is learned, which is alike for all methods.

    Raises:
        RecipeError: no list of patterns, one without a template, or with other keys than those of a wording.
    """
    given = section.get("patterns", [])
    fix = 'write patterns: [{template: "{text} It was{mask}"}, ...]'
    if not isinstance(given, list) or not all(isinstance(one, Mapping) and "template" in one for one in given):
        raise RecipeError("the patterns are no list of templates", where=f"{where}.patterns", fix=fix)
    other = next((str(key) for one in given for key in one if key not in _OF_PATTERN), None)
    if other is not None:
        fix = did_you_mean(other, _OF_PATTERN, f"it takes {', '.join(_OF_PATTERN)}")
        raise RecipeError(f"{other!r} is no wording of a pattern", where=f"{where}.patterns", fix=fix)
    return given


def _check_lists(section: Words, setup: Setup, where: str) -> None:
    """Refuses word lists of other labels.

    Raises:
        RecipeError: no lists, or of other labels.
    """
    lists = section.get("words")
    if lists is None:
        return
    are_lists = isinstance(lists, Mapping) and all(isinstance(words, list) and words for words in lists.values())
    if not are_lists or {str(name) for name in lists} != set(setup.labels):
        fix = f"give a list of words for each of {', '.join(setup.labels)}"
        raise RecipeError("these are no lists of words for the labels", where=f"{where}.words", fix=fix)


# -- demonstrations --------------------------------------------------------------------------------------------------


def _demonstrations(setup: Setup, words: Words, section: Words) -> Fitted:
    """Demonstrations among the training rows, fewer where a label has fewer; the validation rows are not looked at."""
    fewest = min(sum(row.label == name for row in words["train"]) for name in setup.labels)
    room = fewest - 1 if section.get("choose") == "nearest" else fewest  # a text is never shown all of them
    section = {**section, "per_label": max(1, min(section["per_label"], room))}
    has_place = any(isinstance(node, Demos) for node in resolve(str(words["template"])).nodes)
    asked = {**words, "template": words["template"] if has_place else f"{_DEMOS}{words['template']}", "validation": None}
    found = run_in_context(Recipe.of(asked, where=_WHERE), section_of(section, "icl", InContextSettings, where=_WHERE))
    return fitted_task(found.tasks[0], setup, facts={"demonstrations": section["per_label"]})


def _not_causal(setup: Setup, section: Words) -> str:
    """A masked model was never trained to go on with examples."""
    return "" if setup.model().kind == "decoder" else "in-context learning is for causal models"


# -- patterns --------------------------------------------------------------------------------------------------------


def _pet(setup: Setup, words: Words, section: Words) -> Fitted:
    """Patterns teach a student by way of unlabelled texts."""
    recipe = Recipe.of({**words, "validation": None}, where=_WHERE)
    with nullcontext() if setup.model().shared is not None else sharing_contexts(setup.model()):  # by members and student
        task = run_pet(recipe, section_of(section, "pet", PetSettings, where=_WHERE))
    return fitted_task(task, setup, facts={"patterns": len(section["patterns"])})


def _without_patterns(setup: Setup, section: Words) -> str:
    if not section.get("patterns"):
        return "PET learns from several patterns; name them under compare.wordings, as in {pet: {patterns: [{template: ...}]}}"
    return "" if setup.unlabelled else "PET learns from unlabelled texts; set compare.unlabelled above 0"


# -- searches --------------------------------------------------------------------------------------------------------


def _searched_words(setup: Setup, words: Words, section: Words) -> Fitted:
    """Label words found on the training rows; the given ones are not looked at."""
    recipe = Recipe.of({**words, "labels": {name: [name] for name in setup.labels}}, where=_WHERE)
    found = search_labels(recipe, section_of(section, "search", SearchSettings, where=_WHERE)).to_dict()
    own: Words = {key: found[key] for key in ("labels", "length") if key in found}
    return fit_task(setup, {**words, **own}, {"words": found["labels"]})


def _searched_template(setup: Setup, words: Words, section: Words) -> Fitted:
    """A template found on the training rows."""
    settings = section_of(section, "search_template", TemplateSearchSettings, where=_WHERE)
    found = search_template(Recipe.of(words, where=_WHERE), settings).best.template
    return fit_task(setup, {**words, "template": found}, {"template": found})


def _refined_words(setup: Setup, words: Words, section: Words) -> Fitted:
    """Lists of label words, those that stay with the weights that refinement or learning gives them."""
    settings = section_of({**section, "unlabelled": section["unlabelled"] or None}, "refine", RefineSettings, where=_WHERE)
    found = refine_words(Recipe.of(words, where=_WHERE), settings).labels
    kept = {name: list(listed) for name, listed in found.items()}
    are_fixed = parse_method(words["method"]).name == "hard"
    spoken = {"labels": found, "aggregate": "logsumexp"} if are_fixed else {"labels": kept, "head": "weights"}
    return fit_task(setup, {**words, **spoken}, {"words": kept})


def _without_lists(setup: Setup, section: Words) -> str:
    labels = setup.recipe["labels"]
    listed = labels.words if isinstance(labels, Verbalizer) else labels
    has_lists = isinstance(listed, Mapping) and any(len(words) > 1 for words in listed.values())
    if has_lists or section.get("words"):
        return ""
    return "it refines long lists of label words; give them under compare.wordings, as in {refined-words: {words: {...}}}"


# -- the table -------------------------------------------------------------------------------------------------------

_ICL = Strategy("icl", InContextSettings, _demonstrations)
_ICL_ALONE = Strategy("icl", InContextSettings, _demonstrations, _not_causal)
_PET = Strategy("pet", PetSettings, _pet, _without_patterns, ("patterns",))
_LABELS = Strategy("search", SearchSettings, _searched_words)
_TEMPLATE = Strategy("search_template", TemplateSearchSettings, _searched_template)
_REFINE = Strategy("refine", RefineSettings, _refined_words, _without_lists, ("words",))

_HARD: Words = {"method": "hard", "tune": "frozen"}
_PRIOR_OUT: Words = {**_HARD, "prior": "correct", "calibration": "prior"}
_P_TUNING: Words = {"method": {"name": "p-tuning"}}
_SHOWN = [{"per_label": number} for number in (4, 2, 8, 1, 16)]
_KEPT = [{"keep": share} for share in (0.5, 0.25, 0.75, 1.0, 0.1)]
_WAYS = [{"ways": None}, {"ways": ["edits"]}, {"ways": ["triggers"]}]
_NEAREST: Words = {"choose": "nearest"}
_NUM_TAUGHT, _NUM_REFINED = 300, 200


def _add(name: str, title: str, changes: Words, strategy: Strategy, **rest: Any) -> None:
    Registry.add(StrategyMethod(name, title, changes, strategy, **rest))


_add("in-context", "in-context learning", _HARD, _ICL_ALONE, form="hard", choices=_SHOWN, wording=("template",))
_add(
    "in-context-nearest",
    "in-context learning, nearest demonstrations",
    _HARD,
    _ICL_ALONE,
    form="hard",
    section=_NEAREST,
    choices=_SHOWN,
    wording=("template",),
)
_add(
    "p-tuning-demonstrations",
    "p-tuning behind nearest demonstrations (LM-BFF)",
    _P_TUNING,
    _ICL,
    section={**_NEAREST, "per_label": 1},
    wording=("template",),
    load_per_step=6.0,
)
_add(
    "searched-template",
    "searched template, prior out",
    _PRIOR_OUT,
    _TEMPLATE,
    form="hard",
    choices=_WAYS,
    load_per_step=14.0,  # some hundreds of templates on all rows
)
_add("searched-words", "p-tuning, searched label words", _P_TUNING, _LABELS)
_add("refined-words", "refined label words (KPT)", _PRIOR_OUT, _REFINE, form="hard", choices=_KEPT, unlabelled=_NUM_REFINED)
_add("word-weights", "p-tuning, weights of refined label words (KPT)", _P_TUNING, _REFINE, unlabelled=_NUM_REFINED)
_add("pet", "PET", _P_TUNING, _PET, unlabelled=_NUM_TAUGHT, load_per_step=8.0)
_add("ipet", "iPET", _P_TUNING, _PET, section={"generations": 2}, unlabelled=_NUM_TAUGHT, load_per_step=16.0)
