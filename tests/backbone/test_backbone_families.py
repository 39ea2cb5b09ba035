"""Architectures beyond the tiny backbones: word scores, positions, padding and contexts agree with the model's own forward.

One random model of two layers for each family. What an architecture is not expected to do stands beside it.
"""

import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from ptune.backbone import Backbone
from ptune.errors import BackboneError
from ptune.inputs import Context, Live, Prefix, PromptState
from ptune.model import PromptModel
from tiny import tiny_tokenizer

VOCABULARY = 420
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
SMALL_SPECIALS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
BART_SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Family:
    """A `model_type`, its sizes, and what it can do: take a plan (contexts, branches), and left padding.

    BART's kin number positions themselves and take no position ids, so their padding must stand right.
    """

    model_type: str
    head: Literal["masked", "causal", "seq2seq"]
    sizes: dict[str, Any]
    takes_plan: bool = False
    pads_left: bool = True
    max_positions: int | None = 64


FAMILIES = [
    Family("albert", "masked", {**SIZES, "embedding_size": 16}),
    Family("electra", "masked", {**SIZES, "embedding_size": 16}),
    Family("distilbert", "masked", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64}),
    Family("modernbert", "masked", {**SIZES, **SMALL_SPECIALS, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2}),
    Family("deberta-v2", "masked", SIZES),
    Family("xlm-roberta", "masked", {**SIZES, "max_position_embeddings": 66, "pad_token_id": 1}),
    Family("mpnet", "masked", {**SIZES, "max_position_embeddings": 66}),
    Family("opt", "causal", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}, takes_plan=True),
    Family("gpt_neox", "causal", SIZES, takes_plan=True),
    Family("gptj", "causal", {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, **SMALL_SPECIALS}),
    Family("bloom", "causal", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, max_positions=None),
    Family("qwen2", "causal", GROUPED, takes_plan=True),
    Family("qwen3", "causal", GROUPED, takes_plan=True),
    Family("gemma", "causal", GROUPED, takes_plan=True),
    Family("gemma2", "causal", {**GROUPED, "sliding_window": 8}),
    Family("mistral", "causal", {**GROUPED, "sliding_window": 8}, takes_plan=True),
    Family("phi3", "causal", {**GROUPED, **SMALL_SPECIALS}, takes_plan=True),
    Family("olmo2", "causal", {**GROUPED, **SMALL_SPECIALS}, takes_plan=True),
    Family("granite", "causal", {**GROUPED, "logits_scaling": 4.0, "embedding_multiplier": 3.0}, takes_plan=True),
    Family("cohere", "causal", {**GROUPED, **SMALL_SPECIALS, "logit_scale": 0.25}, takes_plan=True),
    Family(
        "mt5",
        "seq2seq",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
        max_positions=None,
    ),
    Family("mbart", "seq2seq", BART_SIZES, pads_left=False),
    Family("pegasus", "seq2seq", BART_SIZES, pads_left=False),
]
BY_NAME = {family.model_type: family for family in FAMILIES}
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)


