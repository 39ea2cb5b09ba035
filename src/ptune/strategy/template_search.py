"""Templates are searched for: near the given one, by gradients, or in the model's words; rows that propose none of them judge.

In: a recipe with a template to begin with and labelled rows. Out: `FoundTemplates`, to paste into the recipe. The rows are
dealt into folds. For each fold the other rows propose templates and keep the best of them; the fold's own rows judge these,
beside the given template, the prior taken out by the proposing rows' texts. A template's gain is its mean over all folds, where
a fold that did not propose it counts as none: what only one fold came upon has to be much better than what they all did.
Sources: see `template_edits.py` (GrIPS), `trigger_tokens.py` (AutoPrompt), `infill.py` (LM-BFF), `mined.py`, `paraphrase.py`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example, has_splits, read_examples
from ptune.errors import DataError, PtuneError, RecipeError
from ptune.model import PromptModel, fold_numbers
from ptune.readout import log_prior
from ptune.recipe import Recipe, read_splits
from ptune.strategy.infill import can_infill, infill_templates
from ptune.strategy.mined import mined_phrases, mined_templates, texts_of
from ptune.strategy.paraphrase import can_paraphrase, paraphrase_templates
from ptune.strategy.template_edits import edit_templates
from ptune.strategy.trigger_tokens import trigger_templates
from ptune.template import Demos, Template

__all__ = ["FoundTemplate", "FoundTemplates", "TemplateSearchSettings", "search_template"]

Way = Literal["edits", "triggers", "mined", "infill", "paraphrases"]
Value = tuple[float, float]


class TemplateSearchSettings(BaseModel):
    """The section `search_template:` of a recipe.

    Args:
        ways: how templates are proposed: `edits` of the given one, `triggers` by gradients, `mined` from texts that say a label
            word, `infill` by a model that sees both sides of a gap, `paraphrases` by a causal one; None takes all that it can.
        unlabelled: further texts to mine: a file, a folder of splits, a hub id, or rows; labels in them are not looked at.
        folds: parts that the rows are dealt into.
        rounds: how often edits and triggers go on from the best.
        tried: templates that they look at in each round; of the other ways, templates in all.
        kept: templates of each fold that are judged.
        longest: words that are filled in, or mined, at most.
        num_frequent: words of the vocabulary to choose among, the most frequent first.
        num_shown: templates shown beside the best.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ways: tuple[Way, ...] | None = Field(default=None, min_length=1)
    unlabelled: Any = None
    folds: int = Field(default=4, ge=2, le=16)
    rounds: int = Field(default=3, ge=1)
    tried: int = Field(default=8, ge=1)
    kept: int = Field(default=8, ge=1)
    longest: int = Field(default=3, ge=1, le=8)
    num_frequent: int = Field(default=2000, ge=10)
    num_shown: int = Field(default=5, ge=0)


@dataclass(frozen=True)
class FoundTemplate:
    """A template and what it is worth on rows that did not propose it.

    Args:
        template: as a recipe writes it.
        way: how it was found; `given` for the one of the recipe.
        gain: mean over all folds of its accuracy less the given one's; folds that did not propose it count as 0.
        loss_gain: the same of the given one's loss less its own.
        accuracy: on the rows that judged it.
        given_accuracy: of the given template on the same rows.
        num_rows: rows that judged it.
        num_folds: folds that proposed it.
    """

    template: str
    way: str
    gain: float
    loss_gain: float
    accuracy: float
    given_accuracy: float
    num_rows: int
    num_folds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.way}: accuracy {self.accuracy:.3f} on {self.num_rows} rows, the given one {self.given_accuracy:.3f}; "
            f"gain {self.gain:+.3f}"
        )


