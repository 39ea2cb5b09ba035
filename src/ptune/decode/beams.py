"""Beam search: the hypotheses that stay among the most probable, each prompt by itself, all prompts of a batch side by side.

In: `Steps` and settings. Out: the best texts of each row. A hypothesis is ranked by log-probability / tokens ** length_penalty
(tokens as written, the end token included). At each step only the `beams` best continuations may end; a row is done when it has
`beams` ended hypotheses and its best open one, at its present length, ranks below all of them. This is what transformers'
`generate(num_beams=...)` does by default (early_stopping=False).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ptune.decode.settings import DecodeSettings, Reason, Written
from ptune.decode.steps import Steps
from ptune.decode.text import TextPieces
from ptune.inputs import Tokens

__all__ = ["search_beams"]


@dataclass(frozen=True)
class _Open:
    """A hypothesis that goes on: its tokens, their log-probability, and its row in the steps."""

    ids: tuple[int, ...]
    log_probability: float
    row: int


@dataclass
class _Search:
    """One prompt's hypotheses."""

    open: list[_Open]
    ended: list[Written] = field(default_factory=list)
    is_done: bool = False


def search_beams(
    steps: Steps, tokens: Tokens, settings: DecodeSettings, end_ids: Collection[int], num_rows: int
) -> list[tuple[Written, ...]]:
    """The best texts of each row, best first.

    Args:
        steps: rows of prompts.
        tokens: the backbone's tokenizer.
        settings: how many beams, and how many of their texts are returned.
        end_ids: tokens that end a text.
        num_rows: how many prompts there are.
    """
    searches = [_Search([_Open((), 0.0, row)]) for row in range(num_rows)]
    log_probabilities = steps.start()
    for num_tokens in range(1, settings.max_new_tokens + 1):
        for search in searches:
            if not search.is_done:
                _advance(search, log_probabilities, tokens, settings, end_ids, num_tokens)
        going = [search for search in searches if not search.is_done]
        if not going:
            break
        rows = torch.tensor([one.row for search in going for one in search.open])
        last = torch.tensor([one.ids[-1] for search in going for one in search.open])
        steps.keep(rows)
        log_probabilities = steps.step(last)
        at = 0
        for search in going:
            search.open = [_Open(one.ids, one.log_probability, at + n) for n, one in enumerate(search.open)]
            at += len(search.open)
    return [tuple(search.ended[: settings.returns]) for search in searches]


def _advance(
    search: _Search,
    log_probabilities: Tensor,
    tokens: Tokens,
    settings: DecodeSettings,
    end_ids: Collection[int],
    num_tokens: int,
) -> None:
    """Continues every open hypothesis by one token: some end, the best others stay open."""
    candidates = _best(search.open, log_probabilities, (len(set(end_ids)) + 1) * settings.beams)
    is_last = num_tokens == settings.max_new_tokens
    still_open: list[_Open] = []
    for rank, one in enumerate(candidates):
        reason, text = _end(one.ids, tokens, settings, end_ids, is_last=is_last)
        if reason is None:
            if len(still_open) < settings.beams:
                still_open.append(one)
        elif rank < settings.beams:
            ids = one.ids[:-1] if reason == "end" else one.ids
            score = one.log_probability / num_tokens**settings.length_penalty
            search.ended.append(Written(text, ids, one.log_probability, score, reason))
    search.ended = sorted(search.ended, key=lambda written: -written.score)[: settings.beams]
    search.open = still_open
    if not still_open:
        search.is_done = True
    elif len(search.ended) == settings.beams:
        best_open = max(one.log_probability for one in still_open) / num_tokens**settings.length_penalty
        search.is_done = best_open <= search.ended[-1].score


def _best(hypotheses: Sequence[_Open], log_probabilities: Tensor, num: int) -> list[_Open]:
    """The most probable continuations, best first."""
    rows = torch.tensor([one.row for one in hypotheses], device=log_probabilities.device)
    so_far = torch.tensor([one.log_probability for one in hypotheses], device=log_probabilities.device)
    totals = log_probabilities[rows] + so_far[:, None].to(log_probabilities.dtype)
    vocab_size = totals.shape[1]
    values, places = totals.flatten().topk(min(num, totals.numel()))
    chosen = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        if value > -math.inf:
            one = hypotheses[place // vocab_size]
            chosen.append(_Open((*one.ids, place % vocab_size), value, one.row))
    return chosen


def _end(
    ids: tuple[int, ...], tokens: Tokens, settings: DecodeSettings, end_ids: Collection[int], *, is_last: bool
) -> tuple[Reason | None, str]:
    """Why a hypothesis ends here, if it does, and its text."""
    is_end = ids[-1] in end_ids
    if not (is_end or is_last or settings.stop):
        return None, ""
    pieces = TextPieces(tokens, settings.stop)
    pieces.read(ids[:-1] if is_end else ids)
    if pieces.is_stopped:
        return "stop", pieces.text
    reason: Reason | None = "end" if is_end else "length" if is_last else None
    return reason, pieces.text