def build(family: Family) -> Any:
    auto = {"masked": AutoModelForMaskedLM, "causal": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}[family.head]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(AutoConfig.for_model(family.model_type, vocab_size=VOCABULARY, **family.sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter)
                parameter.copy_(noise * 0.2) if parameter.dim() > 1 else parameter.add_(noise * 0.1)
    return model.eval()


@cache
def backbone_of(name: str) -> Backbone:
    family = BY_NAME[name]
    tokenizer = tiny_tokenizer({"masked": "roberta", "causal": "gpt2", "seq2seq": "bart"}[family.head])
    return Backbone(build(family), tokenizer, name=name)


def random_ids(*shape: int) -> Tensor:
    return torch.randint(5, VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


def live_of(ids: Tensor, first: int = 0) -> Live:
    positions = torch.arange(first, first + ids.shape[1]).expand(len(ids), -1)
    return Live(ids, torch.full_like(ids, -1), torch.ones_like(ids, dtype=torch.bool), positions)


@torch.no_grad()
def states(backbone: Backbone, live: Live, context: Context | None = None, keep: Any = None) -> Tensor:
    return backbone.hidden(live, PromptState(), () if context is None else (context,), keep=keep)


@every_family
@torch.no_grad()
def test_hidden_states_and_word_scores_are_the_models_own(family: Family) -> None:
    backbone, plain, ids = backbone_of(family.model_type), build(family), random_ids(2, 20)
    answer = {"decoder_input_ids": ids[:, :5]} if family.head == "seq2seq" else {}
    own = plain(input_ids=ids, attention_mask=torch.ones_like(ids), **answer)
    hidden = states(backbone, live_of(ids))
    if answer:
        torch.testing.assert_close(hidden, own.encoder_last_hidden_state, rtol=1e-5, atol=1e-5)
        hidden = backbone.model.get_decoder()(
            input_ids=ids[:, :5], encoder_hidden_states=hidden, use_cache=False
        ).last_hidden_state
    torch.testing.assert_close(backbone.logits(hidden[1]), own.logits[1], rtol=1e-5, atol=1e-4)
    columns = torch.tensor([7, 300, 11])
    torch.testing.assert_close(backbone.logits(hidden[1], columns), own.logits[1][:, columns], rtol=1e-5, atol=1e-4)
    assert backbone.spec.max_positions == family.max_positions or family.model_type in ("bloom",)


@every_family
def test_padding_changes_nothing(family: Family) -> None:
    backbone, ids = backbone_of(family.model_type), random_ids(2, 20)
    alone = states(backbone, live_of(ids[1:, :13]))[0]
    sides = ["right", "left"] if family.pads_left else ["right"]
    for side in sides:
        first = 0 if side == "right" else 7
        place = slice(first, first + 13)
        batch = torch.stack([ids[0], torch.ones(20, dtype=torch.long)])
        batch[1, place] = ids[1, :13]
        live = live_of(batch)
        mask, positions = live.mask.clone(), live.positions.clone()
        mask[1], positions[1] = False, positions[1] * (side == "right")
        mask[1, place], positions[1, place] = True, torch.arange(13)
        padded = states(backbone, replace(live, mask=mask, positions=positions))
        torch.testing.assert_close(padded[1, place], alone, rtol=1e-5, atol=2e-5)


@every_family
def test_contexts_and_branches_agree_with_whole_sequences(family: Family) -> None:
    """20 tokens, so that windows of 8 end inside the context and inside a branch."""
    backbone, ids = backbone_of(family.model_type), random_ids(3, 20)
    assert backbone.takes_plan == family.takes_plan
    if not family.takes_plan:
        with pytest.raises(BackboneError, match="context can enter"):
            states(backbone, live_of(ids), keep={})
        return
    kept: dict[int, Any] = {}
    states(backbone, live_of(ids[:, :13]), keep=kept)
    keys, values = (torch.stack([kept[layer][i] for layer in range(2)]) for i in (0, 1))
    context = Context(keys, values, torch.ones(3, 13, dtype=torch.bool), torch.arange(13).expand(3, -1))
    whole = states(backbone, live_of(ids))
    torch.testing.assert_close(states(backbone, live_of(ids[:, 13:], 13), context), whole[:, 13:], rtol=1e-5, atol=2e-5)
    other = torch.cat([ids[:, :15], ids[:, :5] + 1], 1)
    both = torch.cat([ids[:, 13:], other[:, 15:]], 1)
    positions = torch.tensor([*range(13, 20), *range(15, 20)]).expand(3, -1)
    owner = torch.tensor([0, 0, *[1] * 5, *[2] * 5])
    tree = torch.ones(12, 12, dtype=torch.bool).tril() & ((owner == 0) | (owner == owner[:, None]))
    got = states(backbone, replace(live_of(both), positions=positions, tree=tree.expand(3, -1, -1)), context)
    torch.testing.assert_close(got[:, :7], whole[:, 13:], rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(got[:, 7:], states(backbone, live_of(other))[:, 15:], rtol=1e-5, atol=2e-5)


def test_a_model_whose_attention_must_stay_scores_single_tokens_only() -> None:
    """Gemma-2's soft cap inside attention: no context and no branches, and an error that says what still works."""
    single = PromptModel.build(
        backbone=backbone_of("gemma2"), template="{text} It was{mask}", labels={"a": "great", "b": "bad"}, method="hard"
    )
    from tiny import EXAMPLES

    assert torch.isfinite(single.scores(single.prepare(EXAMPLES))).all()
    assert "attention" in single.why_not_keep()
    several = PromptModel.build(
        backbone=backbone_of("gemma2"),
        template="{text} It was{mask}",
        labels={"a": "wonderful", "b": "terrible"},
        method="hard",
    )
    with pytest.raises(BackboneError, match="label words of one token"):
        several.scores(several.prepare(EXAMPLES))


def test_logits_of_an_unknown_kind_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """A head that does more than its parts say is found out when the model is loaded."""
    model = build(BY_NAME["qwen2"])
    model.lm_head.register_forward_hook(lambda module, given, out: out.square())
    with caplog.at_level(logging.WARNING, logger="ptune"):
        backbone = Backbone(model, tiny_tokenizer("gpt2"), name="odd")
    assert "odd computes its logits in a way that ptune does not know" in caplog.text
    with pytest.raises(BackboneError, match="head: linear"):
        backbone.logits(torch.zeros(1, 32))


WITHOUT_INTERFACE = ("deberta-v2", "mpnet", "gptj", "bloom", "gemma2")
"""Attention of their own kind: learned keys and values are refused by name."""


@every_family
def test_learned_keys_and_values_enter_or_are_refused_by_name(family: Family) -> None:
    """With gates at 0 nothing changes; that values are those of plain attention stands in tests/deep."""
    backbone = backbone_of(family.model_type)
    if family.model_type in WITHOUT_INTERFACE:
        with pytest.raises(BackboneError, match=rf"{family.model_type} .*takes no learned keys and values"):
            _ = backbone.stacks
        return
    places = {"text", "decoder", "cross"} if family.head == "seq2seq" else {"text"}
    assert set(backbone.stacks) == places
    live, plain = live_of(random_ids(2, 9)), states(backbone, live_of(random_ids(2, 9)))
    spec = backbone.stacks["text"].spec
    both = torch.randn(2, spec.num_layers, spec.num_heads, 3, spec.head_size, generator=torch.Generator().manual_seed(1))
    gates = torch.zeros(spec.num_layers, spec.num_heads)
    with torch.no_grad():
        closed = backbone.hidden(live, PromptState(prefixes={"text": Prefix.of(both, gates)}))
        torch.testing.assert_close(closed, plain, rtol=1e-5, atol=2e-5)
        assert (backbone.hidden(live, PromptState(prefixes={"text": Prefix.of(both)})) - plain).abs().max() > 1e-3
