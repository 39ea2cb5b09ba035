"""The backbone's doors: facts it measures, embedding, word scores, threads, number types, checkpointing's refusals."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AlbertConfig, AlbertForMaskedLM, BertModel

from ptune.backbone import Backbone, KeptContexts, context_bytes
from ptune.backbone.backbone import fingerprint
from ptune.errors import BackboneError, VerbalizerError
from ptune.model import PromptModel
from tiny import (
    DECODERS,
    ENCODER_DECODERS,
    EXAMPLES,
    KINDS,
    POSITIONS,
    WIDTH,
    build_backbone,
    example,
    tiny_backbone,
    tiny_model,
    tiny_tokenizer,
)

SEVERAL = {"yes": ["great", "terrible"], "no": ["bad", "不喜欢"]}


@pytest.mark.parametrize("kind", KINDS)
def test_facts_about_the_model(kind: str) -> None:
    spec = tiny_backbone(kind).spec
    assert (spec.width, spec.embedding_size, spec.has_language_head) == (WIDTH, WIDTH, True)
    assert spec.kind == ("decoder" if kind in DECODERS else "encoder-decoder" if kind in ENCODER_DECODERS else "encoder")
    assert spec.max_positions == (None if kind.startswith("t5") else POSITIONS)
    table = tiny_model(kind).get_input_embeddings()
    entering = table(torch.arange(table.weight.shape[0]))
    assert spec.embedding_rms == pytest.approx(float(entering.square().mean().sqrt()), rel=1e-4)


def test_gemma_scales_embeddings_on_their_way_in() -> None:
    backbone = tiny_backbone("gemma3")
    table = backbone.model.get_input_embeddings().weight
    torch.testing.assert_close(backbone.embed(torch.tensor([7, 9])), table[[7, 9]] * WIDTH**0.5, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_word_scores_are_the_models_own_logits(kind: str) -> None:
    """All places and words: BERT's and RoBERTa's transform, T5's tied scale, BART's bias, Gemma's soft cap."""
    backbone, plain = tiny_backbone(kind), tiny_model(kind, attention="sdpa")
    ids = torch.randint(5, plain.config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    answer = {"decoder_input_ids": ids[:, :4]} if kind in ENCODER_DECODERS else {}
    own = plain(input_ids=ids, output_hidden_states=True, **answer)
    hidden = (own.decoder_hidden_states if answer else own.hidden_states)[-1]
    torch.testing.assert_close(backbone.logits(hidden.flatten(0, 1)), own.logits.flatten(0, 1), rtol=1e-6, atol=4e-6)
    columns = torch.tensor([3, 50, 8])
    torch.testing.assert_close(
        backbone.logits(hidden[0], columns),
        own.logits[0][:, columns],
        rtol=1e-6,
        atol=4e-6,
        msg="columns pick words in the order asked for",
    )


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_trained_output_matrix_takes_the_place_of_the_models_own(kind: str) -> None:
    backbone = tiny_backbone(kind)
    hidden = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    own = backbone.output.weight
    torch.testing.assert_close(backbone.logits(hidden, None, own.clone()), backbone.logits(hidden))
    assert not torch.allclose(backbone.logits(hidden, None, own * 2), backbone.logits(hidden))


def test_threads_do_not_meet() -> None:
    """Two tasks on one backbone at once: contexts and branches travel with the call."""
    backbone = tiny_backbone("gemma3")
    models = [
        PromptModel.build(backbone=backbone, template=template, labels=SEVERAL, method="p-tuning", seed=seed)
        for seed, template in enumerate(
            ["{text}{soft:2} It was{mask}", "{soft:3} {text}{mask} .", "{text}{soft:1} It{soft:2}{mask}"]
        )
    ]

    def run(number: int) -> torch.Tensor:
        model = models[number % 3]
        return model.scores(model.prepare(EXAMPLES, keep_context=True), batch_size=2)

    alone = [run(number) for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        for number, scores in enumerate(pool.map(run, range(24))):
            assert torch.equal(scores, alone[number % 3])


@pytest.mark.parametrize("kind", ["bert", "llama", "gemma3", "t5"])
def test_a_prompt_stays_in_single_precision_on_a_bf16_backbone(kind: str) -> None:
    half = Backbone(tiny_model(kind).to(torch.bfloat16), tiny_tokenizer(kind), name="half")
    model, exact = (
        PromptModel.build(backbone=backbone, template="{text}{soft:2} It was{mask}", labels=SEVERAL, method="p-tuning")
        for backbone in (half, tiny_backbone(kind))
    )
    prepared = model.prepare(EXAMPLES, keep_context=not model.why_not_keep())
    outcome = model(model.batch(prepared, range(len(EXAMPLES))))
    outcome.loss.backward()
    (rows,) = model.parameters()
    assert rows.dtype == rows.grad.dtype == torch.float32
    assert outcome.scores.dtype == torch.float32
    expected = exact.scores(exact.prepare(EXAMPLES))
    assert (outcome.scores - expected).abs().mean() < 0.2 * expected.abs().mean()
    assert half.fingerprint == tiny_backbone(kind).fingerprint, "fp32 and bf16 loads of one model agree"


def test_the_fingerprint_sees_a_changed_weight() -> None:
    backbone = build_backbone("llama")
    with torch.no_grad():
        backbone.model.model.layers[0].mlp.up_proj.weight[0, 0] += 0.1
    assert fingerprint(backbone.model) != backbone.fingerprint == tiny_backbone("llama").fingerprint


def test_kept_contexts_do_not_depend_on_their_neighbours() -> None:
    backbone = tiny_backbone("llama")
    prefixes = [(0, 30, 40, 50), (), (0, 60), tuple(range(30, 50))]
    together = KeptContexts(backbone, prefixes)
    context = together.context([prefixes[i] for i in (3, 1, 2)])
    assert context.keys.shape == (2, 3, 2, 20, 8)
    assert context.mask.sum(1).tolist() == [20, 0, 2]
    assert together.context([prefixes[1]]) is None
    alone = KeptContexts(backbone, [prefixes[2]]).context([prefixes[2]])
    torch.testing.assert_close(context.keys[:, 2, :, :2], alone.keys[:, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(context.values[:, 2, :, :2], alone.values[:, 0], rtol=1e-6, atol=1e-6)
    assert context.keys.nbytes + context.values.nbytes == context_bytes(backbone, 60)
    again = KeptContexts(backbone, prefixes).context([prefixes[i] for i in (3, 1, 2)])
    assert torch.equal(again.keys, context.keys) and torch.equal(again.values, context.values)


def test_a_bare_encoder_has_heads_but_no_label_words() -> None:
    backbone = Backbone(BertModel(tiny_model("bert").config), tiny_tokenizer("bert"), name="bare")
    assert not backbone.spec.has_language_head
    with pytest.raises(BackboneError, match=r"bare has no language-model head.*head: linear"):
        PromptModel.build(backbone=backbone, template="{text}{soft:2}{mask}", labels=SEVERAL)
    model = PromptModel.build(backbone=backbone, template="{text}{soft:2}", labels=["yes", "no"], pool="cls")
    assert model.scores(model.prepare(EXAMPLES)).shape == (len(EXAMPLES), 2)


def test_what_cannot_be_checkpointed_says_so() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "embedding_size": 16}
    model = AlbertForMaskedLM(AlbertConfig(vocab_size=len(tiny_tokenizer("bert")), **sizes))
    backbone = Backbone(model, tiny_tokenizer("bert"), name="albert")
    with pytest.raises(BackboneError, match="albert has no gradient checkpointing"):
        backbone.checkpoint(True)
    backbone.checkpoint(False)


def test_training_the_language_model_forbids_keeping() -> None:
    model = PromptModel.build(
        backbone=build_backbone("llama"), template="{text}{soft:2} It was{mask}", labels=SEVERAL, method="p-tuning", tune="lm"
    )
    with pytest.raises(
        BackboneError, match=r"contexts cannot be kept: the language model itself is trained.*keep_context: false"
    ):
        model.prepare([example("good")], keep_context=True)


def test_label_words_are_needed_without_a_head() -> None:
    with pytest.raises(VerbalizerError, match="label words are missing"):
        PromptModel.build(backbone=tiny_backbone("bert"), template="{text}{soft:2}{mask}", labels=["yes", "no"])
