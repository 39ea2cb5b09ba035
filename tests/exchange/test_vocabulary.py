"""A soft prompt as vocabulary: a plain transformers model that reads a string gives ptune's logits and never writes a row."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from peers import LABELS, TEMPLATE, task
from ptune.backbone import load_backbone
from ptune.bundle import export_vocabulary
from ptune.errors import BundleError
from ptune.model import PromptModel
from tiny import EXAMPLES, KINDS, tiny_backbone, tiny_model

CLASSES = {"decoder": AutoModelForCausalLM, "encoder": AutoModelForMaskedLM, "encoder-decoder": AutoModelForSeq2SeqLM}
FRONT = {"name": "prompt-tuning", "num_tokens": 3, "placement": "front", "init": "random"}
CASES: dict[str, tuple[Any, str]] = {
    "front": (FRONT, TEMPLATE),
    "after-bos": ({**FRONT, "placement": "after-bos"}, TEMPLATE),
    "anywhere": (
        {"name": "p-tuning", "init": "random"},
        "Topic : {soft:2 id=a}{text} {soft id=b} {{It}} was{mask}{soft:2 id=a}",
    ),
}


def exported(model: PromptModel, folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """The folder through transformers' own doors: model, tokenizer, and the file with the string."""
    export_vocabulary(model, folder)
    loaded, report = CLASSES[model.backbone.kind].from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return loaded.eval(), AutoTokenizer.from_pretrained(folder), json.loads((folder / "ptune_prompt.json").read_text("utf-8"))


