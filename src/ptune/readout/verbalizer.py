"""Label words: which words speak for which label, and how word scores become label scores.

In: `labels: {positive: [great], negative: [terrible]}` and a template that says what white space a word gets. Out:
`AnswerWords` for the room that lays out batches, and label scores [B, C] from word scores [B, W]. Source: Schick & Schütze
2021 (patterns and verbalizers, mean over a label's words). Words of several tokens are scored by the sum of their tokens'
log-probabilities; words of unequal length are corrected unless `length: sum` says otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.data import label_text
from ptune.errors import VerbalizerError
from ptune.inputs import AnswerWords, Tokens
from ptune.template import Template

__all__ = ["Aggregate", "LengthRule", "Verbalizer", "left_text"]

Aggregate = Literal["mean", "logsumexp", "max"]
LengthRule = Literal["auto", "sum", "mean"]


@dataclass(frozen=True)
class Verbalizer:
    """Label words and the rules for scoring them.

    Args:
        words: for each label, in the order of the label set, its words (or mapping word -> weight).
        aggregate: how a label's words are joined: mean of scores (PET), logsumexp (any of them), or the best.
        length: `sum` of log-probabilities, `mean` per token, or `auto`: mean where words differ in length, else sum.
        terminator: text scored behind every word, so that a word may begin another.
        num_slots: answer slots of the template; with several, a label's words are one for each.
    """

    words: Mapping[str, tuple[str, ...]]
    weights: Mapping[str, tuple[float, ...]] | None = None
    aggregate: Aggregate = "mean"
    length: LengthRule = "auto"
    terminator: str = ""
    num_slots: int = 1

    @classmethod
    def parse(
        cls,
        labels: Mapping[Any, Any],
        *,
        aggregate: Aggregate = "mean",
        length: LengthRule = "auto",
        terminator: str = "",
        num_slots: int = 1,
    ) -> "Verbalizer":
        """From a recipe's `labels`: a word, a list of words, or words with weights, for each label.

        Raises:
            VerbalizerError: fewer than two labels, a label without words, an empty word, a word given twice; with several
                slots, not a word for each, or two labels with the same words.
        """
        if len(labels) < 2:
            raise VerbalizerError(f"{len(labels)} label given, at least two are needed", where="labels")
        if num_slots > 1:
            return cls(_one_for_each(labels, num_slots), None, aggregate, length, terminator, num_slots)
        words: dict[str, tuple[str, ...]] = {}
        weights: dict[str, tuple[float, ...]] = {}
        owner: dict[str, str] = {}
        for raw_name, given in labels.items():
            name = label_text(raw_name)
            if not isinstance(given, str | Sequence | Mapping):
                raise VerbalizerError(
                    f"{given!r} is no list of label words", where=f"labels.{name}", fix='write words in quotes, as in ["great"]'
                )
            listed = (given,) if isinstance(given, str) else tuple(given)
            if not listed:
                raise VerbalizerError(f"label {name!r} has no words", where=f"labels.{name}", fix="give at least one")
            for word in listed:
                _check_word(word, name)
                if word.strip() in owner:
                    raise VerbalizerError(
                        f"{word!r} speaks for both {owner[word.strip()]!r} and {name!r}",
                        where=f"labels.{name}",
                        fix="give each word once",
                    )
                owner[word.strip()] = name
            words[name] = listed
            weights[name] = _normalised(name, given) if isinstance(given, Mapping) else (1 / len(listed),) * len(listed)
        return cls(words, weights, aggregate, length, terminator)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Verbalizer":
        """The reverse of `dataclasses.asdict`, from JSON."""
        words = {name: tuple(listed) for name, listed in kept["words"].items()}
        weights = {name: tuple(listed) for name, listed in kept["weights"].items()} if kept["weights"] else None
        return cls(words, weights, kept["aggregate"], kept["length"], kept["terminator"], kept.get("num_slots", 1))

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in order."""
        return tuple(self.words)

    def fillings(self, label: str) -> tuple[tuple[str, ...], ...]:
        """What may stand in the template's slots for a label: one of its words in the one slot, or all of them in as many."""
        words = self.words[label]
        return tuple((word,) for word in words) if self.num_slots == 1 else (tuple(words),)

    def answers(self, template: Template, tokens: Tokens) -> AnswerWords:
        """The words as tokens, as they stand in the template's answer slots.

        Raises:
            VerbalizerError: a word is unknown to the tokenizer, two words have the same tokens, or one begins another.
        """
        texts, ids, label, lengths = [], [], [], []
        left = [left_text(template, number) for number in range(self.num_slots)]
        for number, name in enumerate(self.labels):
            for filling in self.fillings(name):
                parts = []
                for slot, word in enumerate(filling):
                    end = self.terminator if slot == self.num_slots - 1 else ""
                    spaced = "" if tokens.kind == "encoder-decoder" else left[slot]
                    parts.append(tokens.word_ids(template.word_prefix(word, slot) + word + end, spaced))
                    _check_known(word, parts[-1], tokens, name)
                texts.append(" ...".join(template.word_prefix(word, slot) + word for slot, word in enumerate(filling)))
                ids.append(tuple(index for part in parts for index in part))
                label.append(number)
                lengths.append(tuple(map(len, parts)))
        several = tuple(lengths) if self.num_slots > 1 else ()
        answers = AnswerWords(tuple(texts), tuple(ids), tuple(label), len(self.labels), several)
        self._check_distinct(answers, tokens)
        return answers

    def length_rule(self, answers: AnswerWords) -> Literal["sum", "mean"]:
        """The rule in force: `auto` corrects words of unequal length by their number of tokens."""
        if self.length != "auto":
            return self.length
        return "mean" if len({len(word) for word in answers.ids}) > 1 else "sum"

    def label_scores(
        self, word_scores: Float[Tensor, "B W"], answers: AnswerWords, num_scored: Float[Tensor, "B W"] | None = None
    ) -> Float[Tensor, "B C"]:
        """Joins a label's words; adding a constant to all words of a row adds it to all its labels.

        Args:
            word_scores: a score for each word.
            answers: the words.
            num_scored: tokens that each score is the sum of, those scored behind the slot too; None for the words' own number.
        """
        if self.length_rule(answers) == "mean":
            own = torch.tensor([len(word) for word in answers.ids]) if num_scored is None else num_scored
            word_scores = word_scores / own.to(word_scores)
        if len(answers) == answers.num_classes:
            return word_scores
        columns, at = [], 0
        for name in self.labels:
            mine = word_scores[:, at : at + len(self.words[name])]
            at += len(self.words[name])
            weight = torch.tensor(self.weights[name] if self.weights else (1 / mine.shape[1],) * mine.shape[1]).to(mine)
            if self.aggregate == "mean":
                columns.append(mine @ weight)
            elif self.aggregate == "max":
                columns.append(mine.max(1).values)
            else:
                columns.append(torch.logsumexp(mine + weight.log(), 1))
        return torch.stack(columns, 1)

    def _check_distinct(self, answers: AnswerWords, tokens: Tokens) -> None:
        apart = [[index for part in answers.parts(word) for index in (*part, -1)][:-1] for word in range(len(answers))]
        for first, second in pairwise(sorted(range(len(answers)), key=lambda i: apart[i])):
            a, b = apart[first], apart[second]
            if a == b:
                raise VerbalizerError(
                    f"{answers.texts[first]!r} and {answers.texts[second]!r} are the same tokens "
                    f"{tokens.show(answers.ids[first])}",
                    where="labels",
                    fix="choose other words",
                )
            if b[: len(a)] == a and tokens.kind != "encoder":
                raise VerbalizerError(
                    f"{answers.texts[first]!r} is the beginning of {answers.texts[second]!r} "
                    f"({tokens.show(answers.ids[first])}, {tokens.show(answers.ids[second])})",
                    where="labels",
                    fix='choose other words, or set terminator: "." so that the end of a word is scored too',
                )


