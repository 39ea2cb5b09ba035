"""A two-second test that kept contexts are exact on this machine: a tiny random model, computed plainly and with a context.

In: nothing. Out: the largest relative difference of the final hidden states, about 1e-6 in fp32.
"""

import torch

from ptune.backbone.backbone import Backbone
from ptune.backbone.kept import KeptContexts
from ptune.inputs import Live, PromptState

__all__ = ["self_test"]

_VOCABULARY = 64
_NUM_TOKENS, _NUM_KEPT = 12, 8


def self_test() -> float:
    """Runs twelve tokens in one go, then the last four behind the kept keys and values of the first eight."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {f"t{number}": number for number in range(_VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0")), unk_token="t0"
    )
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Backbone(LlamaForCausalLM(config), tokenizer, name="self test")
    ids = list(range(2, 2 + _NUM_TOKENS))
    context = KeptContexts(backbone, [ids[:_NUM_KEPT]]).context([ids[:_NUM_KEPT]])
    with torch.no_grad():
        plain = backbone.hidden(_live(ids, 0), PromptState())[:, _NUM_KEPT:]
        resumed = backbone.hidden(_live(ids[_NUM_KEPT:], _NUM_KEPT), PromptState(), (context,) if context else ())
    return float((resumed - plain).abs().max() / plain.abs().max())


def _live(ids: list[int], first: int) -> Live:
    row = torch.tensor([ids])
    positions = torch.arange(first, first + len(ids))[None]
    return Live(row, torch.full_like(row, -1), torch.ones_like(row, dtype=torch.bool), positions)
