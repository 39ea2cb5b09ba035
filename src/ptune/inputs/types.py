"""The types that prompt and backbone share: what a model is, what a prompt gives, what the backbone is fed.

`prompt` and `backbone` never import each other; they meet in these frozen dataclasses. Dimension key: B examples, R rows,
S live tokens of a row, L context tokens, P prompt rows, D width, E embedding size, N layers, H_kv key/value heads,
K head size, U places read, W label words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ptune.inputs.prefix import Place, Prefix

__all__ = [
    "BackboneKind",
    "BackboneSpec",
    "Batch",
    "Context",
    "DecoderRows",
    "Encoded",
    "Lead",
    "Live",
    "PromptState",
    "Reads",
    "StoredContext",
]

BackboneKind = Literal["decoder", "encoder", "encoder-decoder"]


@dataclass(frozen=True)
class BackboneSpec:
    """The sizes and facts of a frozen model that a prompt needs to fit it.

    Args:
        name: how the user named it (catalogue name, hub id, folder).
        kind: decoder (causal), encoder (masked), or encoder-decoder.
        architecture: transformers' `model_type`.
        width: hidden size D.
        embedding_size: E, what a soft token has to be (differs from D in ALBERT).
        num_layers: N of the stack that reads the text.
        vocab_size: V.
        max_positions: the longest sequence with learned positions, or None where positions are relative.
        embedding_rms: root mean square of an embedding entry *after* the model's own scaling; the unit of learning
            rates and of random initialisation.
        has_language_head: whether it can score words.
        numbers_positions: whether the text's positions can be moved on to make room for a prefix.
    """

    name: str
    kind: BackboneKind
    architecture: str
    width: int
    embedding_size: int
    num_layers: int
    vocab_size: int
    max_positions: int | None
    embedding_rms: float
    has_language_head: bool
    numbers_positions: bool = True


@dataclass(frozen=True)
class PromptState:
    """What a prompt method gives the backbone: learned rows that stand in for token embeddings, or learned keys and values.

    Args:
        rows: [P, E] in the scale of the model's own embeddings as they enter the first layer; [J, P, E] for J candidates
            that are run side by side; None where no token of the text is learned.
        prefixes: learned keys and values of each stack of attention layers that has some.
        num_positions: how many positions in front of the text the prefix takes up, where the model numbers them; 0 where
            the text's own positions have made room already (`merge`).
    """

    rows: Float[Tensor, "*J P E"] | None = None
    prefixes: Mapping[Place, Prefix] = field(default_factory=dict)
    num_positions: int = 0

    @property
    def num_candidates(self) -> int:
        """J, 1 for a prompt by itself."""
        return 1 if self.rows is None or self.rows.dim() == 2 else len(self.rows)


@dataclass(frozen=True)
class Live:
    """Tokens that are computed now, right-padded.

    Args:
        ids: [R, S] token ids; a learned token holds the pad id.
        soft: [R, S] prompt row of a learned token, -1 elsewhere.
        mask: [R, S] True at real tokens.
        positions: [R, S] positions from 0, counted without padding.
        tree: [R, S, S] what each token sees where continuations branch off (itself and its ancestors), None for a plain row.
        types: [R, S] segment (token type) ids, or None where the model has none.
        deep: [R, S] the tokens that see learned keys and values and stand behind them, None for all.
    """

    ids: Int[Tensor, "R S"]
    soft: Int[Tensor, "R S"]
    mask: Bool[Tensor, "R S"]
    positions: Int[Tensor, "R S"]
    tree: Bool[Tensor, "R S S"] | None = None
    types: Int[Tensor, "R S"] | None = None
    deep: Bool[Tensor, "R S"] | None = None


@dataclass(frozen=True)
class Context:
    """Keys and values per layer that live tokens may attend to, without being computed again.

    Args:
        keys, values: [N, R, H_kv, L, K]; R is 1 where all rows share them.
        mask: [R, L] True at real context tokens.
        positions: [R, L] the positions they take up.
    """

    keys: Float[Tensor, "N R H L K"]
    values: Float[Tensor, "N R H L K"]
    mask: Bool[Tensor, "R L"]
    positions: Int[Tensor, "R L"]

    def layer(self, index: int) -> tuple[Float[Tensor, "R H L K"], Float[Tensor, "R H L K"]]:
        """Keys and values of one layer."""
        return self.keys[index], self.values[index]

    @property
    def learns(self) -> bool:
        """Whether keys or values are learned."""
        return self.keys.requires_grad or self.values.requires_grad


@dataclass(frozen=True)
class StoredContext:
    """A `Context` of rows that lie apart in memory or in a file, put together a layer at a time when that layer wants it.

    Args:
        rows: for each row [2, N, H_kv, L_r, K], keys and values without padding, or None for a row without a context.
        mask, positions: as in `Context`.
        like: an empty tensor of the number type and device that layers compute in.
    """

    rows: tuple[Float[Tensor, "2 N H _ K"] | None, ...]
    mask: Bool[Tensor, "R L"]
    positions: Int[Tensor, "R L"]
    like: Tensor

    learns = False

    def layer(self, index: int) -> tuple[Float[Tensor, "R H L K"], Float[Tensor, "R H L K"]]:
        """Keys and values of one layer, right-padded."""
        both = self._stacked([None if row is None else row[:, index] for row in self.rows])
        return both[0], both[1]

    @property
    def keys(self) -> Float[Tensor, "N R H L K"]:
        """Of all layers at once."""
        return torch.stack([self.layer(index)[0] for index in range(self._num_layers)])

    @property
    def values(self) -> Float[Tensor, "N R H L K"]:
        """Of all layers at once."""
        return torch.stack([self.layer(index)[1] for index in range(self._num_layers)])

    @property
    def _num_layers(self) -> int:
        return next(row.shape[1] for row in self.rows if row is not None)

    def _stacked(self, rows: list[Tensor | None]) -> Tensor:
        given = [row for row in rows if row is not None]
        longest = self.mask.shape[1]
        if len(given) == len(rows) and all(row.shape[2] == longest for row in given):
            return torch.stack(given, 1).to(self.like)
        heads, size = given[0].shape[1], given[0].shape[3]
        both = self.like.new_zeros(2, len(rows), heads, longest, size)
        for number, row in enumerate(rows):
            if row is not None:
                both[:, number, :, : row.shape[2]] = row
        return both


@dataclass(frozen=True)
class Lead:
    """What all rows of a batch start with, read once for all of them: keys and values that follow the prompt as it learns.

    Args:
        ids, soft: of its L tokens, as in `Encoded`.
        sees_prefix: whether they see learned keys and values.
    """

    ids: tuple[int, ...]
    soft: tuple[int, ...]
    sees_prefix: bool

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def live(self) -> Live:
        """Its tokens as one row."""
        ids, steps = torch.tensor([self.ids]), torch.arange(len(self))[None]
        return Live(ids, torch.tensor([self.soft]), torch.ones_like(ids, dtype=torch.bool), steps)


@dataclass(frozen=True)
class DecoderRows:
    """Decoder side of an encoder-decoder batch: Q decoder rows, each reading encoder row `source`.

    Args:
        ids: [Q, T] decoder tokens, right-padded.
        source: [Q] the encoder row that a decoder row attends to.
    """

    ids: Int[Tensor, "Q T"]
    source: Int[Tensor, " Q"]


@dataclass(frozen=True)
class Reads:
    """Where hidden states are read, and which tokens are scored there.

    U places are read once each. With `columns`, every place scores the same W tokens (one token a word). Otherwise item i
    scores token `item_token[i]` at place `item_read[i]` and adds its log-probability to `item_cell[i]` = example * W + word.
    """

    row: Int[Tensor, " U"]
    position: Int[Tensor, " U"]
    columns: Int[Tensor, " W"] | None = None
    item_read: Int[Tensor, " I"] | None = None
    item_token: Int[Tensor, " I"] | None = None
    item_cell: Int[Tensor, " I"] | None = None


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Args:
        ids: token ids (learned tokens hold the pad id), with no token for the answer.
        soft: prompt row of each token, -1 for hard ones.
        owner: the field each token comes from, "" for the template's own words, "soft" and "special" for the others.
        slot: the answer's tokens go in front of `ids[slot]`; None without an answer slot.
        num_cut: how many field tokens were dropped to fit.
        deep_from: the first token that sees learned keys and values; None where all do, or there are none.
        more_slots: where further answer slots stand, as `slot` says it of the first.
    """

    ids: tuple[int, ...]
    soft: tuple[int, ...]
    owner: tuple[str, ...]
    slot: int | None
    num_cut: int = 0
    deep_from: int | None = None
    more_slots: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def slots(self) -> tuple[int, ...]:
        """All answer slots."""
        return () if self.slot is None else (self.slot, *self.more_slots)

    @property
    def split(self) -> int:
        """Number of tokens in front of the first learned one, which a frozen causal model never changes."""
        first = next((i for i, row in enumerate(self.soft) if row >= 0), len(self.ids))
        return first if self.deep_from is None else min(first, self.deep_from)


