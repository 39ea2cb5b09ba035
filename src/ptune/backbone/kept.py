"""Kept contexts: keys and values of the text in front of the first learned token, computed once per example.

In: token ids of each example's constant part. Out: a `Context` for any batch of those examples. Exact only while nothing in
front of the learned tokens can change, which `PromptModel` makes sure of. Examples are grouped by length once, in a fixed
order, so that a resumed run computes byte-equal keys and values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ptune.backbone.backbone import Backbone
from ptune.inputs import Context, Live, PromptState, pad_rows

__all__ = ["KeptContexts", "context_bytes"]

_TOKENS_PER_GROUP = 2048


def context_bytes(backbone: Backbone, num_tokens: int) -> int:
    """Memory that keys and values of so many tokens take."""
    config = backbone.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * backbone.spec.num_layers * heads * size * num_tokens * backbone.dtype.itemsize)


class KeptContexts:
    """Keys and values of a prepared set of examples, held in memory without padding.

    Args:
        backbone: a causal model that takes a plan.
        prefixes: each example's constant token ids; empty ones are allowed.
    """

    def __init__(self, backbone: Backbone, prefixes: Sequence[Sequence[int]]) -> None:
        self._keys: list[Tensor] = [torch.empty(0)] * len(prefixes)
        self._values: list[Tensor] = [torch.empty(0)] * len(prefixes)
        self._dtype, self._device = backbone.dtype, backbone.device
        ordered = sorted((i for i, ids in enumerate(prefixes) if ids), key=lambda i: (len(prefixes[i]), i))
        at = 0
        with torch.no_grad():
            while at < len(ordered):
                num = max(1, _TOKENS_PER_GROUP // len(prefixes[ordered[at]]))
                self._compute(backbone, prefixes, ordered[at : at + num])
                at += num

    def _compute(self, backbone: Backbone, prefixes: Sequence[Sequence[int]], group: Sequence[int]) -> None:
        rows = [prefixes[i] for i in group]
        ids = pad_rows(rows, backbone.tokens.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        steps = torch.arange(ids.shape[1]).expand(len(rows), -1)
        live = Live(ids, torch.full_like(ids, -1), steps < lengths[:, None], steps)
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        backbone.hidden(live, PromptState(), keep=kept)
        for row, example in enumerate(group):
            length = len(prefixes[example])
            self._keys[example] = torch.stack([kept[layer][0][row, :, :length] for layer in range(len(kept))])
            self._values[example] = torch.stack([kept[layer][1][row, :, :length] for layer in range(len(kept))])

    def context(self, index: Sequence[int]) -> Context | None:
        """The context of a batch of examples, right-padded; None where no example has one."""
        lengths = [self._keys[i].shape[2] if self._keys[i].dim() == 4 else 0 for i in index]
        longest = max(lengths)
        if longest == 0:
            return None
        layers, heads, _, size = self._keys[index[lengths.index(longest)]].shape
        keys = torch.zeros(layers, len(index), heads, longest, size, dtype=self._dtype, device=self._device)
        values = torch.zeros_like(keys)
        for row, (example, length) in enumerate(zip(index, lengths, strict=True)):
            if length:
                keys[:, row, :, :length] = self._keys[example]
                values[:, row, :, :length] = self._values[example]
        steps = torch.arange(longest).expand(len(index), -1)
        return Context(keys, values, steps < torch.tensor(lengths)[:, None], steps)