@dataclass(frozen=True)
class FoundTemplates:
    """What the search found.

    Args:
        best: the given template where none was better.
        others: runners-up, the best first.
        num_tried: templates that were scored.
        num_judged: templates that were judged on rows of their own.
        num_folds: K.
    """

    best: FoundTemplate
    others: tuple[FoundTemplate, ...]
    num_tried: int
    num_judged: int
    num_folds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "template": self.best.template,
            "best": self.best.to_dict(),
            "others": [one.to_dict() for one in self.others],
            "num_tried": self.num_tried,
            "num_judged": self.num_judged,
            "num_folds": self.num_folds,
        }

    def to_yaml(self) -> str:
        """`template:` for a recipe, with the runners-up and their figures as remarks."""
        lines = [f"# {self.best}", _as_yaml(self.best.template)]
        for one in self.others:
            lines += [f"# or, {one}", f"# {_as_yaml(one.template)}"]
        return "\n".join(lines) + "\n"


class _Judge:
    """Scores each template once on all rows; what it is worth on some of them is then a sum.

    Args:
        recipe: with label words.
        backbone: loaded.
        examples: all rows.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone, examples: Sequence[Example]) -> None:
        self._backbone, self._labels, self._examples = backbone, recipe.verbalizer(), examples
        self._settings: dict[str, Any] = {"max_length": recipe.max_length, "fill": recipe.fill}
        self._true = torch.tensor([self._labels.labels.index(str(example.label)) for example in examples])
        self._scores: dict[str, Tensor | None] = {}

    @property
    def num_scored(self) -> int:
        """Templates so far."""
        return len(self._scores)

    def worth(self, template: Template, judged: Sequence[int], proposing: Sequence[int]) -> Value | None:
        """Accuracy and negative loss on some rows, the proposing rows' prior taken out; None if it cannot be read."""
        key = str(template)
        if key not in self._scores:
            try:
                self.score(template)
            except PtuneError:  # an edit that leaves no room for a text, say
                self._scores[key] = None
        scores = self._scores[key]
        if scores is None:
            return None
        rows = list(judged)
        corrected = scores[rows] - log_prior(scores[list(proposing)])
        accuracy = (corrected.argmax(1) == self._true[rows]).float().mean()
        return round(float(accuracy), 6), -float(torch.nn.functional.cross_entropy(corrected, self._true[rows]))

    def score(self, template: Template) -> None:
        """Label scores [N, C] of all rows as the model gives them, to be kept.

        Raises:
            PtuneError: the template cannot be used.
        """
        model = PromptModel.build(
            backbone=self._backbone, template=template, labels=self._labels, method="hard", **self._settings
        )
        self._scores[str(template)] = model.scores(model.prepare(self._examples))


def search_template(
    recipe: Recipe, settings: TemplateSearchSettings | None = None, *, say: Callable[[str], None] = lambda line: None
) -> FoundTemplates:
    """Finds a template on a recipe's training rows.

    Args:
        recipe: with label words; learned tokens of its template are left out.
        settings: how far to look.
        say: told what happens.

    Raises:
        RecipeError: another kind of task, a head, demonstrations, or a way that the model cannot go.
        DataError: a label with fewer rows than there are folds, or texts to mine that cannot be read or say no label word.
        TemplateError: the given template cannot be used.
    """
    settings = settings or TemplateSearchSettings()
    given = _checked(recipe)
    examples = read_splits(recipe).train
    folds = _dealt(recipe, examples, settings.folds)
    further = _further_texts(recipe, settings, examples)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    ways = _ways(settings, backbone)
    judge = _Judge(recipe, backbone, examples)
    judge.score(given)  # what is wrong with it is said before work starts
    found: dict[str, list[tuple[str, int, Value, Value]]] = {}
    for fold in range(settings.folds):
        held = [at for at, number in enumerate(folds) if number == fold]
        mine = [at for at, number in enumerate(folds) if number != fold]
        common: dict[str, Any] = {"further": further, "seed": recipe.seed + fold}
        proposed = _proposed(recipe, settings, given, backbone, judge, examples, mine, ways, **common)
        base = judge.worth(given, held, mine)
        for template, way in proposed:
            worth = judge.worth(template, held, mine)
            assert worth is not None and base is not None
            found.setdefault(str(template), []).append((way, len(held), worth, base))
        say(f"fold {fold + 1} of {settings.folds}: {len(proposed)} templates judged, {judge.num_scored} scored so far")
    ranked = sorted((_summed(text, each, settings.folds) for text, each in found.items()), key=_rank)
    own = _given(judge, given, folds, settings.folds)
    is_better = bool(ranked) and (round(ranked[0].gain, 6), ranked[0].loss_gain) > (0.0, 0.0)
    whole = [*ranked, own] if is_better else [own, *ranked]
    return FoundTemplates(whole[0], tuple(whole[1 : 1 + settings.num_shown]), judge.num_scored, len(found), settings.folds)


