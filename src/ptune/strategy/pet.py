"""PET and iPET: one model per pattern learns from a few labels, together they label texts, and one student learns from that.

In: a recipe (the student's; its `train` rows carry labels) with a section `pet:`. Out: the student as a `Task`, whose facts
say what each pattern was worth. Every model, the student too, is a recipe run by the usual loop. With `tune: frozen` each
pattern learns a prompt on the frozen model; with `tune: lm` it trains a copy of the whole model, as the papers do, which may go
on reading meanwhile (`language_loss`). Source: Schick & Schütze 2021 (Exploiting Cloze Questions; It's Not Just Size That
Matters). Deviations: the language loss is off by default; scores have the model's own preference taken out (`prior: keep`
leaves it in); equal weights where all are 0.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example, fingerprint, has_splits, read_examples
from ptune.errors import RecipeError
from ptune.model import PromptModel, ReadingAlong, TaskModel, judge_scores
from ptune.recipe import Recipe, Splits, build_model, read_splits, run
from ptune.strategy.generations import EmptyClass, next_set, teachers_of
from ptune.strategy.members import Member, MemberFiles
from ptune.strategy.teaching import pattern_weights, soft_labels, teach
from ptune.task import Task
from ptune.train import Listener, RunFolder

__all__ = ["Pet", "PetSettings", "run_pet"]

Say = Callable[[str], None]
_OF_RUN = ("test", "validation", "shots", "hold_out", "patience", "temperature", "augment", "dtype", "device", "text_start")
"""Recipe keys that stay with the whole run: its models are given their rows and the loaded backbone."""
_OF_LABELS = ("label_loss", "label_conditioning", "contrastive")
"""Recipe keys of losses that need labels, which the student's texts have not."""


