"""Choices that differ from row to row: their texts as tokens, and their scores side by side.

In: a row's choices, or the scores of all rows' choices. Out: `AnswerWords` for the room that lays out batches, and scores
[B, C] with -inf where a row has fewer choices than another. Sum and mean of log-probabilities as for label words; where what
stands behind the slot is scored too, its tokens count in the mean, so that no choice gains by having more tokens of its own.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.errors import VerbalizerError
from ptune.inputs import AnswerWords, Tokens
from ptune.readout.verbalizer import LengthRule

__all__ = ["choice_scores", "choice_words", "split_scores"]


def choice_words(
    choices: Sequence[str], tokens: Tokens, *, prefix: Callable[[str], str], left: str, terminator: str, where: str
) -> AnswerWords:
    """A row's choices as they stand in the answer slot.

    Args:
        choices: their texts.
        tokens: the backbone's tokenizer.
        prefix: choice -> the white space that it gets in front.
        left: the text in front of the slot; only its last character decides.
        terminator: text scored behind every choice.
        where: the row, for messages.

    Raises:
        VerbalizerError: a choice that the tokenizer does not know.
    """
    unknown = tokens.tokenizer.unk_token_id
    texts = tuple(prefix(choice) + choice for choice in choices)
    ids = tuple(tokens.word_ids(text + terminator, "" if tokens.kind == "encoder-decoder" else left) for text in texts)
    for choice, one in zip(choices, ids, strict=True):
        if not one or (unknown is not None and unknown in one):
            raise VerbalizerError(f"the model's tokenizer does not know the choice {choice!r}", where=where, fix="reword it")
    return AnswerWords(texts, ids, tuple(range(len(ids))), len(ids))


def choice_scores(
    log_probabilities: Float[Tensor, "B C"], words: Sequence[AnswerWords], num_behind: Sequence[int], rule: LengthRule
) -> Float[Tensor, "B C"]:
    """Scores that can be compared within a row.

    Args:
        log_probabilities: of each choice's tokens and what is scored behind them, summed; 0 where a row has no such choice.
        words: each row's choices.
        num_behind: how many tokens behind the slot each row's sums hold.
        rule: `sum`, `mean` over all tokens that are summed, or `auto`: mean in rows whose choices differ in length and have
            nothing behind them, else sum.
    """
    divisor = torch.ones_like(log_probabilities)
    is_there = torch.zeros_like(log_probabilities, dtype=torch.bool)
    for row, (answers, behind) in enumerate(zip(words, num_behind, strict=True)):
        lengths = [len(word) for word in answers.ids]
        is_there[row, : len(lengths)] = True
        if rule == "mean" or (rule == "auto" and not behind and len(set(lengths)) > 1):
            divisor[row, : len(lengths)] = torch.tensor([length + behind for length in lengths]).to(divisor)
    return (log_probabilities / divisor).masked_fill(~is_there, -torch.inf)


def split_scores(scores: Float[Tensor, " R"], counts: Sequence[int]) -> Float[Tensor, "B C"]:
    """One score for each choice of all rows, as rows of choices.

    Args:
        scores: the first row's choices, the second's, ...
        counts: how many each row has.
    """
    width, rows, at = max(counts), [], 0
    for count in counts:
        rows.append(torch.nn.functional.pad(scores[at : at + count], (0, width - count), value=-torch.inf))
        at += count
    return torch.stack(rows)