def _proposed(
    recipe: Recipe,
    settings: TemplateSearchSettings,
    given: Template,
    backbone: Backbone,
    judge: _Judge,
    examples: Sequence[Example],
    mine: Sequence[int],
    ways: Sequence[Way],
    *,
    further: Sequence[str],
    seed: int,
) -> list[tuple[Template, Way]]:
    """The best templates that some rows propose, with the way they were found."""
    rows, labels = [examples[at] for at in mine], recipe.verbalizer()

    def value(template: Template) -> Value | None:
        return judge.worth(template, mine, mine)

    common: dict[str, Any] = {"max_length": recipe.max_length, "num_frequent": settings.num_frequent}
    steps: dict[str, int] = {"rounds": settings.rounds, "tried": settings.tried}
    pool: dict[str, tuple[Template, Way]] = {}
    for way in ways:
        match way:
            case "edits":
                found = edit_templates(given, value, **steps, seed=seed)
            case "triggers":
                found = trigger_templates(given, value, rows, labels, backbone, fill=recipe.fill, **steps, **common)
            case "mined":
                texts, limits = [*texts_of(rows, given.field_names), *further], {"longest": settings.longest}
                found = mined_templates(given, texts, labels.words, **limits, count=settings.tried)
            case "infill":
                answers = {name: words[0] for name, words in labels.words.items()}
                limits = {"longest": settings.longest, "beam": settings.tried}
                found = infill_templates(given, rows, answers, backbone, **limits, **common)
            case "paraphrases":  # the same ones in each fold
                found = paraphrase_templates(given, backbone, count=settings.tried, seed=recipe.seed)
        for template in found:
            if template != given:
                pool.setdefault(str(template), (template, way))
    worth = {key: value(template) for key, (template, _) in pool.items()}
    usable = [(worth[key] or (0.0, 0.0), key) for key in pool if worth[key] is not None]
    usable.sort(key=lambda one: (-one[0][0], -one[0][1], one[1]))
    return [pool[key] for _, key in usable[: settings.kept]]


def _summed(template: str, each: Sequence[tuple[str, int, Value, Value]], num_folds: int) -> FoundTemplate:
    """A template's figures over the folds that proposed it."""
    num_rows = sum(rows for _, rows, _, _ in each)
    return FoundTemplate(
        template,
        way=each[0][0],
        gain=sum(worth[0] - base[0] for _, _, worth, base in each) / num_folds,
        loss_gain=sum(worth[1] - base[1] for _, _, worth, base in each) / num_folds,
        accuracy=sum(rows * worth[0] for _, rows, worth, _ in each) / num_rows,
        given_accuracy=sum(rows * base[0] for _, rows, _, base in each) / num_rows,
        num_rows=num_rows,
        num_folds=len(each),
    )


def _given(judge: _Judge, given: Template, folds: Sequence[int], num_folds: int) -> FoundTemplate:
    """The recipe's own template, judged as the others are."""
    each: list[tuple[str, int, Value, Value]] = []
    for fold in range(num_folds):
        held = [at for at, number in enumerate(folds) if number == fold]
        worth = judge.worth(given, held, [at for at, number in enumerate(folds) if number != fold])
        assert worth is not None
        each.append(("given", len(held), worth, worth))
    return replace(_summed(str(given), each, num_folds), gain=0.0, loss_gain=0.0)


