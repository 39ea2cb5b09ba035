"""Chain of thought: the model writes its reasoning before the answer, as demonstrations do, and the answer is read from that.

In: a recipe of `task: classification` or `generation`, rows with a column of reasoning. Out: a `Reasoner` that answers texts,
and its figures. Of several samples the most frequent answer counts. A text in which no answer is found is not lost: the form of
an answer is put behind what was written, and the model ends it (a label by the exact score of its words, a text by writing on).
Sources: Wei et al. 2022 (rationales in demonstrations); Wang et al. 2023 (self-consistency); Kojima et al. 2022 (the second
question, for the answer).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example
from ptune.errors import DataError, RecipeError
from ptune.model import GenerationModel, PromptModel, with_column
from ptune.objective import wilson
from ptune.prompt import parse_method
from ptune.recipe import Recipe, read_splits
from ptune.strategy.answers import AnswerForm, label_of, plain, vote
from ptune.strategy.demos import demo_text, place_demos
from ptune.task import Task
from ptune.template import Demos, Mask, Node, Template, Text, leading_space
from ptune.template import Field as Column

__all__ = ["ChainOfThoughtSettings", "CotReport", "Reasoned", "Reasoner", "run_chain_of_thought"]

_QUERY_TOKENS = 256
_LEAST_QUERY_TOKENS = 16
_ANSWER_TOKENS = 16
_WRITTEN = "reasoning-so-far"


class ChainOfThoughtSettings(BaseModel):
    """The section `cot:` of a recipe.

    Args:
        rationale: column of the training rows with the reasoning that leads to the answer.
        demos: demonstrations; 0 writes none, so that the template itself has to ask for reasoning.
        answer: how an answer is said at the end of the reasoning, and found there.
        samples: texts to vote; 1 takes the most probable one.
        temperature: of the samples.
        max_new_tokens: of each text.
        separator: text between demonstrations, at which writing ends.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rationale: str = "rationale"
    demos: int = Field(default=4, ge=0)
    answer: str = "The answer is {answer}."
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.7, gt=0)
    max_new_tokens: int = Field(default=128, ge=2)
    separator: str = Field(default="\n\n", min_length=1)


@dataclass(frozen=True)
class Reasoned:
    """What came of one text.

    Args:
        answer: the answer with most votes; None where no text has one.
        votes: of each answer.
        texts: the reasoning of each sample.
        num_asked: texts that said no answer, so that they were asked for it.
    """

    answer: str | None
    votes: dict[str, int]
    texts: tuple[str, ...]
    num_asked: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"answer": self.answer, "votes": self.votes, "texts": list(self.texts), "num_asked": self.num_asked}


@dataclass(frozen=True)
class CotReport:
    """Figures on rows with known answers.

    Args:
        accuracy: share of rows whose answer is right; compared as `answers.plain` writes them.
        interval: its 95 % interval.
        num_rows: rows judged.
        agreement: mean share of the votes that the answer got.
        found: share of texts in which an answer was found without asking for it.
    """

    accuracy: float
    interval: tuple[float, float]
    num_rows: int
    agreement: float
    found: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in ("accuracy", "interval", "num_rows", "agreement", "found")}

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}), {self.num_rows} rows, "
            f"agreement {self.agreement:.2f}, answers found in {100 * self.found:.0f} % of texts"
        )


