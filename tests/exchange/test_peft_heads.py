"""Classification heads: PEFT's SEQ_CLS adapters read, and ptune's written, with equal logits on the same tiny weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    BertModel,
    ElectraForSequenceClassification,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
    Qwen3ForSequenceClassification,
    RobertaForSequenceClassification,
)

from peers import QUIET
from ptune.backbone import Backbone
from ptune.bundle import bundle_of, export_peft, import_prompt, model_of, read_bundle
from ptune.errors import BackboneError, BundleError
from ptune.model import PromptModel
from ptune.readout import form_of
from tiny import EXAMPLES, tiny_backbone, tiny_model, tiny_tokenizer

pytestmark = [
    pytest.mark.filterwarnings(QUIET),
    pytest.mark.filterwarnings("ignore:.*will not detect padding tokens in `inputs_embeds`"),
]

CLASSES = {
    "bert": BertForSequenceClassification,
    "roberta": RobertaForSequenceClassification,
    "electra": ElectraForSequenceClassification,
    "gpt2": GPT2ForSequenceClassification,
    "llama": LlamaForSequenceClassification,
    "qwen3": Qwen3ForSequenceClassification,
}
NUM_CLASSES = 3
SOFT, DEEP = {"name": "prompt-tuning", "num_tokens": 3, "init": "random"}, {"name": "prefix-tuning", "num_tokens": 3}


def classifier(kind: str) -> Any:
    """transformers' classification model on the tiny weights; BERT's pooler, which the masked model lacks, is drawn anew."""
    plain = tiny_model(kind, attention="sdpa")
    config = plain.config
    config.num_labels = NUM_CLASSES
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = CLASSES[kind](config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    model.base_model.load_state_dict(plain.base_model.state_dict(), strict=False)
    return model.eval()


def backbone_with_pooler(kind: str) -> Backbone:
    """The tiny backbone; for BERT the bare encoder, whose pooler is that of `classifier`."""
    if kind != "bert":
        return tiny_backbone(kind)
    bare = BertModel(classifier(kind).config).eval()
    bare.load_state_dict(classifier(kind).bert.state_dict())
    return Backbone(bare, tiny_tokenizer(kind), name="tiny-bert-pooler")


@torch.no_grad()
def assert_same_scores(model: PromptModel, rival: PeftModel, num_front: int) -> None:
    """One row at a time, so that nothing is padded."""
    prepared = model.prepare(EXAMPLES)
    scores = model.scores(prepared)
    for number in range(len(EXAMPLES)):
        ids = model.batch(prepared, [number]).live.ids[:, num_front:]
        expected = rival(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        torch.testing.assert_close(scores[number] / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=5e-6)


THEIRS = [(kind, config) for kind in CLASSES for config in (PromptTuningConfig, PrefixTuningConfig)]
THEIRS.remove(("electra", PromptTuningConfig))  # PEFT makes rows of the hidden size, which ELECTRA's embeddings do not have


@pytest.mark.parametrize(("kind", "config"), THEIRS)
def test_ptune_reads_a_classifier_of_peft(kind: str, config: Any, tmp_path: Path) -> None:
    torch.manual_seed(8)
    rival = get_peft_model(classifier(kind), config(task_type="SEQ_CLS", num_virtual_tokens=3)).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=backbone_with_pooler(kind), labels=["a", "b", "c"]).model
    assert read.label_names == ("a", "b", "c")
    assert_same_scores(read, rival, 3 if config is PromptTuningConfig else 0)
    bundle_of(read, {}).write(tmp_path / "bundle")
    back = model_of(read_bundle(tmp_path / "bundle"), backbone_with_pooler(kind))
    assert torch.equal(back.scores(back.prepare(EXAMPLES)), read.scores(read.prepare(EXAMPLES)))


def trained(kind: str, method: dict[str, Any], pool: str) -> PromptModel:
    """A task with a head of the model's own form, its weights drawn."""
    backbone = backbone_with_pooler(kind)
    form = form_of(backbone.spec.architecture, is_decoder=backbone.kind == "decoder")
    names = ["a", "b", "c"]
    model = PromptModel.build(backbone=backbone, template="{text}", labels=names, method=method, pool=pool, form=form, seed=4)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(9)).mul_(0.3)
    return model


CASES = [
    *((kind, method, "cls") for kind in ("bert", "roberta", "electra") for method in (SOFT, DEEP)),
    *((kind, {**SOFT, "placement": "front"}, "first") for kind in ("bert", "roberta")),
    *((kind, method, "last") for kind in ("gpt2", "llama", "qwen3") for method in (SOFT, DEEP)),
]


@pytest.mark.parametrize(("kind", "method", "pool"), CASES)
def test_peft_opens_a_classifier_and_it_comes_back(kind: str, method: dict[str, Any], pool: str, tmp_path: Path) -> None:
    model = trained(kind, method, pool)
    done = export_peft(model, tmp_path / "adapter")
    assert "SEQ_CLS" in done.what and not any("head" in lost for lost in done.lost)
    rival = PeftModel.from_pretrained(classifier(kind), str(tmp_path / "adapter")).eval()
    num_front = (
        {"front": 3, "after-bos": 4}.get(method.get("placement", "after-bos"), 0) if method["name"] == "prompt-tuning" else 0
    )
    assert_same_scores(model, rival, num_front)
    back = import_prompt(tmp_path / "adapter", backbone=model.backbone).model
    assert torch.equal(back.scores(back.prepare(EXAMPLES)), model.scores(model.prepare(EXAMPLES)))