def _one_for_each(labels: Mapping[Any, Any], num_slots: int) -> dict[str, tuple[str, ...]]:
    """Label -> a word for each slot."""
    words: dict[str, tuple[str, ...]] = {}
    for raw_name, given in labels.items():
        name = label_text(raw_name)
        listed = (given,) if isinstance(given, str) else given
        if not isinstance(listed, Sequence) or len(listed) != num_slots:
            has = f"{len(listed)} of" if isinstance(listed, Sequence) else "no list of"
            what = f"label {name!r} has {has} {num_slots} words, one for each {{mask}} of the template"
            raise VerbalizerError(what, where=f"labels.{name}", fix="write them in order, as in [person, born in, country]")
        for word in listed:
            _check_word(word, name)
        same = next((other for other, own in words.items() if own == tuple(listed)), None)
        if same is not None:
            what = f"labels {same!r} and {name!r} have the same words"
            raise VerbalizerError(what, where=f"labels.{name}", fix="let them differ in one {mask} at least")
        words[name] = tuple(listed)
    return words


def _check_word(word: object, name: str) -> None:
    if not isinstance(word, str) or not word.strip():
        raise VerbalizerError(
            f"{word!r} is no label word", where=f"labels.{name}", fix='write words in quotes, as in ["great"]'
        )


def _normalised(name: str, given: Mapping[str, float]) -> tuple[float, ...]:
    if not all(isinstance(weight, int | float) for weight in given.values()):
        raise VerbalizerError(
            "weights of label words must be numbers", where=f"labels.{name}", fix="as in {great: 0.7, good: 0.3}"
        )
    total = sum(given.values())
    if total <= 0 or any(weight <= 0 for weight in given.values()):
        raise VerbalizerError("weights of label words must be positive", where=f"labels.{name}")
    return tuple(weight / total for weight in given.values())


def left_text(template: Template, number: int = 0) -> str:
    """The last hard character left of an answer slot, so that a word is tokenised as a continuation."""
    from ptune.template import Text

    nodes = template.before_mask(number)
    if nodes and isinstance(nodes[-1], Text):
        return nodes[-1].text.rstrip()[-1:]
    return ""


def _check_known(word: str, ids: Sequence[int], tokens: Tokens, name: str) -> None:
    unknown = tokens.tokenizer.unk_token_id
    if not ids or (unknown is not None and unknown in ids):
        raise VerbalizerError(
            f"the model's tokenizer does not know the word {word!r}", where=f"labels.{name}", fix="choose another word"
        )