@dataclass(frozen=True)
class Reasoner:
    """Answers texts by reasoning first.

    Args:
        writer: writes the reasoning behind the demonstrations.
        ender: ends a text that said no answer: scores labels, or writes on.
        form: of an answer.
        labels: label -> words, of classification; else empty.
        demos: the demonstrations' text.
        settings: how to write.
        seed: of the samples.
    """

    writer: GenerationModel
    ender: PromptModel | GenerationModel
    form: AnswerForm
    labels: Mapping[str, Sequence[str]]
    demos: str
    settings: ChainOfThoughtSettings
    seed: int

    def examples(self, texts: Sequence[str | Mapping[str, Any]]) -> tuple[Example, ...]:
        """Texts or rows as `answer` takes them.

        Raises:
            DataError: see `Task.examples`.
        """
        return Task(self.writer).examples(texts)

    def answer(self, examples: Sequence[Example]) -> list[Reasoned]:
        """Answers rows, in their order.

        Raises:
            TemplateError: a row without a field of the template.
        """
        rows = [with_column(example, self.demos) for example in examples]
        many = {"returns": self.settings.samples, "temperature": self.settings.temperature, "seed": self.seed}
        written = self.writer.write(rows, self.writer.settings_of(many if self.settings.samples > 1 else {}))
        texts = [tuple(one.text for one in each) for each in written]
        said = [[self.read(text) for text in each] for each in texts]
        silent = [(at, n) for at, each in enumerate(said) for n, answer in enumerate(each) if answer is None]
        for (at, n), answer in zip(silent, self._ended([(rows[at], texts[at][n]) for at, n in silent]), strict=True):
            said[at][n] = answer
        asked = [at for at, _ in silent]
        return [
            Reasoned(*vote(answers), texts=each, num_asked=asked.count(at))
            for at, (answers, each) in enumerate(zip(said, texts, strict=True))
        ]

    def read(self, text: str) -> str | None:
        """The answer that a text says, of classification a label; None where it says none that can be."""
        answer = self.form.read(text)
        return label_of(answer, self.labels) if answer is not None and self.labels else answer

    def _ended(self, unfinished: Sequence[tuple[Example, str]]) -> list[str | None]:
        """Answers to texts that said none."""
        if not unfinished:
            return []
        rows = [replace(row, fields={**row.fields, _WRITTEN: text}) for row, text in unfinished]
        if isinstance(self.ender, PromptModel):
            return [one.label for one in self.ender.predict(rows)]
        return [self.form.read(self.form.start + " " + one.text) for one in self.ender.predict(rows)]

    def judge(self, examples: Sequence[Example], found: Sequence[Reasoned]) -> CotReport:
        """Compares answers with the rows' own.

        Args:
            examples: rows with a label, or with the target.
            found: what `answer` gave for them.
        """
        true = [str(e.label if self.labels else self.writer.value(e, "target")) for e in examples]
        num_right = sum(
            one.answer is not None and plain(one.answer) == plain(right) for one, right in zip(found, true, strict=True)
        )
        num_texts = sum(len(one.texts) for one in found)
        return CotReport(
            accuracy=num_right / len(found),
            interval=wilson(num_right, len(found)),
            num_rows=len(found),
            agreement=sum(max(one.votes.values(), default=0) / len(one.texts) for one in found) / len(found),
            found=1 - sum(one.num_asked for one in found) / num_texts,
        )


def run_chain_of_thought(
    recipe: Recipe, settings: ChainOfThoughtSettings, *, say: Callable[[str], None] = lambda line: None
) -> tuple[Reasoner, CotReport | None]:
    """Chooses demonstrations among the training rows and judges answers on the test or validation rows, where there are some.

    Args:
        recipe: with `method: hard`, and a template with `{demos}` that ends with `{mask}`.
        settings: its section `cot`.
        say: told what happens.

    Raises:
        RecipeError: another kind of task or method, no place for the demonstrations, or no room.
        DataError: too few rows with reasoning, or reasoning that holds the separator.
    """
    form = AnswerForm(settings.answer)
    _check(recipe, settings)
    words = _label_words(recipe)
    splits = read_splits(recipe)
    chosen = _choose(recipe, settings, splits.train)
    template = recipe.parsed_template()
    shown = [demo_text(template, row, _worked(recipe, settings, form, row, words)) for row in chosen]
    demos = settings.separator.join(shown)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    whole = place_demos(template, Demos(), Text(settings.separator)) if shown else place_demos(template)
    length = _length(recipe, settings, backbone, demos)
    writer = GenerationModel.build(
        backbone=backbone,
        template=whole,
        method="hard",
        max_new_tokens=settings.max_new_tokens,
        terminator=settings.separator,
        max_length=length,
        columns=recipe.task_columns,
    )
    ender = _ender(recipe, _asking(whole, form), backbone, length)
    reasoner = Reasoner(writer, ender, form, words, demos, settings, recipe.seed)
    judged = splits.test or splits.validation
    if not judged:
        return reasoner, None
    say(f"{len(chosen)} demonstrations, {settings.samples} texts for each of {len(judged)} rows")
    return reasoner, reasoner.judge(judged, reasoner.answer(judged))


def _ender(recipe: Recipe, template: Template, backbone: Backbone, length: int) -> PromptModel | GenerationModel:
    """What ends a text that said no answer."""
    common: dict[str, Any] = {"backbone": backbone, "template": template, "method": "hard", "max_length": length}
    if recipe.task == "classification":
        return PromptModel.build(**common, labels=recipe.verbalizer())
    return GenerationModel.build(**common, max_new_tokens=_ANSWER_TOKENS, decode={"stop": ["\n"]}, columns=recipe.task_columns)