class PetSettings(BaseModel):
    """The section `pet:` of a recipe.

    Args:
        patterns: recipe keys of each pattern: `template`, and `labels` or any other key where it differs from the recipe's.
        unlabelled: texts to be labelled: a file, a folder of splits, a hub id, or rows; labels in them are not looked at.
        seeds: models of each pattern.
        generations: 1 is PET; with more, models label growing sets for each other (iPET).
        growth: how many times larger each generation's set is.
        teachers: share of the other models that label a model's next set.
        temperature: T of the soft labels and of the student while it learns.
        weights: `accuracy` of each pattern on the labelled rows before training, or `equal`.
        language_loss: share of the language model's loss on unlabelled texts while a pattern's model learns (the paper's is
            1e-4); with `tune: lm` alone.
        student: recipe keys of the student where they differ from the recipe's, such as `steps` or `head`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patterns: list[dict[str, Any]] = Field(min_length=1)
    unlabelled: Any
    seeds: int = Field(default=1, ge=1)
    generations: int = Field(default=1, ge=1)
    growth: int = Field(default=5, ge=2)
    teachers: float = Field(default=0.25, gt=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    weights: Literal["accuracy", "equal"] = "accuracy"
    language_loss: float = Field(default=0.0, ge=0, lt=1)
    student: dict[str, Any] = {}


def run_pet(
    recipe: Recipe,
    settings: PetSettings,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    say: Say = lambda line: None,
) -> Task:
    """Runs PET or iPET and returns the student.

    Args:
        recipe: of the student; its training rows are the labelled ones.
        settings: its section `pet`.
        out: folder of the run; None writes nothing.
        resume: go on with the run in `out`: models that are trained are not trained again.
        listeners: called after every step of every model.
        say: told what happens, a line at a time.

    Raises:
        PtuneError: anything wrong with the input, before any model is trained.
    """
    return Pet(recipe, settings, listeners, say).run(out, resume=resume)


class Pet:
    """A run of PET; see `run_pet`.

    Args:
        recipe, settings, listeners, say: as in `run_pet`.
    """

    def __init__(self, recipe: Recipe, settings: PetSettings, listeners: Sequence[Listener], say: Say) -> None:
        if recipe.task != "classification":
            raise RecipeError(f"PET is for task: classification, not for {recipe.task}", where="task", fix="leave pet out")
        self.recipe, self.settings, self.listeners, self.say = recipe, settings, listeners, say
        self.patterns = [self._pattern(number, keys) for number, keys in enumerate(settings.patterns)]
        for key in _OF_LABELS:
            if settings.student.get(key) not in (None, 0, "cross-entropy"):
                raise RecipeError(
                    "the student learns distributions, not labels", where=f"pet.student.{key}", fix="leave it out"
                )
        own = {**dict.fromkeys(("folds", "pull", *_OF_LABELS)), **settings.student}
        self.student = _changed(recipe, own, where="pet.student")
        self.splits = read_splits(recipe)
        self.judged = self.splits.test or self.splits.validation
        self.unlabelled = self._read_unlabelled()
        for pattern in self.patterns:
            read_splits(pattern)
            if settings.language_loss and pattern.tune != "lm":
                raise RecipeError(
                    "a frozen model cannot read on", where="pet.language_loss", fix="set tune: lm, or leave it out"
                )

    def run(self, out: str | Path | None, *, resume: bool = False) -> Task:
        """Trains the patterns' models, generation by generation, then the student."""
        recipe, folder = self.recipe, None if out is None else RunFolder(Path(out))
        self.files = MemberFiles(out, self._identity(), resume=resume)
        self.files.begin(self._identity())
        backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
        members, ended = self._generations(backbone)
        weights = self._weights(members)
        scores = torch.stack([member.scores for member in members])
        targets = soft_labels(scores, weights, temperature=self.settings.temperature)
        self.say(f"the student learns from {len(self.unlabelled)} texts")
        model, result = teach(
            self.student, backbone, self.unlabelled, targets, temperature=self.settings.temperature, listeners=self.listeners
        )
        facts = self._facts(members, weights, ended, model)
        facts["training"] = {"steps": len(result.losses), "seconds": round(result.seconds, 2)}
        if self.judged:
            facts["tuned"] = model.judge(self.judged).to_dict()
        task = Task(model.requires_grad_(False), facts)
        if folder is not None:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_json("summary.json", facts)
            task.save(folder.bundle_path)
        return task

    # -- generations -------------------------------------------------------------------------------------------------

    def _generations(self, backbone: Backbone) -> tuple[list[Member], str]:
        """The last generation's models, and why there was none after it (empty where all were run)."""
        sets: list[tuple[Example, ...]] = [self.splits.train] * (len(self.patterns) * self.settings.seeds)
        members = self._train(backbone, sets, generation=1)
        rng = random.Random(self.recipe.seed)
        for generation in range(2, self.settings.generations + 1):
            try:
                sets = [self._grown(members, number, generation, rng) for number in range(len(members))]
            except EmptyClass as empty:
                name = self.recipe.label_names()[empty.label]
                ended = f"no unlabelled text is predicted to be {name!r}, so generation {generation} was not begun"
                self.say(ended)
                return members, ended
            members = self._train(backbone, sets, generation=generation)
        return members, ""

    def _train(self, backbone: Backbone, sets: Sequence[tuple[Example, ...]], *, generation: int) -> list[Member]:
        members = []
        for number, rows in enumerate(sets):
            pattern, copy = divmod(number, self.settings.seeds)
            name = f"{generation}-{number}"
            member = self.files.find(name)
            if member is None:
                member = self._member(pattern, self.recipe.seed + copy, rows, backbone)
                self.files.keep(name, member)
            members.append(member)
            accuracy = "" if member.accuracy is None else f", accuracy {member.accuracy:.3f}"
            self.say(f"generation {generation}, pattern {pattern + 1}, seed {member.seed}: {len(rows)} rows{accuracy}")
        return members

    def _member(self, pattern: int, seed: int, rows: tuple[Example, ...], backbone: Backbone) -> Member:
        """Trains one pattern's model, and keeps what it says."""
        keys = {"train": rows, "seed": seed, **dict.fromkeys(_OF_RUN)}
        chosen = _changed(self.patterns[pattern], {**keys, "backbone": backbone}, where=f"pet.patterns[{pattern}]")
        before = self._accuracy_before(chosen, backbone)
        task = run(chosen, listeners=self.listeners, beside=self._reads_along if self.settings.language_loss else None)
        model = task.model
        assert isinstance(model, PromptModel)
        scores = model.scores(model.prepare(self.unlabelled))
        judged = model.scores(model.prepare(self.judged)) if self.judged else None
        accuracy = None if judged is None else judge_scores(model, self.judged, judged).accuracy
        return Member(pattern, seed, before, accuracy, len(rows), scores, judged)

    def _reads_along(self, model: TaskModel) -> ReadingAlong:
        """The model with the language loss, on each text as it stands in the template's fields."""
        values = [[row.fields[name] for name in model.template.field_names] for row in self.unlabelled]
        texts = [" ".join(v if isinstance(v, str) else " ".join(v) for v in row) for row in values]
        return ReadingAlong(model, texts, weight=self.settings.language_loss, batch_size=self.recipe.batch_size)

    def _accuracy_before(self, chosen: Recipe, backbone: Backbone) -> float:
        """A pattern's accuracy on the labelled rows before training."""
        model = build_model(chosen, backbone, Splits(self.splits.train))
        rows = model.prepare(self.splits.train)
        if chosen.prior == "correct":
            model.take_out_prior(rows)
        return model.looks(rows)[0].score

    def _grown(self, members: Sequence[Member], number: int, generation: int, rng: random.Random) -> tuple[Example, ...]:
        """The labelled rows with texts that other models label, each class in its share of the labelled rows."""
        names = self.recipe.label_names()
        factor = self.settings.growth ** (generation - 1) - 1
        wanted = [factor * sum(row.label == name for row in self.splits.train) for name in names]
        asked = teachers_of(number, len(members), self.settings.teachers, rng) or [number]
        scores = torch.stack([members[other].scores for other in asked])
        chosen = next_set(scores, self._weights([members[other] for other in asked]), wanted, rng)
        return (*self.splits.train, *(replace(self.unlabelled[at], label=names[label]) for at, label in chosen))

    def _weights(self, members: Sequence[Member]) -> list[float]:
        equal = self.settings.weights == "equal"
        return pattern_weights([1.0 if equal else member.before for member in members])

    def _identity(self) -> dict[str, Any]:
        """What decides every member."""
        settings = self.settings.model_dump(exclude={"student", "unlabelled"})
        rows = {"labelled": fingerprint(self.splits.train), "unlabelled": fingerprint(self.unlabelled)}
        return {"recipe": self.recipe.to_dict(), "settings": settings, "rows": rows, "judged": fingerprint(self.judged)}

    # -- reading and reporting ---------------------------------------------------------------------------------------

    def _pattern(self, number: int, keys: dict[str, Any]) -> Recipe:
        where = f"pet.patterns[{number}]"
        if "template" not in keys:
            raise RecipeError("a pattern has no template", where=where, fix='write {template: "{text} It was{mask}"}')
        pattern = _changed(self.recipe, keys, where=where)
        if pattern.label_names() != self.recipe.label_names():
            raise RecipeError(
                f"the labels are {', '.join(pattern.label_names())}, the recipe's {', '.join(self.recipe.label_names())}",
                where=where,
                fix="give the same labels in the same order; only their words may differ",
            )
        return pattern

    def _read_unlabelled(self) -> tuple[Example, ...]:
        source = self.settings.unlabelled
        names = tuple(dict.fromkeys(n for one in (*self.patterns, self.student) for n in one.parsed_template().field_names))
        split = "train" if has_splits(source) else None
        recipe = self.recipe
        rows = read_examples(source, fields=names, label=None, columns=recipe.columns, encoding=recipe.encoding, split=split)
        return tuple(replace(row, label=None, fields=_without(row, recipe.label)) for row in rows)

    def _facts(self, members: Sequence[Member], weights: Sequence[float], ended: str, model: PromptModel) -> dict[str, Any]:
        recipe = self.recipe
        facts: dict[str, Any] = {
            "seed": recipe.seed,
            "recipe": recipe.to_dict(),
            "data": {"train_rows": len(self.splits.train), "train_fingerprint": fingerprint(self.splits.train)},
            "judged_on": "test" if self.splits.test else "validation" if self.splits.validation else None,
            "trained_parameters": model.num_trained,
        }
        figures: dict[str, Any] = {
            "language_model": "tuned" if recipe.tune == "lm" else "frozen",
            "unlabelled_rows": len(self.unlabelled),
            "generations": self.settings.generations,
            "ended_early": ended,
            "members": [{**member.to_dict(), "weight": weight} for member, weight in zip(members, weights, strict=True)],
        }
        if self.judged:
            joined = soft_labels(torch.stack([_judged(member) for member in members]), weights, temperature=1.0)
            figures["ensemble_accuracy"] = judge_scores(model, self.judged, joined.clamp(min=1e-12).log()).accuracy
            figures["mean_of_patterns"] = mean(member.accuracy or 0.0 for member in members)
        return {**facts, "pet": figures}


def _changed(recipe: Recipe, keys: dict[str, Any], *, where: str) -> Recipe:
    """The recipe with other values for some keys, checked anew."""
    values = {key: getattr(recipe, key) for key in recipe.model_fields_set}
    return Recipe.of({**values, **keys}, where=where)


def _judged(member: Member) -> Tensor:
    assert member.judged is not None
    return member.judged


def _without(row: Example, column: str) -> dict[str, Any]:
    return {name: value for name, value in row.fields.items() if name != column}
