"""Demonstrations chosen for each text: the labelled rows nearest to it, written in front of it.

In: rows. Out: the same rows with a column `demos`, which fills `{demos}` in the template. Nearness is the cosine between mean
hidden states of the frozen model itself, or of an encoder beside it, centred on the labelled rows: states of one model all
point the same way, and what they share says nothing (Mu & Viswanath 2018). Source: Liu et al. 2022 (What makes good in-context
examples for GPT-3?), where a sentence encoder's embeddings are compared as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example
from ptune.errors import BundleError
from ptune.inputs import PromptState, SoftLayout, encode, lay_out_pooled
from ptune.template import FieldSegment

__all__ = ["DEMOS", "NearDemos", "embed_rows", "mean_states", "with_column"]

DEMOS = "demos"
"""The column of a row that fills `{demos}`."""

_BATCH = 16
_LONGEST = 256
_COMPARED = 256
"""Texts that are compared with all rows at once."""


@dataclass(frozen=True)
class NearDemos:
    """Labelled rows, and how those nearest to a text are chosen.

    Args:
        texts: each row written out as a demonstration.
        labels: its label.
        vectors: [N, D] its mean hidden state.
        fields: columns whose texts are compared.
        count: how many demonstrations a text gets: of each label where `by_label`, else in all.
        by_label: whether each label gets the same number.
        separator: text between demonstrations.
        encoder: the model whose states are compared.
        is_own: whether that is the task's own backbone.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: Float[Tensor, "N D"]
    fields: tuple[str, ...]
    count: int
    by_label: bool
    separator: str
    encoder: Backbone
    is_own: bool

    def fill(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        """The rows with their demonstrations; a row that brings its own in the column `demos` keeps them."""
        bare = [example for example in examples if DEMOS not in example.fields]
        written = iter([self.text(chosen) for chosen in self.nearest(bare)])
        return tuple(e if DEMOS in e.fields else with_column(e, next(written)) for e in examples)

    def nearest(self, examples: Sequence[Example]) -> list[tuple[int, ...]]:
        """Numbers of the rows that each example is shown, the nearest last, so that it stands beside the text."""
        if not examples:
            return []
        vectors = embed_rows(self.encoder, examples, self.fields)
        return [chosen for some in torch.split(vectors, _COMPARED) for chosen in self._chosen(self._similarities(some))]

    def others(self) -> list[tuple[int, ...]]:
        """What each labelled row would be shown if it were a new text: the nearest of those that say other things."""
        found: list[tuple[int, ...]] = []
        numbers = {text: number for number, text in enumerate(self.texts)}
        same = torch.tensor([numbers[text] for text in self.texts])
        for some in torch.split(self.vectors, _COMPARED):
            similarities = self._similarities(some)
            own = same[len(found) : len(found) + len(some)]
            found += self._chosen(similarities.masked_fill(own[:, None] == same, -torch.inf))
        return found

    def text(self, chosen: Sequence[int]) -> str:
        """These rows as one text."""
        return self.separator.join(self.texts[number] for number in chosen)

    def _similarities(self, vectors: Float[Tensor, "Q D"]) -> Float[Tensor, "Q N"]:
        centre = self.vectors.mean(0)
        unit = torch.nn.functional.normalize
        return unit(vectors - centre, dim=1) @ unit(self.vectors - centre, dim=1).T

    def _chosen(self, similarities: Float[Tensor, "Q N"]) -> list[tuple[int, ...]]:
        """The nearest ones, of each label as many where that is asked for; of equally near ones the first is the nearer."""
        groups: dict[str, list[int]] = {}
        for number, label in enumerate(self.labels):
            groups.setdefault(label if self.by_label else "", []).append(number)
        best = []
        for group in groups.values():
            numbers = torch.tensor(group)
            order = similarities[:, numbers].argsort(dim=1, descending=True, stable=True)
            best.append(numbers[order[:, : self.count]])
        found = torch.cat(best, 1).sort(1).values
        order = similarities.gather(1, found).argsort(dim=1, descending=True, stable=True)
        return [tuple(row) for row in found.gather(1, order).flip(1).tolist()]

    # -- on disk -----------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """All but the vectors, as plain values for a bundle's card."""
        encoder = {"name": self.encoder.spec.name, "fingerprint": self.encoder.fingerprint}
        return {
            "texts": list(self.texts),
            "labels": list(self.labels),
            "fields": list(self.fields),
            "count": self.count,
            "by_label": self.by_label,
            "separator": self.separator,
            "encoder": None if self.is_own else encoder,
        }

    @classmethod
    def restore(cls, settings: Mapping[str, Any], backbone: Backbone) -> "NearDemos":
        """From `settings`, without the vectors yet; an encoder of its own is loaded.

        Raises:
            BackboneError: the encoder cannot be loaded.
            BundleError: it is not the one that the vectors were made with.
        """
        wanted = settings["encoder"]
        encoder = backbone if wanted is None else _encoder(wanted["name"])
        if wanted is not None and encoder.fingerprint != wanted["fingerprint"]:
            raise BundleError(
                f"the demonstrations were compared by {wanted['name']} ({wanted['fingerprint'][:12]}), "
                f"the encoder of that name is now {encoder.fingerprint[:12]}",
                where="near_demos.encoder",
                fix="make the task again with `ptune icl`",
            )
        return cls(
            texts=tuple(settings["texts"]),
            labels=tuple(settings["labels"]),
            vectors=torch.zeros(len(settings["texts"]), encoder.spec.width),
            fields=tuple(settings["fields"]),
            count=settings["count"],
            by_label=settings["by_label"],
            separator=settings["separator"],
            encoder=encoder,
            is_own=wanted is None,
        )


def with_column(example: Example, demos: str) -> Example:
    """The example with these demonstrations."""
    return replace(example, fields={**example.fields, DEMOS: demos})


def embed_rows(encoder: Backbone, examples: Sequence[Example], fields: Sequence[str]) -> Float[Tensor, "N D"]:
    """Mean hidden states of the rows' texts, of several fields one text with a line for each."""
    values = [[example.fields[name] for name in fields] for example in examples]
    return mean_states(encoder, ["\n".join(v if isinstance(v, str) else " ".join(v) for v in row) for row in values])


@torch.no_grad()
def mean_states(backbone: Backbone, texts: Sequence[str]) -> Float[Tensor, "N D"]:
    """Mean of the final hidden states over each text's tokens, in single precision on the CPU; zeros for a text without tokens.

    An encoder's own first and last tokens count, as in sentence-transformers; a causal model's start token does not: what it
    holds is the same for all texts, and large.

    Args:
        backbone: frozen; of an encoder-decoder the encoder is read.
        texts: each is cut to 256 tokens, or to the model's positions.
    """
    tokens, spec = backbone.tokens, backbone.spec
    longest = min(_LONGEST, spec.max_positions or _LONGEST)
    found = torch.zeros(len(texts), spec.width)
    has_types = spec.kind == "encoder" and getattr(backbone.model.config, "type_vocab_size", 0) > 1
    filled = [number for number, text in enumerate(texts) if tokens.ids(text.strip())]
    layout = SoftLayout({}, ())
    rows = {
        number: encode((FieldSegment(texts[number].strip(), "text"),), tokens, layout, max_length=longest, num_answer_tokens=0)
        for number in filled
    }
    order = sorted(filled, key=lambda number: len(rows[number]))
    for at in range(0, len(order), _BATCH):
        index = order[at : at + _BATCH]
        some = [rows[number] for number in index]
        batch = lay_out_pooled(some, "mean", tokens, labels=[-1] * len(some), index=index, has_types=has_types)
        assert batch.pool is not None
        weights = batch.pool.clone()
        if spec.kind == "decoder":
            weights[:, : len(tokens.start_ids)] = 0
        states = backbone.hidden(batch.live, PromptState()).float().cpu()
        found[index] = (states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
    return found


@lru_cache(maxsize=2)
def _encoder(name: str) -> Backbone:
    """An encoder that several tasks share; frozen, so nobody can change it."""
    return load_backbone(name)