def _asking(template: Template, form: AnswerForm) -> Template:
    """The template with what was written in its answer slot, and the beginning of an answer behind that."""
    front = list(template.before_mask())
    if front and isinstance(front[-1], Text):
        front[-1] = Text(front[-1].text.rstrip(" "))
    space = template.word_prefix(form.start)
    nodes: list[Node] = [*front, Text(space), Column(_WRITTEN), Text(_joint(form.start) + form.start), Mask()]
    return Template(tuple(node for node in nodes if node != Text("")))


def _joint(start: str) -> str:
    """What stands between reasoning and answer: a space in scripts that have some, unless the form has its own."""
    return "" if start[0].isspace() else leading_space(start, start, left_is_open=False)


def _worked(
    recipe: Recipe, settings: ChainOfThoughtSettings, form: AnswerForm, row: Example, words: Mapping[str, Sequence[str]]
) -> str:
    """A demonstration's reasoning and its answer.

    Raises:
        DataError: the reasoning holds the separator, at which writing would end.
    """
    reasoning = str(row.fields[settings.rationale]).strip()
    if settings.separator in reasoning:
        raise DataError(
            f"the reasoning holds {settings.separator!r}, which ends a demonstration",
            where=row.where,
            fix="join its paragraphs, or set another cot.separator",
        )
    answer = words[str(row.label)][0] if words else str(row.fields[recipe.task_columns["target"]]).strip()
    return reasoning + _joint(form.start) + form.say(answer)


def _label_words(recipe: Recipe) -> Mapping[str, Sequence[str]]:
    """Label -> words by which it may be named; none for texts.

    Raises:
        RecipeError: labels that are one answer when they are compared.
    """
    if recipe.task != "classification":
        return {}
    words = recipe.verbalizer().words
    owner: dict[str, str] = {}
    for name, listed in words.items():
        for said in {plain(word) for word in (name, *listed)}:
            if owner.setdefault(said, name) != name:
                raise RecipeError(
                    f"labels {owner[said]!r} and {name!r} are both answered by {said!r}", where="labels", fix="name them apart"
                )
    return words


def _choose(recipe: Recipe, settings: ChainOfThoughtSettings, rows: Sequence[Example]) -> tuple[Example, ...]:
    """Rows with reasoning, drawn with the seed; labels take turns.

    Raises:
        DataError: too few.
    """
    worked = [row for row in rows if str(row.fields.get(settings.rationale, "")).strip()]
    if len(worked) < settings.demos:
        raise DataError(
            f"{len(worked)} of {len(rows)} training rows have reasoning in the column {settings.rationale!r}, "
            f"{settings.demos} are to be shown",
            where="cot.rationale",
            fix="name the column, write more, or lower cot.demos",
        )
    random.Random(recipe.seed).shuffle(worked)
    turn: dict[str | None, int] = {}
    order: dict[int, int] = {}
    for at, row in enumerate(worked):
        order[at] = turn.get(row.label, 0)
        turn[row.label] = order[at] + 1
    ranked = sorted(range(len(worked)), key=lambda at: order[at])
    return tuple(worked[at] for at in ranked[: settings.demos])


def _length(recipe: Recipe, settings: ChainOfThoughtSettings, backbone: Backbone, demos: str) -> int:
    """Tokens of a row: demonstrations, the text with its usual room, and what is written.

    Raises:
        RecipeError: the model has too few positions.
    """
    fixed = len(backbone.tokens.ids(demos)) + settings.max_new_tokens + _ANSWER_TOKENS
    limit = backbone.spec.max_positions
    if limit is not None and fixed + _LEAST_QUERY_TOKENS > limit:
        raise RecipeError(
            f"demonstrations and {settings.max_new_tokens} new tokens take {fixed} of the {limit} positions of "
            f"{backbone.spec.name}, so that no text fits beside them",
            where="cot",
            fix="lower cot.demos or cot.max_new_tokens",
        )
    wanted = fixed + (recipe.max_length or _QUERY_TOKENS)
    return wanted if limit is None else min(wanted, limit)


def _check(recipe: Recipe, settings: ChainOfThoughtSettings) -> None:
    if recipe.task not in ("classification", "generation") or recipe.head is not None:
        raise RecipeError(
            "reasoning leads to a label or a text", where="task", fix="use task: classification with label words, or generation"
        )
    template = recipe.parsed_template()
    if template.has_soft or parse_method(recipe.method).name != "hard" or recipe.tune != "frozen" or recipe.augment:
        fix = "take {soft}, tune and augment out, set method: hard"
        raise RecipeError("chain of thought trains nothing", where="method", fix=fix)
    if settings.demos and not any(isinstance(node, Demos) for node in template.nodes):
        raise RecipeError(
            "the template has no place for demonstrations",
            where="template",
            fix='write "{demos}Question: {text}\\nAnswer:{mask}", or set cot.demos: 0',
        )
