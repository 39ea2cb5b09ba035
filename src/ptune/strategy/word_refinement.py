"""Long lists of label words, refined by the model: seldom and unspecific words left out, the others weighed by their priors.

In: a recipe and lists of words for its labels (a dictionary's, a thesaurus', one's own). Out: `RefinedWords`: `labels:` for the
recipe. The weights are one over each word's prior, so that with `aggregate: logsumexp` the recipe scores the mean of calibrated
probabilities, up to a constant of each label that `prior: correct` takes out. Source: see `readout/word_lists.py`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ptune.backbone import load_backbone
from ptune.data import Example, has_splits, label_text, listed, read_examples
from ptune.errors import RecipeError, VerbalizerError
from ptune.inputs import Tokens
from ptune.model import PromptModel
from ptune.readout import Verbalizer, kept_words, mean_calibrated, word_prior, word_relevance
from ptune.recipe import Recipe, parse_yaml, read_splits
from ptune.strategy.label_search import vocabulary_scores, word_ids, words_template
from ptune.template import Template

__all__ = ["ListedWord", "RefineSettings", "RefinedWords", "refine_words"]

WordLists = Mapping[str, Sequence[str]]
_REASONS = {
    "unknown": "no word that the tokenizer knows",
    "several tokens": "of several tokens",
    "shared": "another label's too",
}


class RefineSettings(BaseModel):
    """The section `refine:` of a recipe.

    Args:
        words: the lists, {label: [words]}, or a YAML or JSON file of them; None takes the recipe's `labels`. The first word of
            each stands for its label.
        unlabelled: texts by which words are judged: a file, a folder of splits, a hub id, or rows; None takes the training
            texts, their labels not looked at.
        num_texts: how many of them are read, drawn by the recipe's seed.
        keep: share of the words that stays, those that the model writes most readily.
        min_relevance: how much nearer to its own label than to the others a word must be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: Any = None
    unlabelled: Any = None
    num_texts: int = Field(default=200, ge=2)
    keep: float = Field(default=0.5, gt=0, le=1)
    min_relevance: float = Field(default=1.0, ge=0)


@dataclass(frozen=True)
class ListedWord:
    """A word of a list.

    Args:
        label: whose.
        word: as written.
        fate: `kept`, or why it is left out: `seldom`, `unspecific`, `shared` (in several lists, or twice),
            `several tokens`, `unknown`.
        log_prior, relevance: see `readout/word_lists.py`; None where it was not scored.
        weight: in its label, of kept words; they add up to 1.
    """

    label: str
    word: str
    fate: str
    log_prior: float | None = None
    relevance: float | None = None
    weight: float | None = None


