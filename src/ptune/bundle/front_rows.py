"""What a task puts in front of every text, as embeddings: the form in which other tools can hold a learned prompt.

In: a model with learned tokens. Out: `Front`: rows [Q, E] that stand for everything up to the last learned token, words and
special tokens in front of it included, so that `[BOS] soft text` becomes rows for `[BOS] soft` and the same computation.
Learned tokens behind a field or behind the answer cannot be held like that, and the reason is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.inputs import encode
from ptune.model import TaskModel
from ptune.prompt import registration
from ptune.template import Mask, Node, Sep, Soft, Special, Template, Text

__all__ = ["Front", "embedded", "front_of", "why_no_front"]


@dataclass(frozen=True)
class Front:
    """The beginning that all texts of a task share, up to its last learned token.

    Args:
        rows: [Q, E] embeddings as they enter the first layer.
        ids: token ids; a learned token holds the pad id.
        learned: prompt row of each, -1 for a word or special token.
        holds_start: whether the tokens that a text starts with ([CLS], BOS) are among them.
    """

    rows: Float[Tensor, "Q E"]
    ids: tuple[int, ...]
    learned: tuple[int, ...]
    holds_start: bool

    @property
    def num_fixed(self) -> int:
        """How many of them are words or special tokens."""
        return sum(row < 0 for row in self.learned)


def why_no_front(model: TaskModel) -> str:
    """Why a task's learned tokens are no common beginning of its texts; empty where they are."""
    if not model.template.has_soft:
        return "nothing is learned in front of the text"
    nodes = _nodes_up_to_last_soft(model.template)
    varying = next((node for node in nodes if not isinstance(node, Soft | Text | Sep | Special)), None)
    if varying is not None:
        what = "the answer" if isinstance(varying, Mask) else f"{Template((varying,))}, which differs from text to text"
        return f"learned tokens stand behind {what}"
    if model.backbone.kind == "encoder" and any(isinstance(node, Sep) for node in nodes):
        return "learned tokens stand behind a separator, which begins another segment"
    return ""


def front_of(model: TaskModel) -> Front:
    """The front of a model for which `why_no_front` is empty."""
    tokens, layout = model.backbone.tokens, model.layout
    template = Template(_nodes_up_to_last_soft(model.template))
    lead = registration(model.method).num_lead(model.method)
    segments = template.render({})
    encoded = encode(segments, tokens, layout, max_length=model.max_length, num_answer_tokens=0, lead=lead)
    length = max(at for at, row in enumerate(encoded.soft) if row >= 0) + 1
    ids, learned = encoded.ids[:length], encoded.soft[:length]
    return Front(embedded(model, ids, learned), ids, learned, bool(tokens.start_ids) and lead == 0)


def embedded(model: TaskModel, ids: Sequence[int], learned: Sequence[int]) -> Float[Tensor, "Q E"]:
    """Embeddings of tokens as they enter the first layer, learned rows in the place of theirs."""
    with torch.no_grad():
        rows = model.prompt().rows
        embeds = model.backbone.embed(torch.tensor(ids))
    assert rows is not None
    index = torch.tensor(learned, device=rows.device)
    return torch.where((index >= 0)[:, None], rows[index.clamp(min=0)].to(embeds), embeds).cpu()


def _nodes_up_to_last_soft(template: Template) -> tuple[Node, ...]:
    last, _ = template.soft_nodes[-1]
    return template.nodes[: last + 1]
