"""Which words speak for which label: found from the model's own word probabilities on labelled texts.

In: log P(w | x) of candidate words on labelled texts [N, W], and their labels. Out: for each label a ranked list of words with
figures a person can judge, and one assignment that tells the labels apart.
Sources: Schick et al. 2020 (PETAL: likelihood ratio of a label against the rest); Gao et al. 2021 (LM-BFF: the likeliest words
of each label first, assignments by zero-shot accuracy on the training texts). Deviations: words must be likelier on most single
texts of their label (consistency), and accuracy is counted with the model's own preference taken out, ties by cross-entropy.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.errors import VerbalizerError
from ptune.readout.calibrate import log_prior

__all__ = ["FoundWord", "assign_words", "rank_words"]

_MAX_SWEEPS = 5


@dataclass(frozen=True)
class FoundWord:
    """A candidate for one label.

    Args:
        word: as a person writes it.
        column: its number among the candidates.
        likelihood: mean log P(w | x) over the label's texts: how readily the model writes it there.
        lift: the same less the mean over the other labels' texts; the log of PETAL's likelihood ratio per text.
        consistency: share of pairs (a text of the label, one of another) in which it is likelier on the former; 0.5 is chance.
    """

    word: str
    column: int
    likelihood: float
    lift: float
    consistency: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def rank_words(
    log_probabilities: Float[Tensor, "N W"],
    labels: Int[Tensor, " N"],
    words: Sequence[str],
    *,
    num_classes: int,
    num_likely: int = 100,
    min_consistency: float = 0.55,
) -> list[list[FoundWord]]:
    """Candidates of each label, the best first.

    A word is a candidate where it is among the `num_likely` likeliest on the label's texts and consistent enough; candidates
    are ranked by lift. Words that differ in case or white space alone count once.

    Args:
        log_probabilities: of each word on each text.
        labels: class number of each text.
        words: the candidates.
        num_classes: C.
        num_likely: words looked at for each label.
        min_consistency: lowest share of pairs.
    """
    found: list[list[FoundWord]] = []
    for number in range(num_classes):
        mine, others = log_probabilities[labels == number], log_probabilities[labels != number]
        likelihood = mine.mean(0)
        lift = likelihood - others.mean(0)
        ranked: dict[str, FoundWord] = {}
        likely = likelihood.topk(min(num_likely, len(words))).indices.tolist()
        for column in sorted(likely, key=lambda at: (-float(lift[at]), at)):
            wins = mine[:, None, column] > others[None, :, column]
            consistency = float(wins.float().mean())
            if consistency < min_consistency or lift[column] <= 0:
                continue
            one = FoundWord(words[column], column, float(likelihood[column]), float(lift[column]), consistency)
            ranked.setdefault(words[column].strip().casefold(), one)
        found.append(list(ranked.values()))
    return found


def assign_words(
    ranked: Sequence[Sequence[FoundWord]],
    log_probabilities: Float[Tensor, "N W"],
    labels: Int[Tensor, " N"],
    *,
    num_tried: int = 20,
    tokens: Sequence[Sequence[int]] = (),
) -> tuple[list[FoundWord], float]:
    """One word for each label: the assignment with the highest accuracy on these texts, then the lowest cross-entropy.

    Starts from each label's best word that no other label has, then tries for one label at a time its first `num_tried`
    candidates, until nothing gets better: all assignments would be `num_tried` to the number of labels.

    Args:
        ranked: candidates of each label.
        log_probabilities, labels: as in `rank_words`.
        num_tried: candidates of each label.
        tokens: of each candidate by column, where no label's word may begin another's.

    Raises:
        VerbalizerError: a label without a candidate that others leave to it.
    """
    chosen = _distinct_start(ranked, tokens)
    best = _value(chosen, log_probabilities, labels)
    for _ in range(_MAX_SWEEPS):
        before = best
        for number, candidates in enumerate(ranked):
            others = [one for at, one in enumerate(chosen) if at != number]
            for candidate in candidates[:num_tried]:
                if _is_taken(candidate, others, tokens):
                    continue
                trial = [*chosen[:number], candidate, *chosen[number + 1 :]]
                value = _value(trial, log_probabilities, labels)
                if value > best:
                    chosen, best = trial, value
        if best == before:
            break
    return chosen, best[0]


def _distinct_start(ranked: Sequence[Sequence[FoundWord]], tokens: Sequence[Sequence[int]]) -> list[FoundWord]:
    """The best word of each label that is not taken; labels with the fewest candidates choose first."""
    chosen: dict[int, FoundWord] = {}
    for number in sorted(range(len(ranked)), key=lambda at: len(ranked[at])):
        free = next((one for one in ranked[number] if not _is_taken(one, list(chosen.values()), tokens)), None)
        if free is None:
            are_taken = ", and those that are likelier are other labels'" if ranked[number] else ""
            raise VerbalizerError(
                f"no word is left that is likelier on the texts of label number {number + 1} than on the others{are_taken}",
                where="labels",
                fix="give more rows, another template, or write its words by hand",
            )
        chosen[number] = free
    return [chosen[number] for number in range(len(ranked))]


def _is_taken(one: FoundWord, others: Sequence[FoundWord], tokens: Sequence[Sequence[int]]) -> bool:
    """Whether another label has this word, or one that begins it or that it begins."""

    def clash(other: FoundWord) -> bool:
        if one.word.strip().casefold() == other.word.strip().casefold():
            return True
        if not tokens:
            return False
        return all(a == b for a, b in zip(tokens[one.column], tokens[other.column], strict=False))

    return any(map(clash, others))


def _value(chosen: Sequence[FoundWord], log_probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    scores = log_probabilities[:, [one.column for one in chosen]]
    scores = scores - log_prior(scores)
    accuracy = float((scores.argmax(1) == labels).float().mean())
    return round(accuracy, 6), -float(torch.nn.functional.cross_entropy(scores, labels))
