"""What a recipe's template and label words become on its backbone, and what is likely to cost accuracy: before any training.

In: a recipe. Out: `TemplateCheck`: training rows as tokens, label words as tokens, and findings. Static remarks come from
`check_template`; here are those that need the tokenizer, the embeddings or the model's own preference among the labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from statistics import median
from typing import Any

import torch

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.inputs import Encoded, Tokens
from ptune.model import LabelModel, TaskModel
from ptune.readout import Verbalizer
from ptune.recipe.fit import Splits, build_model, read_splits
from ptune.recipe.recipe import Recipe
from ptune.template import Finding, Template, check_template

__all__ = ["LabelWord", "Piece", "RenderedRow", "TemplateCheck", "check_recipe"]

_NUM_ROWS_JUDGED = 32
_PRIOR_RATIO = 10
_MANY_TOKENS = 4
_NUM_CHARACTERS = 60
_COSINE_MARGIN = 0.1
_COMMON_SHARE = 0.75
_LEVELS = ("error", "warning", "hint")


@dataclass(frozen=True)
class Piece:
    """One token: its text, and where it comes from: a field's name, "" (the template's words), soft, special or answer."""

    text: str
    source: str


@dataclass(frozen=True)
class RenderedRow:
    """A row as the model reads it.

    Args:
        where: file and line.
        label: the row's own, or what else is learned of it.
        pieces: its tokens; a learned token is `⟨soft 0⟩`, the answer slot `⟨answer⟩`.
        num_cut: tokens that were dropped to fit.
    """

    where: str
    label: str | None
    pieces: tuple[Piece, ...]
    num_cut: int

    @property
    def num_tokens(self) -> int:
        """Tokens without the answer."""
        return sum(piece.source != "answer" for piece in self.pieces)


@dataclass(frozen=True)
class LabelWord:
    """A word as it stands in the answer slot, with the white space that it gets, and its tokens."""

    label: str
    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class TemplateCheck:
    """What `check_recipe` found.

    Args:
        template: with the method's own learned tokens in it.
        backbone, kind: the model.
        rows: training rows; none where errors keep the model from being built.
        words: the label words.
        priors: mean probability of each label over training rows, with the hard template.
        length_rule: how words of several tokens are scored.
        findings: errors first.
    """

    template: str
    backbone: str
    kind: str
    rows: tuple[RenderedRow, ...] = ()
    words: tuple[LabelWord, ...] = ()
    priors: Mapping[str, float] = field(default_factory=dict)
    length_rule: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def num_errors(self) -> int:
        """How many findings make training impossible."""
        return sum(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def check_recipe(recipe: Recipe, *, num_rows: int = 3) -> TemplateCheck:
    """Looks at a recipe's template and label words on its backbone.

    Args:
        recipe: checked by `Recipe.of`.
        num_rows: training rows to show.

    Raises:
        PtuneError: data, backbone or method that cannot be; mistakes in template and words are findings.
    """
    splits = read_splits(recipe)
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    template = recipe.complete_template()
    verbalizer = recipe.verbalizer() if recipe.has_label_words and recipe.labels else None
    samples = [example.fields for example in splits.train[:_NUM_ROWS_JUDGED]]
    findings = [*check_template(template, kind=backbone.kind, sample_fields=samples, needs_mask=verbalizer is not None)]
    words: tuple[LabelWord, ...] = ()
    if verbalizer is not None and template.num_masks:
        words, faults = _label_words(verbalizer, template, backbone.tokens)
        findings += [*faults, *_word_findings(words, backbone)]
    shown = TemplateCheck(str(template), backbone.spec.name, backbone.kind, words=words, findings=tuple(findings))
    return shown if shown.num_errors else _with_rows(shown, recipe, backbone, splits, num_rows)


def _with_rows(shown: TemplateCheck, recipe: Recipe, backbone: Backbone, splits: Splits, num_rows: int) -> TemplateCheck:
    """Adds what needs the whole model: rendered rows, the model's preference among labels."""
    priors: Mapping[str, float] = {}
    rows: tuple[RenderedRow, ...] = ()
    rule, findings = "", list(shown.findings)
    try:
        model = build_model(recipe, backbone, splits)
        judged = splits.train[:: max(1, len(splits.train) // _NUM_ROWS_JUDGED)][:_NUM_ROWS_JUDGED]
        findings += _length_findings([model.first_row(example) for example in judged])
        rows = tuple(_rendered(example, model) for example in splits.train[:num_rows])
        if isinstance(model, LabelModel) and model.answers is not None and model.verbalizer is not None:
            rule = _rule_in_words(model.verbalizer.length_rule(model.answers), model.answers.single)
            priors = _priors(model, judged)
            findings += _prior_findings(priors)
    except PtuneError as error:
        findings.append(Finding("error", str(error)))
    ordered = tuple(sorted(findings, key=lambda finding: _LEVELS.index(finding.level)))
    return TemplateCheck(shown.template, shown.backbone, shown.kind, rows, shown.words, priors, rule, ordered)


# -- rows ------------------------------------------------------------------------------------------------------------


def _rendered(example: Example, model: TaskModel) -> RenderedRow:
    encoded = model.first_row(example)
    texts = model.backbone.tokens.show(encoded.ids)
    pieces: list[Piece] = []
    for number, (text, row, owner) in enumerate(zip(texts, encoded.soft, encoded.owner, strict=True)):
        pieces += [Piece("⟨answer⟩", "answer")] * encoded.slots.count(number)
        pieces.append(Piece(f"⟨soft {row}⟩", "soft") if row >= 0 else Piece(text, owner))
    pieces += [Piece("⟨answer⟩", "answer")] * encoded.slots.count(len(texts))
    return RenderedRow(example.where, _target(example, model), tuple(pieces), encoded.num_cut)


def _target(example: Example, model: TaskModel) -> str | None:
    """What is to be learned of a row: its label, or the beginning of the kind's columns."""
    values = [example.fields.get(model.columns[key], "") for key in model.target_keys]
    text = ", ".join(value if isinstance(value, str) else " ".join(value) for value in values)
    return example.label or (text if len(text) <= _NUM_CHARACTERS else text[:_NUM_CHARACTERS] + "...") or None


def _length_findings(rows: Sequence[Encoded]) -> Iterator[Finding]:
    num_template = median(sum(owner == "" for owner in row.owner) for row in rows)
    num_field = median(sum(owner not in ("", "soft", "special") for owner in row.owner) for row in rows)
    if num_template > num_field:
        lengths = f"{num_template:.0f} tokens, the texts' median is {num_field:.0f}"
        yield Finding("warning", f"the template's own words are longer than the texts ({lengths}); try fewer words")
    num_cut = sum(row.num_cut > 0 for row in rows)
    if num_cut:
        yield Finding("warning", f"{num_cut} of {len(rows)} texts are cut to fit; raise max_length if their ends matter")


# -- label words -----------------------------------------------------------------------------------------------------


def _label_words(verbalizer: Verbalizer, template: Template, tokens: Tokens) -> tuple[tuple[LabelWord, ...], list[Finding]]:
    """Each word's tokens by itself, then what is wrong with the words together."""
    words: list[LabelWord] = []
    faults: list[Finding] = []
    for label in verbalizer.labels:
        for filling in verbalizer.fillings(label):
            try:
                answers = replace(verbalizer, words={label: filling}, weights=None).answers(template, tokens)
            except PtuneError as error:
                faults.append(Finding("error", str(error)))
                continue
            for slot, (word, ids) in enumerate(zip(filling, answers.parts(0), strict=True)):
                words.append(LabelWord(label, template.word_prefix(word, slot) + word, tuple(tokens.show(ids)), ids))
    if not faults:
        try:
            verbalizer.answers(template, tokens)
        except PtuneError as error:
            faults.append(Finding("error", str(error)))
    return tuple(words), faults


def _word_findings(words: Sequence[LabelWord], backbone: Backbone) -> Iterator[Finding]:
    for word in words:
        if any("�" in token or token.startswith("<0x") for token in word.tokens) or _has_byte_pieces(word):
            yield Finding(
                "warning",
                f"{word.text!r} falls apart into bytes {word.tokens}: the model hardly knows it; choose a commoner word",
            )
        elif len(word.ids) >= _MANY_TOKENS:
            yield Finding("warning", f"{word.text!r} has {len(word.ids)} tokens; a word of one or two is learned more easily")
        elif _is_rare(word, backbone.spec.vocab_size):
            yield Finding(
                "warning", f"{word.text!r} is a rare word to this model (token {word.ids[0]} of {backbone.spec.vocab_size})"
            )
    yield from _meaning_findings(words, backbone)


def _is_rare(word: LabelWord, vocab_size: int) -> bool:
    """One token in the last quarter of the vocabulary; single characters stand there whatever their frequency."""
    return len(word.ids) == 1 and word.ids[0] > _COMMON_SHARE * vocab_size and len(word.text.strip()) > 1


def _has_byte_pieces(word: LabelWord) -> bool:
    """Whether a byte-level tokenizer splits one of the word's characters over several tokens."""
    return len(word.ids) > len(word.text.strip()) and not word.text.strip().isascii()


def _meaning_findings(words: Sequence[LabelWord], backbone: Backbone) -> Iterator[Finding]:
    """Pairs of labels whose names lie nearer to each other's words than to their own: perhaps the words were swapped."""
    labels = [label for label in dict.fromkeys(word.label for word in words) if any(map(str.isalpha, label))]
    space = " " if any(word.text.startswith(" ") for word in words) else ""
    names = {label: backbone.tokens.ids(space + label) for label in labels}

    def nearness(name: str, owner: str) -> float:
        return max(_cosine(names[name], word.ids, backbone) for word in words if word.label == owner)

    for first, second in combinations(labels, 2):
        as_given = nearness(first, first) + nearness(second, second)
        swapped = nearness(first, second) + nearness(second, first)
        if swapped > as_given + _COSINE_MARGIN:
            labels_named = f"{first!r} and {second!r}"
            message = f"the words of {labels_named} would fit their names better the other way round; were they swapped?"
            yield Finding("warning", message)


def _cosine(first: Sequence[int], second: Sequence[int], backbone: Backbone) -> float:
    with torch.no_grad():
        one, two = (backbone.embed(torch.tensor(list(ids))).float().mean(0) for ids in (first, second))
    return torch.nn.functional.cosine_similarity(one, two, dim=0).item()


def _priors(model: LabelModel, examples: Sequence[Example]) -> dict[str, float]:
    """Mean probability of each label over texts, their own labels not looked at, with the hard template."""
    hard = model.without_prompt()
    mean = torch.softmax(hard.scores(hard.prepare(examples)), 1).mean(0)
    return dict(zip(model.label_names, mean.tolist(), strict=True))


def _prior_findings(priors: Mapping[str, float]) -> Iterator[Finding]:
    most, least = max(priors, key=priors.__getitem__), min(priors, key=priors.__getitem__)
    if priors[most] > _PRIOR_RATIO * priors[least]:
        ratio = priors[most] / max(priors[least], 1e-9)
        message = (
            f"untrained, the model gives {most!r} {ratio:,.0f} times the probability of {least!r}, whatever the text; "
            "the prior correction takes that out (prior: correct), or choose words that are equally common"
        )
        yield Finding("warning", message)


def _rule_in_words(rule: str, single: bool) -> str:
    if single:
        return "log-probability of their one token"
    if rule == "mean":
        return "mean log-probability of their tokens (words differ in length, or length: mean)"
    return "sum of the log-probabilities of their tokens"