def test_cls_is_read_and_not_the_first_virtual_token(tmp_path: Path) -> None:
    """PEFT's result begins with its virtual tokens, and BERT's pooler reads place 0: a head on [CLS] behind them is refused."""
    model = trained("bert", {**SOFT, "placement": "front"}, "cls")
    with pytest.raises(BundleError, match=r"a head on another place \(pool: cls\)"):
        export_peft(model, tmp_path / "adapter")


def test_a_linear_head_is_refused_or_rides_along(tmp_path: Path) -> None:
    """It brings its input to unit scale; forced out, PEFT passes over it and ptune reads it back."""
    model = PromptModel.build(backbone=tiny_backbone("gpt2"), template="{text}", labels=["a", "b"], method=SOFT, pool="last")
    with pytest.raises(BundleError, match=r"the head \(LinearHead\), which is not one of transformers' own"):
        export_peft(model, tmp_path / "adapter")
    export_peft(model, tmp_path / "adapter", force=True)
    PeftModel.from_pretrained(tiny_model("gpt2", attention="sdpa"), str(tmp_path / "adapter"))
    back = import_prompt(tmp_path / "adapter", backbone=tiny_backbone("gpt2")).model
    assert torch.equal(back.scores(back.prepare(EXAMPLES)), model.scores(model.prepare(EXAMPLES)))


def test_classes_without_names_are_numbered_and_all_must_be_named(tmp_path: Path) -> None:
    rival = get_peft_model(classifier("gpt2"), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    rival.save_pretrained(tmp_path)
    assert import_prompt(tmp_path, backbone=tiny_backbone("gpt2")).model.label_names == ("0", "1", "2")
    with pytest.raises(BundleError, match="2 labels are given, and the head has 3 classes"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), labels=["a", "b"])


def test_a_prompt_without_its_head_serves_label_words(tmp_path: Path) -> None:
    rival = get_peft_model(classifier("gpt2"), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    rival.save_pretrained(tmp_path)
    words = {"yes": ["great"], "no": ["bad"]}
    read = import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), template="{text} It was{mask}", labels=words).model
    assert read.head is None and read.label_names == ("yes", "no")


def test_a_missing_pooler_is_said(tmp_path: Path) -> None:
    rival = get_peft_model(classifier("bert"), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    rival.save_pretrained(tmp_path)
    with pytest.raises(BundleError, match="the head reads a pooler, which tiny-bert does not have"):
        import_prompt(tmp_path, backbone=tiny_backbone("bert"))


def test_a_pooler_is_found_in_the_model_s_own_file(tmp_path: Path) -> None:
    """A masked-language model is loaded without its pooler, which the folder may hold all the same."""
    classifier("bert").bert.save_pretrained(tmp_path / "model")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "model")
    rival = get_peft_model(classifier("bert"), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)).eval()
    rival.save_pretrained(tmp_path / "adapter")
    read = import_prompt(tmp_path / "adapter", backbone=str(tmp_path / "model")).model
    assert_same_scores(read, rival, 0)


def test_a_checkpoint_of_p_tuning_v2_brings_its_head_and_pooler(tmp_path: Path) -> None:
    """Its RoBERTa classifier reads RoBERTa's pooler, which transformers' own does not have; the file holds both."""
    torch.manual_seed(12)
    state = {
        "prefix_encoder.embedding.weight": torch.randn(3, 2 * 2 * 32),
        "classifier.weight": torch.randn(NUM_CLASSES, 32),
        "classifier.bias": torch.randn(NUM_CLASSES),
        "roberta.pooler.dense.weight": torch.randn(32, 32) * 0.3,
        "roberta.pooler.dense.bias": torch.randn(32),
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    backbone = tiny_backbone("roberta")
    read = import_prompt(tmp_path, backbone=backbone).model
    prepared = read.prepare(EXAMPLES)
    scores = read.scores(prepared)
    for number in range(len(EXAMPLES)):
        with torch.no_grad():
            first = backbone.hidden(read.batch(prepared, [number]).live, read.prompt())[0, 0]
        pooled = torch.tanh(state["roberta.pooler.dense.weight"] @ first + state["roberta.pooler.dense.bias"])
        expected = state["classifier.weight"] @ pooled + state["classifier.bias"]
        torch.testing.assert_close(scores[number], expected, rtol=1e-5, atol=1e-5)


def test_a_head_of_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="does not know the classification head of modernbert"):
        form_of("modernbert", is_decoder=False)
    state = {"prefix_encoder.embedding.weight": torch.zeros(3, 128), "qa_outputs.weight": torch.zeros(2, 32)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"the head qa_outputs\.weight is not that of a bert classifier"):
        import_prompt(tmp_path, backbone=tiny_backbone("bert"))


def test_the_readme_names_the_class_with_its_classes(tmp_path: Path) -> None:
    export_peft(trained("gpt2", SOFT, "last"), tmp_path / "adapter")
    text = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert f"{AutoModelForSequenceClassification.__name__}.from_pretrained('tiny-gpt2', num_labels=3)" in text
