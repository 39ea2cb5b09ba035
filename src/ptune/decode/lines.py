"""Texts written token by token, the most probable one or drawn: all rows of a batch side by side, each until it ends.

In: `Steps` and settings. Out: `Written` for each row, or, while it is being written, its text piece by piece. A text ends with
an end token, a stop word, or its length; then its row leaves the batch. What is drawn depends on the seed, the row's number in
the call and the number of the sample, so that the way rows are batched changes nothing.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from ptune.decode.settings import DecodeSettings, Reason, Written
from ptune.decode.steps import Steps
from ptune.decode.text import TextPieces
from ptune.inputs import Tokens

__all__ = ["Line", "choose", "follow", "write_lines"]


class Line:
    """One text in the making.

    Args:
        tokens: the backbone's tokenizer.
        settings: how it is written.
        number, sample: its row in the call and its number among that row's samples, by which it is drawn.
    """

    def __init__(self, tokens: Tokens, settings: DecodeSettings, number: int, sample: int) -> None:
        self.pieces = TextPieces(tokens, settings.stop)
        self.ids: list[int] = []
        self.log_probability = 0.0
        self.reason: Reason | None = None
        self.generator = torch.Generator().manual_seed(_mixed(settings.seed, number, sample))
        self._max_tokens = settings.max_new_tokens
        self._reads_along = bool(settings.stop)

    def add(self, token: int, log_probability: float, end_ids: Collection[int], *, reads_along: bool) -> None:
        """Takes the next token and finds out whether it was the last."""
        self.log_probability += log_probability
        is_end = token in end_ids
        if not is_end:
            self.ids.append(token)
        num_tokens = len(self.ids) + is_end
        is_last = is_end or num_tokens == self._max_tokens
        if self._reads_along or reads_along or is_last:
            self.pieces.read(self.ids)
        if self.pieces.is_stopped:
            self.reason = "stop"
        elif is_last:
            self.reason = "end" if is_end else "length"

    def written(self) -> Written:
        """The whole, once there is a reason why it ended."""
        assert self.reason is not None
        return Written(self.pieces.text, tuple(self.ids), self.log_probability, self.log_probability, self.reason)


def write_lines(
    steps: Steps, tokens: Tokens, settings: DecodeSettings, end_ids: Collection[int], numbers: Sequence[int]
) -> list[tuple[Written, ...]]:
    """Writes each row to its end.

    Args:
        steps: rows of prompts, one for each number.
        tokens: the backbone's tokenizer.
        settings: without beams.
        end_ids: tokens that end a text.
        numbers: each row's number in the call, by which its samples are drawn.

    Returns:
        For each row, as many texts as the settings ask for: samples in the order of their numbers.
    """
    *_, lines = _grow(steps, tokens, settings, end_ids, numbers, reads_along=False)
    num = settings.returns
    return [tuple(line.written() for line in lines[at : at + num]) for at in range(0, len(lines), num)]


def follow(steps: Steps, tokens: Tokens, settings: DecodeSettings, end_ids: Collection[int]) -> Iterator[str]:
    """The text of one row, piece by piece as it is written; the pieces join to what `write_lines` returns.

    Args:
        steps: one row.
        tokens, settings, end_ids: as in `write_lines`; one text is returned.
    """
    for (line,) in _grow(steps, tokens, settings, end_ids, (0,), reads_along=True):
        piece = line.pieces.piece() if line.reason is None else line.pieces.last_piece()
        if piece:
            yield piece


def _grow(
    steps: Steps,
    tokens: Tokens,
    settings: DecodeSettings,
    end_ids: Collection[int],
    numbers: Sequence[int],
    *,
    reads_along: bool,
) -> Iterator[list[Line]]:
    """All lines after each token. Samples are copies of their row from the first token on."""
    lines = [Line(tokens, settings, number, sample) for number in numbers for sample in range(settings.returns)]
    log_probabilities = steps.start()
    if settings.returns > 1:
        rows = torch.arange(len(numbers)).repeat_interleave(settings.returns)
        steps.keep(rows)
        log_probabilities = log_probabilities[rows.to(log_probabilities.device)]
    open_lines = list(lines)
    while True:
        chosen = choose(log_probabilities, settings, open_lines)
        values = log_probabilities.gather(1, chosen[:, None].to(log_probabilities.device))[:, 0]
        for line, token, value in zip(open_lines, chosen.tolist(), values.tolist(), strict=True):
            line.add(token, value, end_ids, reads_along=reads_along)
        yield lines
        going = [number for number, line in enumerate(open_lines) if line.reason is None]
        if not going:
            return
        if len(going) < len(open_lines):
            open_lines, rows = [open_lines[number] for number in going], torch.tensor(going)
            steps.keep(rows)
            chosen = chosen[rows]
        log_probabilities = steps.step(chosen)


def choose(log_probabilities: Tensor, settings: DecodeSettings, lines: Sequence[Line]) -> Tensor:
    """[R] the next token of each row."""
    if settings.temperature == 0:
        return log_probabilities.argmax(1).cpu()
    drawn = torch.stack([torch.rand((), generator=line.generator, dtype=torch.float64) for line in lines])
    return _draw(log_probabilities.cpu(), settings, drawn)


def _draw(log_probabilities: Tensor, settings: DecodeSettings, drawn: Tensor) -> Tensor:
    """The token at which the cumulative probability passes each number drawn from [0, 1)."""
    scaled = log_probabilities.double() / settings.temperature
    order: Tensor | None = None
    if settings.top_k is not None and settings.top_k < scaled.shape[1]:
        scaled, order = scaled.topk(settings.top_k, dim=1)
    elif settings.top_p is not None:
        scaled, order = scaled.sort(dim=1, descending=True)
    probabilities = torch.softmax(scaled, 1)
    if settings.top_p is not None:
        before = probabilities.cumsum(1) - probabilities
        probabilities = probabilities.masked_fill(before >= settings.top_p, 0.0)
    cumulative = probabilities.cumsum(1)
    at = torch.searchsorted(cumulative, drawn[:, None] * cumulative[:, -1:], right=True)
    at = at.clamp(max=cumulative.shape[1] - 1)
    return (at if order is None else order.gather(1, at))[:, 0]


def _mixed(seed: int, number: int, sample: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{number}/{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