def _rank(one: FoundTemplate) -> tuple[float, float, int, str]:
    """The largest gain first, of equals the lower loss, then the shorter template."""
    return -round(one.gain, 6), -one.loss_gain, len(one.template), one.template


def _dealt(recipe: Recipe, examples: Sequence[Example], num_folds: int) -> tuple[int, ...]:
    """A fold for each row.

    Raises:
        DataError: a label with fewer rows than folds.
    """
    names = recipe.label_names()
    for name in names:
        have = sum(example.label == name for example in examples)
        if have < num_folds:
            raise DataError(
                f"label {name!r} has {have} rows for {num_folds} folds, each of which must hold one",
                where="search_template.folds",
                fix=f"set folds: {have}" if have > 1 else "give more rows",
            )
    return fold_numbers([names.index(str(example.label)) for example in examples], num_folds)


def _further_texts(recipe: Recipe, settings: TemplateSearchSettings, examples: Sequence[Example]) -> list[str]:
    """Texts to mine beside those of the rows.

    Raises:
        DataError: they cannot be read, or mining was asked for and no text says a label word behind others.
    """
    source, names = settings.unlabelled, recipe.parsed_template().field_names
    split = "train" if source is not None and has_splits(source) else None
    read: dict[str, Any] = {"label": None, "columns": recipe.columns, "encoding": recipe.encoding, "split": split}
    further = [] if source is None else texts_of(read_examples(source, fields=names, **read), names)
    whole = [*texts_of(examples, names), *further]
    if "mined" in (settings.ways or ()) and not mined_phrases(whole, recipe.verbalizer().words, longest=settings.longest):
        what = f"no text leads to a label word in {settings.longest} words or fewer, so nothing can be mined"
        raise DataError(what, where="search_template.ways", fix="give more texts (unlabelled), or use the other ways")
    return further


def _ways(settings: TemplateSearchSettings, backbone: Backbone) -> tuple[Way, ...]:
    """The ways to go.

    Raises:
        RecipeError: infilling by a causal model, paraphrases by one of another kind or with few positions.
    """
    if settings.ways is None:
        own: list[Way] = ["infill"] if can_infill(backbone) else ["paraphrases"] if can_paraphrase(backbone) else []
        return ("edits", "triggers", "mined", *own)
    if "paraphrases" in settings.ways and not can_paraphrase(backbone):
        raise RecipeError(
            f"{backbone.spec.name} is no causal model that reads 256 tokens, so it cannot paraphrase",
            where="search_template.ways",
            fix="use the other ways, or another model",
        )
    if "infill" in settings.ways and not can_infill(backbone):
        raise RecipeError(
            f"{backbone.spec.name} is causal: it does not see what stands behind a gap, so it cannot fill one",
            where="search_template.ways",
            fix="use edits and triggers, or a masked or encoder-decoder model",
        )
    return tuple(dict.fromkeys(settings.ways))


def _checked(recipe: Recipe) -> Template:
    """The hard template to begin with.

    Raises:
        RecipeError: the recipe is no classification by label words, shows demonstrations, or has several answer slots.
    """
    if recipe.task != "classification" or not recipe.has_label_words:
        raise RecipeError(
            "a template is searched for classification by label words", where="task", fix="leave task and head out"
        )
    template = recipe.parsed_template()
    if template.num_masks > 1:
        raise RecipeError("a template is searched around one answer slot", where="template", fix="keep one {mask}")
    if any(isinstance(node, Demos) for node in template.nodes):
        raise RecipeError("a template is searched without demonstrations", where="template", fix="take {demos} out")
    return template.without_soft()


def _as_yaml(template: str) -> str:
    """One line, also of a template with line breaks: a JSON string is a YAML string."""
    return f"template: {json.dumps(template, ensure_ascii=False)}"
