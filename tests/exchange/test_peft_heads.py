"""Heads: PEFT's adapters for classes, tags and answers read and ptune's written, equal logits on the same tiny weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

from peers import QUIET
from ptune.backbone import Backbone
from ptune.bundle import bundle_of, export_peft, import_prompt, model_of, read_bundle
from ptune.data import read_examples
from ptune.errors import BackboneError, BundleError, RecipeError
from ptune.model import PromptModel
from ptune.model.qa import QaModel
from ptune.model.tagging import TagModel
from ptune.readout import TOKEN_FORM, form_of
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
        torch.testing.assert_close(scores[number] / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-5)


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
    with pytest.raises(BundleError, match=r"the head qa_outputs\.weight is not that of a bert model for qa"):
        import_prompt(tmp_path, backbone=tiny_backbone("bert"))


def test_the_readme_names_the_class_with_its_classes(tmp_path: Path) -> None:
    export_peft(trained("gpt2", SOFT, "last"), tmp_path / "adapter")
    text = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert f"{AutoModelForSequenceClassification.__name__}.from_pretrained('tiny-gpt2', num_labels=3)" in text


# -- heads on tokens -------------------------------------------------------------------------------------------------

TAGS = ("I-PER", "O", "B-PER", "B-LOC", "I-LOC")  # an order that is not ptune's own
TAG_CLASSES = {
    "bert": BertForTokenClassification,
    "roberta": RobertaForTokenClassification,
    "gpt2": GPT2ForTokenClassification,
    "llama": LlamaForTokenClassification,
    "qwen3": Qwen3ForTokenClassification,
}
QA_CLASSES = {
    "roberta": RobertaForQuestionAnswering,
    "electra": ElectraForQuestionAnswering,
    "gpt2": GPT2ForQuestionAnswering,
    "llama": LlamaForQuestionAnswering,
}
TAG_ROWS = [
    {"tokens": ["The", "film", "was", "great"], "tags": ["O", "B-PER", "I-PER", "O"]},
    {"tokens": ["bad", "food", "here"], "tags": ["B-LOC", "O", "O"]},
]
QA_ROWS = [
    {
        "question": "What was great ?",
        "context": "The film was great , a good story .",
        "answers": {"text": ["The film"], "answer_start": [0]},
    }
]


def on_tiny_weights(cls: Any, kind: str, num_labels: int) -> Any:
    """transformers' model of a class on the tiny trunk; its head is drawn."""
    plain = tiny_model(kind, attention="sdpa")
    plain.config.num_labels = num_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        model = cls(plain.config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    trunk = getattr(model, "transformer", model.base_model)  # question answering keeps Llama's trunk under this name
    trunk.load_state_dict(plain.base_model.state_dict(), strict=False)
    return model.eval()


def rows_of(rows: list[dict[str, Any]], *fields: str) -> Any:
    return read_examples(rows, fields=fields, label=None)


@torch.no_grad()
def assert_same_tag_scores(model: TagModel, rival: PeftModel, order: Sequence[str], num_front: int) -> None:
    """Every word's first token, class by class under its name."""
    prepared = model.prepare(rows_of(TAG_ROWS, "tokens", "tags"))
    for number in range(len(TAG_ROWS)):
        batch = model.batch(prepared, [number])
        ids = batch.live.ids[:, num_front:]
        logits = rival(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        expected = logits[batch.reads.position][:, [order.index(tag) for tag in model.tags]]
        got = model(batch).scores
        assert len(got) == len(TAG_ROWS[number]["tokens"])
        torch.testing.assert_close(got / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
@pytest.mark.parametrize("kind", TAG_CLASSES)
def test_ptune_reads_a_tagger_of_peft(kind: str, config: Any, tmp_path: Path) -> None:
    """PEFT's result has a place for each virtual token too; the words' places are moved by as many."""
    torch.manual_seed(14)
    plain = on_tiny_weights(TAG_CLASSES[kind], kind, len(TAGS))
    rival = get_peft_model(plain, config(task_type="TOKEN_CLS", num_virtual_tokens=3)).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone(kind), labels=TAGS).model
    assert isinstance(read, TagModel) and read.scheme == "BIO" and read.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert_same_tag_scores(read, rival, TAGS, 3 if config is PromptTuningConfig else 0)


@pytest.mark.parametrize("method", [DEEP, SOFT])
@pytest.mark.parametrize("kind", TAG_CLASSES)
def test_peft_opens_a_tagger_and_it_comes_back(kind: str, method: dict[str, Any], tmp_path: Path) -> None:
    rows = rows_of(TAG_ROWS, "tokens", "tags")
    model = TagModel.build(backbone=tiny_backbone(kind), examples=rows, method=method, form=TOKEN_FORM)
    done = export_peft(model, tmp_path / "adapter")
    assert "TOKEN_CLS" in done.what and any("0: O, 1: B-LOC, 2: I-LOC" in lost for lost in done.lost)
    rival = PeftModel.from_pretrained(on_tiny_weights(TAG_CLASSES[kind], kind, 5), str(tmp_path / "adapter")).eval()
    assert_same_tag_scores(model, rival, model.tags, 4 if method is SOFT else 0)
    back = import_prompt(tmp_path / "adapter", backbone=tiny_backbone(kind)).model
    assert [str(one) for one in back.predict(rows)] == [str(one) for one in model.predict(rows)]


@torch.no_grad()
def assert_same_ends(model: QaModel, rival: PeftModel, num_front: int) -> None:
    """Start and end logits of the null place and of the context's tokens."""
    prepared = model.prepare(rows_of(QA_ROWS, "question", "context", "answers"))
    batch = model.batch(prepared, [0])
    ids = batch.live.ids[:, num_front:]
    out = rival(input_ids=ids, attention_mask=torch.ones_like(ids))
    expected = torch.stack([out.start_logits[0], out.end_logits[0]])[:, batch.reads.position]
    got = model(batch).scores[:, 0]
    torch.testing.assert_close(got / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
@pytest.mark.parametrize("kind", ["roberta", "gpt2", "llama"])
def test_ptune_reads_question_answering_of_peft(kind: str, config: Any, tmp_path: Path) -> None:
    torch.manual_seed(15)
    plain = on_tiny_weights(QA_CLASSES[kind], kind, 2)
    rival = get_peft_model(plain, config(task_type="QUESTION_ANS", num_virtual_tokens=3)).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone(kind), template="{question}{context}").model
    assert isinstance(read, QaModel)
    assert_same_ends(read, rival, 3 if config is PromptTuningConfig else 0)


@pytest.mark.parametrize("method", [DEEP, SOFT])
@pytest.mark.parametrize("kind", QA_CLASSES)
def test_peft_opens_question_answering_and_it_comes_back(kind: str, method: dict[str, Any], tmp_path: Path) -> None:
    model = QaModel.build(backbone=tiny_backbone(kind), template="{question} {context}", method=method, form=TOKEN_FORM, seed=3)
    export_peft(model, tmp_path / "adapter")
    rival = PeftModel.from_pretrained(on_tiny_weights(QA_CLASSES[kind], kind, 2), str(tmp_path / "adapter")).eval()
    assert_same_ends(model, rival, 4 if method is SOFT else 0)
    back = import_prompt(tmp_path / "adapter", backbone=tiny_backbone(kind)).model
    rows = rows_of(QA_ROWS, "question", "context")
    assert [str(one) for one in back.predict(rows)] == [str(one) for one in model.predict(rows)]


def test_bert_s_segment_ids_are_dropped_by_peft(tmp_path: Path) -> None:
    """Its question answering takes `token_type_ids` and hands none on."""
    model = QaModel.build(backbone=tiny_backbone("bert"), method=DEEP, form=TOKEN_FORM)
    with pytest.raises(BundleError, match="segment ids, which PEFT's question answering drops"):
        export_peft(model, tmp_path / "adapter")


def test_roberta_has_two_separators_between_question_and_context(tmp_path: Path) -> None:
    plain = on_tiny_weights(QA_CLASSES["roberta"], "roberta", 2)
    rival = get_peft_model(plain, PrefixTuningConfig(task_type="QUESTION_ANS", num_virtual_tokens=3)).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone("roberta")).model
    assert str(read.template) == "{question}{sep}{sep}{context}"
    assert_same_ends(read, rival, 0)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (None, "does not name its tags"),
        (("O", "B-PER", "I-PER", "B-LOC"), "4 labels are given, and the head has 5 classes"),
        (("O", "B-PER", "I-PER", "B-LOC", "B-ORG"), "are not all tags of BIO"),
    ],
)
def test_tags_have_to_be_named_all(labels: Any, says: str, tmp_path: Path) -> None:
    plain = on_tiny_weights(TAG_CLASSES["gpt2"], "gpt2", 5)
    get_peft_model(plain, PromptTuningConfig(task_type="TOKEN_CLS", num_virtual_tokens=3)).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=says):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), labels=labels)


def test_p_tuning_v2_tags_without_a_pooler(tmp_path: Path) -> None:
    """Its tagger's file has no pooler, its classifier's has one."""
    torch.manual_seed(16)
    state = {
        "prefix_encoder.embedding.weight": torch.randn(3, 128),
        "classifier.weight": torch.randn(3, 32),
        "classifier.bias": torch.randn(3),
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    read = import_prompt(tmp_path, backbone=tiny_backbone("bert"), labels=["O", "B-PER", "I-PER"]).model
    assert isinstance(read, TagModel)
    assert torch.equal(read.head.linear.weight, state["classifier.weight"])
    as_words = import_prompt(
        tmp_path, backbone=tiny_backbone("bert"), template="{text} It was{mask}", labels={"a": ["great"], "b": ["bad"]}
    ).model
    assert as_words.kind == "classification" and as_words.head is None


def test_kinds_that_need_more_than_a_prompt_are_refused(tmp_path: Path) -> None:
    get_peft_model(
        tiny_model("gpt2", attention="sdpa"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    ).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match="task tagging needs more than that"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), task="tagging")
    with pytest.raises(BundleError, match="without the template that it needs"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), task="generation")
    with pytest.raises(RecipeError, match="there is no kind of task 'taging'"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), task="taging")
