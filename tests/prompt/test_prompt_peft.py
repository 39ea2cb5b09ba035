"""Prompt tuning at the front against an independent source: PEFT's `PromptEmbedding`, same weights, one unpadded text."""

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from ptune.model import PromptModel
from tiny import EXAMPLES, tiny_backbone, tiny_model


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT 0.21 asks transformers by the old name
@pytest.mark.parametrize("num_tokens", [1, 5])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@torch.no_grad()
def test_logits_equal_those_of_peft(kind: str, num_tokens: int) -> None:
    backbone = tiny_backbone(kind)
    model = PromptModel.build(
        backbone=backbone,
        template="{text} It was{mask}",
        labels={"yes": "great", "no": "bad"},
        method={"name": "prompt-tuning", "num_tokens": num_tokens, "placement": "front", "init": "random"},
    )
    rival = get_peft_model(
        tiny_model(kind, attention="sdpa"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_tokens)
    ).eval()
    rival.prompt_encoder["default"].embedding.weight.copy_(model.prompt.rows)
    prepared = model.prepare(EXAMPLES)
    for number, row in enumerate(prepared.encoded):
        assert row.soft[:num_tokens] == tuple(range(num_tokens))
        ids = torch.tensor([row.ids[num_tokens:]])
        expected = rival(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        batch = model.batch(prepared, [number])
        got = backbone.logits(backbone.hidden(batch.live, model.prompt())[0])
        assert expected.shape == got.shape
        scale = float(expected.abs().max())
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=1e-6)
        words = [ids[0] for ids in model.answers.ids]
        torch.testing.assert_close(model(batch).scores[0] / scale, expected[-1, words] / scale, rtol=0, atol=1e-6)
