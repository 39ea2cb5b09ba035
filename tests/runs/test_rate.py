"""The default learning rate: a user who sets nothing gets a prompt that learns, on models whose embeddings differ in size."""

from dataclasses import replace

import pytest

import ptune
from ptune.prompt import embedding_rate
from ptune.prompt.rate import encoder_rate, encoder_scale
from tiny import build_backbone, tiny_backbone

TEXTS = {
    "good": ["The film was great", "a good story", "What a good day"],
    "bad": ["the plot was bad", "It was bad", "a bad film"],
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "gemma3", "t5"])
@pytest.mark.parametrize("encoder", ["embedding", "mlp", "lstm"])
def test_the_default_rate_learns(kind: str, encoder: str) -> None:
    rows = [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts]
    task = ptune.fit(
        train=rows,
        template="{text}{soft:5} It was{mask}",
        labels={"good": ["good"], "bad": ["bad"]},
        method={"name": "p-tuning", "encoder": encoder},
        backbone=tiny_backbone(kind),
        steps=120,
    )
    training = task.facts["training"]
    assert training["last_loss"] < 0.9 * training["first_loss"]


def test_the_rate_follows_the_size_of_the_embeddings() -> None:
    small, large = build_backbone("gpt2"), build_backbone("gpt2")
    large.model.get_input_embeddings().weight.data.mul_(50)
    again = type(large)(large.model, large.tokens.tokenizer, name="large")
    assert embedding_rate(again.spec) == pytest.approx(50 * embedding_rate(small.spec), rel=1e-4)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_a_prompt_encoder_moves_its_rows_by_the_same_share_at_any_width(kind: str) -> None:
    spec = build_backbone(kind).spec
    wide = replace(spec, embedding_size=8 * spec.embedding_size)
    assert encoder_scale(spec) == spec.embedding_rms
    assert encoder_rate(wide) == pytest.approx(encoder_rate(spec) / 8)
