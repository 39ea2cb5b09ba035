"""Rows of tokens moved, repeated for candidates, and searched for the places that are read."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ptune.inputs import DecoderRows, Live, Reads

__all__ = ["moved", "needed_tokens", "repeated"]


def moved(thing: Any, device: torch.device) -> Any:
    """A dataclass of tensors on `device`; itself when it is there already."""
    if device.type == "cpu":
        return thing
    values = {f.name: getattr(thing, f.name) for f in fields(thing)}
    return replace(thing, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})


def repeated(thing: Any, times: int, num_sources: int = 0) -> Any:
    """Rows of tokens so many times over; a decoder's copies read the copies of its `num_sources` encoder rows."""
    if times == 1:
        return thing
    values = {f.name: getattr(thing, f.name) for f in fields(thing)}
    more = {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in values.items() if isinstance(value, Tensor)}
    if isinstance(thing, DecoderRows):
        more["source"] = torch.cat([thing.source + number * num_sources for number in range(times)])
    return replace(thing, **more)


def needed_tokens(reads: Reads, live: Live) -> Tensor | None:
    """[R, U] the tokens of each row that are read, filled up with one that is not; None where all may as well be.

    Each token once, also where several places read it: its gradient is their sum, and would come back to each of its copies.
    """
    num_rows, length = live.ids.shape
    if not len(reads.row):
        return None
    row, position = torch.unique(torch.stack([reads.row, reads.position]), dim=1)  # sorted by row
    counts = torch.bincount(row, minlength=num_rows)
    most = int(counts.max())
    if 2 * most > length:
        return None
    slot = torch.arange(len(row)) - (torch.cumsum(counts, 0) - counts)[row]
    is_read = torch.zeros(num_rows, length, dtype=torch.bool)
    is_read[row, position] = True
    needed = is_read.long().argmin(1, keepdim=True).repeat(1, most)
    needed[row, slot] = position
    return needed