@torch.no_grad()
def logits_of_string(model: PromptModel, folder: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each example, the exported folder's logits at the answer, and ptune's."""
    loaded, tokenizer, prompt = exported(model, folder)
    prepared, pairs = model.prepare(EXAMPLES), []
    for number, (example, encoded) in enumerate(zip(EXAMPLES, prepared.encoded, strict=True)):
        text = prompt["prompt"].format(**example.fields)
        given = tokenizer(text, add_special_tokens=prompt["add_special_tokens"], return_tensors="pt")
        arguments = {name: given[name] for name in ("input_ids", "attention_mask")}
        batch = model.batch(prepared, [number])
        place = {"decoder": -1, "encoder": encoded.slot, "encoder-decoder": int(batch.reads.position[0])}[model.backbone.kind]
        if batch.decoder is not None:
            arguments["decoder_input_ids"] = batch.decoder.ids[:1]
        states = model.backbone.read(batch.live, model.prompt(), batch.reads, batch.contexts, batch.decoder)
        pairs.append((loaded(**arguments).logits[0, place], model.backbone.logits(states)[0]))
    return pairs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_string_gives_the_same_logits(kind: str, case: str, tmp_path: Path) -> None:
    method, template = CASES[case]
    if kind not in ("bert", "roberta", "t5", "t5-untied", "bart"):
        template = template.split("{mask}")[0] + "{mask}"  # what stands behind a causal model's answer is not read
    model = task(kind, method, template)
    for got, expected in logits_of_string(model, tmp_path / "model"):
        scale, size = float(expected.abs().max()), len(expected)
        torch.testing.assert_close(got[:size] / scale, expected / scale, rtol=0, atol=5e-6)
        assert int(got.argmax()) < size, "an added token has the largest logit"


def test_a_string_with_two_masks_gives_the_same_scores(tmp_path: Path) -> None:
    words = {"yes": ["film", "good"], "no": ["food", "bad"]}
    method = {"name": "p-tuning", "init": "random"}
    template = "{text}{soft:2} . The{mask} was{mask} ."
    model = PromptModel.build(backbone=tiny_backbone("bert"), template=template, labels=words, method=method)
    loaded, tokenizer, prompt = exported(model, tmp_path / "model")
    assert model.answers is not None and prompt["label_words"] == words
    scores = model.scores(model.prepare(EXAMPLES[:1]))
    given = tokenizer(prompt["prompt"].format(**EXAMPLES[0].fields), return_tensors="pt")
    places = (given["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
    with torch.no_grad():
        logs = torch.log_softmax(loaded(**given).logits[0, places], 1)
    expected = [sum(float(row[token]) for row, token in zip(logs, ids, strict=True)) for ids in model.answers.ids]
    torch.testing.assert_close(torch.softmax(scores[0], 0), torch.softmax(torch.tensor(expected), 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loud_row_is_never_the_answer(kind: str, tmp_path: Path) -> None:
    """Rows far larger than any embedding: as tied output rows they would win or lose everywhere."""
    model = task(kind, FRONT)
    with torch.no_grad():
        model.prompt.rows.mul_(50)
    loaded, tokenizer, _ = exported(model, tmp_path / "model")
    ids = torch.arange(0, len(tokenizer), 7)[None]
    arguments = {"decoder_input_ids": ids} if model.backbone.kind == "encoder-decoder" else {}
    with torch.no_grad():
        logits = loaded(input_ids=ids, attention_mask=torch.ones_like(ids), **arguments).logits[0]
    size = model.backbone.spec.vocab_size
    added, own = logits[:, size:], logits[:, :size]
    assert bool((added.max(1).values < own.max(1).values).all())
    if model.backbone.kind == "decoder":
        torch.testing.assert_close(_uncapped(loaded, added)[:, 0], _uncapped(loaded, own).mean(1), rtol=1e-3, atol=1e-3)
    else:
        assert bool((added < own.min()).all()) or kind.startswith("t5")


def _uncapped(loaded: Any, logits: torch.Tensor) -> torch.Tensor:
    cap = getattr(loaded.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.atanh(logits / cap)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma3"])
def test_generate_never_writes_a_learned_token(kind: str, tmp_path: Path) -> None:
    """Sampling at a temperature at which all tokens are equally likely."""
    loaded, tokenizer, prompt = exported(task(kind, FRONT), tmp_path / "model")
    given = tokenizer(
        prompt["prompt"].format(text="good"), add_special_tokens=prompt["add_special_tokens"], return_tensors="pt"
    )
    torch.manual_seed(0)
    written = loaded.generate(
        given["input_ids"].repeat(64, 1),
        attention_mask=torch.ones_like(given["input_ids"]).repeat(64, 1),
        do_sample=True,
        temperature=1e4,
        top_k=0,
        max_new_tokens=30,
        pad_token_id=0,
    )[:, given["input_ids"].shape[1] :]
    first = tokenizer.convert_tokens_to_ids("<ptune_0>")
    assert written.max() < first
    assert len(written.unique()) > first * 0.7


def test_gemma_rows_are_divided_by_the_scale_of_its_embeddings(tmp_path: Path) -> None:
    model = task("gemma3", FRONT)
    loaded, tokenizer, _ = exported(model, tmp_path / "model")
    first = tokenizer.convert_tokens_to_ids("<ptune_0>")
    kept = loaded.get_input_embeddings().weight[first : first + 3]
    torch.testing.assert_close(kept * 32**0.5, model.prompt().rows)
    assert not loaded.config.tie_word_embeddings
    assert loaded.get_output_embeddings().weight.data_ptr() != loaded.get_input_embeddings().weight.data_ptr()


def test_the_folder_is_a_backbone_of_its_own(tmp_path: Path) -> None:
    """Loaded again, its words and all rows that were there are those of the model; a second prompt gets other names."""
    export_vocabulary(task("llama", FRONT), tmp_path / "first")
    again = load_backbone(str(tmp_path / "first"))
    old = tiny_backbone("llama").model.get_input_embeddings().weight
    assert torch.equal(again.model.get_input_embeddings().weight[: len(old)], old)
    second = PromptModel.build(backbone=again, template=TEMPLATE, labels=LABELS, method=FRONT)
    done = export_vocabulary(second, tmp_path / "second")
    assert "<ptune_3>" in done.what


def test_the_backbone_stays_as_it_was(tmp_path: Path) -> None:
    backbone = tiny_backbone("gpt2")
    before = {name: value.clone() for name, value in tiny_model("gpt2").state_dict().items()}
    size = len(backbone.tokens.tokenizer)
    export_vocabulary(task("gpt2", FRONT), tmp_path / "model")
    assert len(backbone.tokens.tokenizer) == size
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert backbone.model.config.tie_word_embeddings


def test_a_trained_output_layer_goes_along(tmp_path: Path) -> None:
    model = task("gpt2", FRONT, tune="lm-head")
    with torch.no_grad():
        model.lm_head.add_(torch.randn(model.lm_head.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    loaded, _, _ = exported(model, tmp_path / "model")
    assert torch.equal(loaded.get_output_embeddings().weight[:420], model.lm_head)


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ({"name": "prefix-tuning", "num_tokens": 2}, {}, "learns keys and values in every layer, which are no tokens"),
        ("hard", {}, "nothing is learned"),
        (FRONT, {"candidates": 2}, "an ensemble of 2 prompts"),
        (FRONT, {"pool": "last"}, "the head"),
    ],
)
def test_what_a_vocabulary_cannot_hold_is_refused(method: Any, settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=says):
        export_vocabulary(task("gpt2", method, **settings), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"holds 'notes.txt' already"):
        export_vocabulary(task("gpt2", FRONT), tmp_path)
