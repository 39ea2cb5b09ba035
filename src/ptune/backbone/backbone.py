"""A frozen language model with the few doors ptune needs: embed, hidden states, word scores, kept contexts.

In: a Hugging Face model and its tokenizer. Out: hidden states of live tokens, in which learned rows have taken the place of
token embeddings. The model is put into eval mode and frozen; nothing is stored on it between calls.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptune.backbone.attention import IMPLEMENTATION, register
from ptune.backbone.checkpointing import set_checkpointing
from ptune.backbone.identify import can_set_attention, fingerprint, kind_of, position_offset, sizes
from ptune.backbone.lead import read_lead
from ptune.backbone.output_layer import OutputLayer, find_output_layer
from ptune.backbone.plan import AttentionPlan, CrossPlan, Record, Seen
from ptune.backbone.spread import moved, needed_tokens, repeated
from ptune.backbone.stacks import Stack, find_stacks
from ptune.backbone.trial import fuse_layers, narrows_last_layer, own_forwards, takes_contexts
from ptune.errors import BackboneError, notice
from ptune.inputs import (
    Context,
    DecoderRows,
    Lead,
    Live,
    Place,
    Prefix,
    PromptState,
    Reads,
    StoredContext,
    Tokens,
)

if TYPE_CHECKING:
    from ptune.backbone.shared import SharedContexts

__all__ = ["Backbone"]


class Backbone:
    """A frozen model, ready to be prompted.

    Args:
        model: a Hugging Face model (masked, causal, encoder-decoder, or a bare encoder); it is frozen in place.
        tokenizer: its fast tokenizer.
        name: how to call it in bundles and messages.
        text_start: the token that plain text starts with; None follows the tokenizer.

    Raises:
        BackboneError: the model is of no kind that ptune serves.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, text_start: str | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        own_forwards(self.model)
        self.kind = kind_of(model)
        start = getattr(model.config, "decoder_start_token_id", None)
        self.tokens = Tokens(tokenizer, self.kind, text_start, start)
        self.text_start = text_start
        self.is_checkpointing = False
        self.is_quantised = False
        self.shared: SharedContexts | None = None  # see `sharing_contexts`
        self._use_own_attention()
        self._trunk = model.get_encoder() if self.kind == "encoder-decoder" else model.base_model
        self._accepted = frozenset(inspect.signature(self._trunk.forward).parameters)
        self.output = self._find_output(name)
        self.spec = sizes(
            model,
            name=name,
            kind=self.kind,
            has_language_head=self.output is not None,
            numbers_positions="position_ids" in self._accepted,
        )
        self._position_offset = position_offset(model)
        self.fingerprint = fingerprint(model)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    def embed(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape E"]:
        """Token embeddings as they enter the first layer, the model's own scaling included."""
        embedded: Tensor = self.model.get_input_embeddings()(ids.to(self.device))
        return embedded

    def hidden(
        self,
        live: Live,
        prompt: PromptState,
        contexts: Sequence[Context | StoredContext | Lead] = (),
        *,
        keep: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "R S D"]:
        """Final hidden states of live tokens, for one candidate prompt.

        Args:
            live: tokens, R rows of S.
            prompt: learned rows that take the place of tokens whose `soft` is not negative.
            contexts: keys and values in front, or what all rows start with (causal models only).
            keep: a dictionary to be filled with each layer's live keys and values.

        Raises:
            BackboneError: a context, branches or `keep` on a model whose attention cannot be reached.
        """
        return self.run(live, prompt, contexts, keep=keep)

    def read(
        self,
        live: Live,
        prompt: PromptState,
        reads: Reads,
        contexts: Sequence[Context | StoredContext | Lead] = (),
        decoder: DecoderRows | None = None,
    ) -> Float[Tensor, "*J U D"]:
        """Final hidden states at the places that are read, and as little else as can be.

        Candidates share the contexts, side by side in each row; without a context they are rows of their own. A causal model's
        last layer is computed at the places alone.

        Args:
            live, prompt, contexts: as in `hidden`; with J candidate prompts the result has a leading J.
            reads: U places, in the decoder's rows where there is a decoder.
            decoder: decoder rows of an encoder-decoder model.
        """
        num_candidates = prompt.num_candidates
        many = prompt.rows is not None and prompt.rows.dim() == 3
        side_by_side = num_candidates > 1 and bool(contexts)
        needed = None if decoder is not None or self.is_checkpointing else needed_tokens(reads, live)
        if needed is not None and not self.reads_where_needed:
            needed = None
        states = self.run(live, prompt, contexts, needed=needed)
        if decoder is not None:
            rows = repeated(decoder, num_candidates, len(live.ids))
            states = self.decoder_hidden(rows, states, live.mask.repeat(num_candidates, 1), prompt)
        if side_by_side:
            states = states.view(len(states), num_candidates, -1, states.shape[-1]).transpose(0, 1)
        elif many:
            states = states.view(num_candidates, -1, *states.shape[1:])
        row, position = reads.row.to(self.device), reads.position.to(self.device)
        return states[:, row, position] if many else states[row, position]

    def run(
        self,
        live: Live,
        prompt: PromptState,
        contexts: Sequence[Context | StoredContext | Lead],
        *,
        keep: dict[int, tuple[Tensor, Tensor]] | None = None,
        needed: Tensor | None = None,
    ) -> Tensor:
        """[R, S, D]; J candidates are [R, J * S, D] on contexts, else [J * R, S, D]; zeros but for `needed` tokens if given."""
        live = moved(live, self.device)
        held: tuple[Seen, ...] = tuple(
            read_lead(self, one, prompt) if isinstance(one, Lead) else moved(one, self.device) for one in contexts
        )
        num_candidates = prompt.num_candidates
        embeds = self._embeds(live, prompt)
        side_by_side = num_candidates > 1 and bool(held)
        live = _behind_prefix(live, prompt)
        positions = live.positions + self._position_offset
        if side_by_side:
            embeds, positions = embeds.transpose(0, 1).flatten(1, 2), positions.repeat(1, num_candidates)
        elif embeds.dim() == 4:
            embeds, live, positions = embeds.flatten(0, 1), repeated(live, num_candidates), positions.repeat(num_candidates, 1)
            needed = None if needed is None else needed.repeat(num_candidates, 1)
        arguments: dict[str, Any] = {"inputs_embeds": embeds, "use_cache": False, "position_ids": positions}
        if live.types is not None:
            arguments["token_type_ids"] = live.types
        seen = held
        if "text" in prompt.prefixes:
            seen = (*held, prompt.prefixes["text"].to(embeds))
        if seen or live.tree is not None or keep is not None or needed is not None:
            at = None if needed is None else needed.to(self.device)
            plan = self._plan(live, seen, num_candidates if side_by_side else 1, keep)
            plan.needed = at
            arguments["ptune_plan"] = plan
        elif self.kind != "decoder" or not bool(live.mask[:, 0].all()):
            arguments["attention_mask"] = live.mask.long()
        hidden: Tensor = self._trunk(**self._accept(arguments)).last_hidden_state
        return hidden

    def _plan(
        self,
        live: Live,
        seen: tuple[Seen, ...],
        num_candidates: int,
        keep: dict[int, tuple[Tensor, Tensor]] | None,
    ) -> AttentionPlan:
        """What live tokens see, on a model that reads plans.

        Raises:
            BackboneError: it reads none, or contexts and branches are asked of a model that is not causal.
        """
        if self.kind == "decoder":
            if not self.takes_plan:
                raise BackboneError(
                    f"{self.spec.name} ({self.spec.architecture}) has no attention that a context can enter",
                    fix="set keep_context: false and use label words of one token",
                )
            return AttentionPlan(live, seen, num_candidates, keep)
        if live.tree is not None or keep is not None or not all(isinstance(one, Prefix) for one in seen):
            raise BackboneError(f"{self.spec.name} ({self.spec.architecture}) is not causal, so no kept context can enter it")
        stack = self.stacks["text"]
        return AttentionPlan(live, seen, is_causal=False, layers=stack.layers, is_counted=stack.is_shared)

    def _accept(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the arguments that the model's forward takes."""
        takes_all = "kwargs" in self._accepted
        return {
            name: value for name, value in arguments.items() if name in self._accepted or (takes_all and name == "ptune_plan")
        }

    def _embeds(self, live: Live, prompt: PromptState) -> Tensor:
        """[R, S, E], or [J, R, S, E] for a prompt of candidates: learned rows in the place of their tokens."""
        embeds = self.embed(live.ids)
        if prompt.rows is None:
            return embeds
        index, is_soft = live.soft.clamp(min=0), (live.soft >= 0)[..., None]
        rows = prompt.rows.to(embeds)
        if rows.dim() == 2:
            return torch.where(is_soft, torch.nn.functional.embedding(index, rows), embeds)
        placed = torch.stack([torch.nn.functional.embedding(index, one) for one in rows])
        return torch.where(is_soft, placed, embeds)

    def decoder_hidden(
        self, decoder: DecoderRows, hidden: Float[Tensor, "R S D"], mask: Tensor, prompt: PromptState | None = None
    ) -> Float[Tensor, "Q T D"]:
        """Decoder states of an encoder-decoder model; each decoder row reads the encoder row it names.

        Args:
            decoder: Q rows of tokens.
            hidden, mask: the encoder's states and real tokens.
            prompt: whose prefixes of the decoder's own and of cross attention its tokens see.
        """
        source = decoder.source.to(self.device)
        arguments: dict[str, Any] = {
            "input_ids": decoder.ids.to(self.device),
            "encoder_hidden_states": hidden[source],
            "encoder_attention_mask": mask.to(self.device).long()[source],
            "use_cache": False,
        }
        prefixes = {} if prompt is None else prompt.prefixes
        if "decoder" in prefixes or "cross" in prefixes:
            arguments["ptune_plan"] = self._decoder_plan(arguments["input_ids"], hidden, mask.to(self.device)[source], prefixes)
        states: Tensor = self.model.get_decoder()(**arguments).last_hidden_state
        return states

    def _decoder_plan(self, ids: Tensor, hidden: Tensor, mask: Tensor, prefixes: Mapping[Place, Prefix]) -> AttentionPlan:
        """Real tokens stand on the left, so that what pads a row on the right is seen by no real one."""
        steps = torch.arange(ids.shape[1], device=self.device).expand(ids.shape)
        live = Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), steps)
        own, cross = ((prefixes[place].to(hidden),) if place in prefixes else () for place in ("decoder", "cross"))
        look = CrossPlan(live, cross, is_causal=False, layers=self.stacks["cross"].layers, mask=mask.bool())
        return AttentionPlan(live, own, layers=self.stacks["decoder"].layers, cross=look)

    def watch(self, plan: AttentionPlan | Record, ids: Tensor) -> Tensor:
        """[R, S, D] of plain tokens, with whatever plan or record; for trials."""
        steps = torch.arange(ids.shape[1], device=self.device).expand(ids.shape) + self._position_offset
        arguments = {"inputs_embeds": self.embed(ids), "position_ids": steps, "use_cache": False, "ptune_plan": plan}
        hidden: Tensor = self._trunk(**self._accept(arguments)).last_hidden_state
        return hidden

    def watch_decoder(self, record: Record, input_ids: Tensor, hidden: Tensor) -> None:
        """Notes what a decoder's layers attend to when it reads an encoder's states."""
        self.model.get_decoder()(input_ids=input_ids, encoder_hidden_states=hidden, use_cache=False, ptune_plan=record)

    def logits(
        self, hidden: Float[Tensor, "U D"], columns: Int[Tensor, " W"] | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Word scores [U, W] for `columns`, or [U, V].

        Raises:
            BackboneError: the model has no language-model head.
        """
        return self.require_output().logits(hidden, None if columns is None else columns.to(self.device), weight)

    def require_output(self) -> OutputLayer:
        """The language-model head, or the error that says what to do without one."""
        if self.output is None:
            raise BackboneError(
                f"{self.spec.name} has no language-model head that fits, so it cannot score label words",
                fix="use a linear head (head: linear) or a masked or causal language model",
            )
        return self.output

    @cached_property
    def takes_plan(self) -> bool:
        """Whether contexts and branches reach every attention layer exactly, by a trial on a few tokens.

        Where they do, layers of the Llama kind take the short way of `fused` from here on, if their own trial agrees.
        """
        if self.kind != "decoder" or not self._own_attention:
            return False
        self.__dict__["takes_plan"] = True  # for the trial itself
        if not takes_contexts(self):
            return False
        fuse_layers(self)
        return True

    @cached_property
    def stacks(self) -> Mapping[Place, Stack]:
        """Where learned keys and values can enter: each stack of attention layers, tried on a few tokens.

        Raises:
            BackboneError: the model takes none, and why.
        """
        reason = "" if self._own_attention else "it does not use transformers' attention interface"
        if self.kind == "decoder" and not reason and not self.takes_plan:
            reason = "its attention cannot be reached"
        if reason or ("kwargs" not in self._accepted):
            raise BackboneError(
                f"{self.spec.name} ({self.spec.architecture}) takes no learned keys and values: "
                f"{reason or 'its forward passes nothing on to its attention'}",
                where="method",
                fix="use prompt-tuning or p-tuning, whose learned tokens every model reads",
            )
        return find_stacks(self)

    @cached_property
    def reads_where_needed(self) -> bool:
        """Whether the last layer can be computed at the needed tokens alone: tried on a few tokens."""
        return self.takes_plan and narrows_last_layer(self)

    @property
    def layers(self) -> Sequence[torch.nn.Module]:
        """The stack of decoder layers, in order; empty where there is none to be found."""
        stacks = [
            module
            for module in self._trunk.modules()
            if isinstance(module, torch.nn.ModuleList) and len(module) == self.spec.num_layers
        ]
        return list(stacks[0]) if stacks else []

    def checkpoint(self, enabled: bool) -> None:
        """Recomputes each layer in the backward pass to save memory (see `checkpointing`).

        Raises:
            BackboneError: the architecture has no checkpointing layers.
        """
        set_checkpointing(self.model, self.spec.architecture, enabled)
        self.is_checkpointing = enabled

    def _use_own_attention(self) -> None:
        """Models that do without SDPA have attention of their own kind (soft caps, sinks), which must stay theirs."""
        register()
        self._own_attention = True
        if self.model.config._attn_implementation == IMPLEMENTATION:
            return
        reason = ""
        if not getattr(self.model, "_supports_sdpa", True) or not can_set_attention(self.model):
            reason = "its attention cannot be replaced"
        else:
            try:
                self.model.set_attn_implementation(IMPLEMENTATION)
            except (ValueError, AttributeError, NotImplementedError) as error:
                reason = str(error)
        self._own_attention = not reason
        if reason and self.kind == "decoder":
            notice(f"contexts cannot be kept for {self.model.config.model_type}: {reason}")

    def _find_output(self, name: str) -> OutputLayer | None:
        """The output layer, tried on a few tokens against the model's own logits; None where it has none that fits."""
        if self.model.get_output_embeddings() is None:
            return None
        ids = torch.arange(4, device=self.device)[None]
        text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            if self.kind == "encoder-decoder":
                own = self.model(**text, decoder_input_ids=ids, use_cache=False)
                answer = {"input_ids": ids, "encoder_hidden_states": own.encoder_last_hidden_state, "use_cache": False}
                hidden = self.model.get_decoder()(**answer).last_hidden_state
            else:
                own = self.model(**text)
                hidden = self._trunk(**text).last_hidden_state
            found = find_output_layer(self.model, self.kind, hidden[0], own.logits[0])
        if found is None:
            notice(f"{name} computes its logits in a way that ptune does not know, so it cannot score label words")
        return found


def _behind_prefix(live: Live, prompt: PromptState) -> Live:
    """Live tokens with their positions moved on behind the prefix that they see, where it takes up some."""
    if not prompt.num_positions:
        return live
    shift = prompt.num_positions if live.deep is None else prompt.num_positions * live.deep.long()
    return replace(live, positions=live.positions + shift)
