"""Keys and values of tokens that are read for the sake of others behind them.

In: tokens, and the prompt that stands among them. Out: their keys and values in every layer, with gradients where these are
wanted. A causal model's tokens do not see what follows them, so rows that start alike, learned tokens included, share them:
a batch of R rows reads a beginning of L tokens once, not R times, and each row's gradient comes back to that one reading.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.inputs import Context, Lead, Live, PromptState

if TYPE_CHECKING:
    from ptune.backbone.backbone import Backbone

__all__ = ["keys_and_values", "read_lead"]


def read_lead(backbone: "Backbone", lead: Lead, prompt: PromptState) -> Context:
    """[N, 1, H_kv, L, K] keys and values, shared by all rows.

    Args:
        backbone: a causal model that takes a plan.
        lead: what the rows start with.
        prompt: as it is now.
    """
    live, state = lead.live, prompt if lead.sees_prefix else PromptState(prompt.rows)
    both = keys_and_values(backbone, live, state)
    return Context(both[0], both[1], live.mask.to(both.device), live.positions.to(both.device) + state.num_positions)


def keys_and_values(backbone: "Backbone", live: Live, prompt: PromptState) -> Float[Tensor, "2 N R H L K"]:
    """Of every layer, for rows of tokens. The last layer's own output is read by nobody, so it is computed for one token."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    narrow = backbone.reads_where_needed and not backbone.is_checkpointing
    backbone.run(live, prompt, (), keep=kept, needed=torch.zeros(len(live.ids), 1, dtype=torch.long) if narrow else None)
    return torch.stack([torch.stack([kept[layer][part] for layer in range(len(kept))]) for part in (0, 1)])
