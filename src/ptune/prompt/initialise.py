"""Where learned tokens start: at random, at frequent words, at given words, at label words, or at another task's prompt.

In: the layout, an `embed` function (the model's own scaling included) and what the recipe asks for. Out: [P, E]. Words given
in the template (`{soft:"words"}`) win over the method's choice. Source: Lester et al. 2021, section 3.2 (class labels: mean of
a label's token embeddings); that random is the worst choice and its scale must be the embedding's own: PEFT's own tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from ptune.errors import PromptError
from ptune.inputs import Place, SoftLayout
from ptune.prompt.method import MethodConfig

__all__ = ["InitConfig", "InitSources", "InitialisationKind", "initial_rows"]

InitialisationKind = Literal["random", "vocabulary", "text", "labels", "bundle"]
Embed = Callable[[Tensor], Tensor]


class InitConfig(MethodConfig):
    """Initialisation keys shared by the methods whose parameters are rows.

    Args:
        init: `vocabulary` (rows of frequent words), `random` (normal, at the embeddings' size), `text` (`init_text`),
            `labels` (label words, then vocabulary) or `bundle` (`init_bundle`, a trained task on the same backbone).
        init_text: words to start from, cycled over the rows.
        init_bundle: path of a bundle.
    """

    init: InitialisationKind | None = None
    init_text: str | None = None
    init_bundle: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "InitConfig":
        if self.init == "text" and not self.init_text:
            raise ValueError("init: text needs init_text")
        if self.init == "bundle" and not self.init_bundle:
            raise ValueError("init: bundle needs init_bundle")
        return self

    @property
    def kind(self) -> InitialisationKind:
        """The choice made, or the one that the other keys imply; vocabulary where nothing is said."""
        return self.init or ("text" if self.init_text else "bundle" if self.init_bundle else "vocabulary")


@dataclass(frozen=True)
class InitSources:
    """What initialisation may draw on.

    Args:
        frequent_ids: token ids of ordinary words, most frequent first.
        text_ids: tokens of `init_text`.
        label_ids: tokens of each label's words.
        bundle_rows: [P', E] of another task, already checked to belong to the same backbone.
        bundle_deep: the keys and values of another task, of a deep method.
    """

    frequent_ids: Sequence[int]
    text_ids: Sequence[int] = ()
    label_ids: Sequence[Sequence[int]] = ()
    bundle_rows: Float[Tensor, "Q E"] | None = None
    bundle_deep: Mapping[Place, Float[Tensor, "2 _ _ _ _"]] = field(default_factory=dict)


def initial_rows(
    kind: InitialisationKind, layout: SoftLayout, sources: InitSources, embed: Embed, *, rms: float, seed: int
) -> Float[Tensor, "P E"]:
    """The rows that training starts from.

    Args:
        kind: the method's choice.
        layout: rows, some with a word of their own from the template.
        sources: ids and tensors to draw on.
        embed: ids -> embeddings as they enter the first layer.
        rms: size of the embeddings, for `random`.
        seed: of everything drawn.

    Raises:
        PromptError: a text without tokens, or a bundle of another length.
    """
    generator = torch.Generator().manual_seed(seed)
    num_rows = layout.num_rows
    rows = _rows_of(kind, num_rows, sources, embed, rms, generator)
    given = [i for i, token in enumerate(layout.init_ids) if token is not None]
    if given and kind != "bundle":
        words = torch.tensor([token for token in layout.init_ids if token is not None])
        rows[torch.tensor(given)] = embed(words).to(rows)
    return rows


def _rows_of(
    kind: InitialisationKind, num_rows: int, sources: InitSources, embed: Embed, rms: float, generator: torch.Generator
) -> Tensor:
    def embedded(ids: Sequence[int]) -> Tensor:
        rows = embed(torch.tensor(list(ids))).detach().cpu()
        return (rows if rows.dtype == torch.float64 else rows.float()).clone()

    def sampled(count: int) -> Tensor:
        chosen = torch.randperm(len(sources.frequent_ids), generator=generator)[:count].tolist()
        return embedded([sources.frequent_ids[i] for i in (chosen * (count // len(chosen) + 1))[:count]])

    if kind == "random":
        like = embedded([0])
        return torch.randn(num_rows, like.shape[1], generator=generator).to(like) * rms
    if kind == "text":
        if not sources.text_ids:
            raise PromptError("init_text has no tokens", where="method.init_text")
        return embedded([sources.text_ids[i % len(sources.text_ids)] for i in range(num_rows)])
    if kind == "labels":
        means = [embedded(ids).mean(0) for ids in sources.label_ids][:num_rows]
        return torch.cat([torch.stack(means), sampled(num_rows - len(means))]) if num_rows > len(means) else torch.stack(means)
    if kind == "bundle":
        rows = sources.bundle_rows
        if rows is None or len(rows) != num_rows:
            have = 0 if rows is None else len(rows)
            raise PromptError(
                f"the bundle's prompt has {have} rows, this one {num_rows}",
                where="method.init_bundle",
                fix="use the same number",
            )
        return rows.clone()
    return sampled(num_rows)