@dataclass(frozen=True)
class Batch:
    """One step's worth of input.

    Args:
        live: tokens to compute; row r belongs to example `row_example[r]`.
        reads: where scores come from (in `decoder` rows for encoder-decoder models with label words).
        num_examples: B.
        row_example: [R].
        labels: [B] class numbers, -1 where unknown.
        index: the examples' numbers in the set that was prepared; kept contexts are looked up by them.
        decoder: decoder rows of an encoder-decoder model.
        pool: [R, S] weights with which a head averages hidden states (first, last, mask or mean), or None.
        contexts: keys and values in front of the live tokens, in order; or what all rows start with, to be read for them.
        rows: the encoded rows themselves where a readout lays them out again (masks filled one by one).
    """

    live: Live
    reads: Reads
    num_examples: int
    row_example: Int[Tensor, " R"]
    labels: Int[Tensor, " B"]
    index: tuple[int, ...] = field(default=())
    decoder: DecoderRows | None = None
    pool: Float[Tensor, "R S"] | None = None
    contexts: tuple[Context | StoredContext | Lead, ...] = ()
    rows: tuple[Encoded, ...] = ()

    @property
    def known(self) -> tuple[Context | StoredContext, ...]:
        """Its contexts, which are keys and values already wherever nothing learns."""
        known = tuple(one for one in self.contexts if not isinstance(one, Lead))
        assert len(known) == len(self.contexts)
        return known