@dataclass(frozen=True)
class RefinedWords:
    """What refinement left.

    Args:
        words: all listed words.
        num_texts: texts that they were judged by.
        accuracy_before, accuracy: on the training rows with the hard template, the prior not taken out: the mean of all scored
            words' probabilities, and the mean of the kept words' calibrated ones.
    """

    words: tuple[ListedWord, ...]
    num_texts: int
    accuracy_before: float
    accuracy: float

    @property
    def labels(self) -> dict[str, dict[str, float]]:
        """Kept words with their weights, the first word of each label first."""
        found: dict[str, dict[str, float]] = {}
        for one in self.words:
            if one.weight is not None:
                found.setdefault(one.label, {})[one.word] = float(f"{one.weight:.4g}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"labels": self.labels, **asdict(self)}

    def to_yaml(self) -> str:
        """`labels:` for a recipe, and what was left out as remarks."""
        lines = ["aggregate: logsumexp", "labels:"]
        for name, words in self.labels.items():
            entry = yaml.safe_dump({name: words}, allow_unicode=True, default_flow_style=None, sort_keys=False, width=10**6)
            lines.append(f"  {entry.strip()}")
            out = [one for one in self.words if one.label == name and one.fate != "kept"]
            for fate in dict.fromkeys(one.fate for one in out):
                lines.append(f"  # {fate}: {', '.join(one.word for one in out if one.fate == fate)}")
        return "\n".join(lines) + "\n"


def refine_words(recipe: Recipe, settings: RefineSettings | None = None) -> RefinedWords:
    """Refines lists of label words on unlabelled texts.

    Args:
        recipe: its training rows' labels only serve the two accuracies.
        settings: the lists, the texts and how strict to be.

    Raises:
        RecipeError: another kind of task, or lists that do not fit the labels.
        TemplateError: text behind the answer slot of a causal model.
        VerbalizerError: a label's first word is unknown, of several tokens, or another label's too.
    """
    settings = settings or RefineSettings()
    if recipe.task != "classification":
        raise RecipeError(f"label words are for task: classification, not for {recipe.task}", where="task")
    names = recipe.label_names()
    lists = _lists(recipe, settings, names)
    train, unlabelled = read_splits(recipe).train, _unlabelled(recipe, settings)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    template = words_template(recipe, backbone)
    words, columns = _scored(lists, template, backbone.tokens)
    anchors = {name: [listing[0].strip()] for name, listing in lists.items()}
    model = PromptModel.build(backbone=backbone, template=template, labels=anchors, method="hard", max_length=recipe.max_length)
    at = [number for number, column in enumerate(columns) if column is not None]
    ids = [column for column in columns if column is not None]
    judged = vocabulary_scores(model, train, ids)
    if unlabelled is None:
        scores = judged[_drawn(len(train), recipe, settings)]
    else:
        scores = vocabulary_scores(model, [unlabelled[at] for at in _drawn(len(unlabelled), recipe, settings)], ids)
    true = torch.tensor([names.index(example.label or "") for example in train])
    return _refined(words, at, scores, judged, true, names, settings)


def _refined(
    words: Sequence[ListedWord],
    at: Sequence[int],
    scores: Tensor,
    judged: Tensor,
    true: Tensor,
    names: Sequence[str],
    settings: RefineSettings,
) -> RefinedWords:
    """The figures of the scored words, those numbered `at`, and which of them stay."""
    labels = [names.index(words[number].label) for number in at]
    first = [labels.index(number) for number in range(len(names))]
    prior, relevance = word_prior(scores), word_relevance(scores, labels, first)
    fates = kept_words(prior, relevance, first, share=settings.keep, min_relevance=settings.min_relevance)
    kept = [number for number, fate in enumerate(fates) if fate == "kept"]
    inverse = (-prior).double().exp()
    total = {label: inverse[[n for n in kept if labels[n] == label]].sum() for label in range(len(names))}
    out = list(words)
    for number, fate in enumerate(fates):
        weight = float(inverse[number] / total[labels[number]]) if fate == "kept" else None
        word = words[at[number]]
        out[at[number]] = ListedWord(word.label, word.word, fate, float(prior[number]), float(relevance[number]), weight)
    before = mean_calibrated(judged, torch.zeros_like(prior), labels, len(names))
    after = mean_calibrated(judged[:, kept], prior[kept], [labels[number] for number in kept], len(names))
    accuracies = [float((one.argmax(1) == true).float().mean()) for one in (before, after)]
    return RefinedWords(tuple(out), len(scores), *accuracies)


def _lists(recipe: Recipe, settings: RefineSettings, names: Sequence[str]) -> WordLists:
    """Each label's words, in the order of the labels.

    Raises:
        RecipeError: no lists, a file that cannot be read, or lists of other labels.
    """
    given, where = settings.words, "refine.words"
    if given is None:
        has_words = recipe.has_label_words and isinstance(recipe.labels, Mapping | Verbalizer)
        words = recipe.verbalizer().words if has_words else {}
        if all(len(listing) < 2 for listing in words.values()):
            fix = "write refine: {words: words.yaml}, or labels: {sports: [sports, football, ...]}"
            raise RecipeError("there are no lists of words", where=where, fix=fix)
        return {name: tuple(listing) for name, listing in words.items()}
    if isinstance(given, str):
        where = given
        try:
            given = parse_yaml(Path(given).read_text(encoding="utf-8-sig"))  # JSON is YAML
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(f"the lists cannot be read: {error}", where=where, fix="write {label: [words]}") from None
    if not isinstance(given, Mapping):
        raise RecipeError("the lists are no mapping of labels to words", where=where, fix="write {label: [words]}")
    lists = {label_text(name): words for name, words in given.items()}
    for name, words in lists.items():
        is_list = isinstance(words, Sequence) and not isinstance(words, str) and len(words) > 0
        if not is_list or not all(isinstance(word, str) and word.strip() for word in words):
            raise RecipeError(f"the list of {name!r} is no list of words", where=where, fix="write words in quotes")
    if set(lists) != set(names):
        what = f"the lists are of {listed(list(lists))}, the recipe's labels are {listed(names)}"
        raise RecipeError(what, where=where, fix="give a list for each label")
    return {name: lists[name] for name in names}


def _unlabelled(recipe: Recipe, settings: RefineSettings) -> tuple[Example, ...] | None:
    source = settings.unlabelled
    if source is None:
        return None
    split = "train" if has_splits(source) else None
    fields = recipe.parsed_template().field_names
    return read_examples(source, fields=fields, label=None, columns=recipe.columns, encoding=recipe.encoding, split=split)


def _drawn(num_rows: int, recipe: Recipe, settings: RefineSettings) -> list[int]:
    """Numbers of the rows by which words are judged: files may be sorted."""
    return sorted(random.Random(recipe.seed).sample(range(num_rows), min(settings.num_texts, num_rows)))


def _scored(lists: WordLists, template: Template, tokens: Tokens) -> tuple[list[ListedWord], list[int | None]]:
    """All words, and the token of each that is scored; None where it is left out before that.

    Raises:
        VerbalizerError: a label's first word is left out.
    """
    owners: dict[tuple[int, ...], set[str]] = {}
    every = [(name, at, word.strip()) for name, listing in lists.items() for at, word in enumerate(listing)]
    ids = [word_ids(word, template, tokens) for _, _, word in every]
    for (name, _, _), own in zip(every, ids, strict=True):
        owners.setdefault(own, set()).add(name)
    firsts = [own for (_, at, _), own in zip(every, ids, strict=True) if at == 0]
    taken = set(firsts)
    words, columns = [], []
    for (name, at, word), own in zip(every, ids, strict=True):
        is_shared = firsts.count(own) > 1 if at == 0 else own in taken or len(owners[own]) > 1
        fate = "unknown" if not own else "several tokens" if len(own) > 1 else "shared" if is_shared else "kept"
        taken.add(own)
        if at == 0 and fate != "kept":
            what = f"{word!r} stands for {name!r}, but is {_REASONS[fate]}"
            raise VerbalizerError(what, where=f"labels.{name}", fix="put another word first")
        words.append(ListedWord(name, word, fate))
        columns.append(own[0] if fate == "kept" else None)
    return words, columns
