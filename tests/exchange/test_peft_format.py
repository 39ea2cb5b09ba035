"""The files themselves: keys, shapes and number types as PEFT writes them, reading and writing again, and broken folders.

Seq2seq prefixes are compared with the cache that PEFT hands to the decoder, layer by layer.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import (
    CartridgeConfig,
    LoraConfig,
    MultitaskPromptTuningConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from peers import LABELS, QUIET, TEMPLATE, base, opened, task
from ptune.bundle import export_peft, import_prompt
from ptune.bundle.deep_exchange import deep_of_flat
from ptune.bundle.peft_format import decoder_pairs, flat_of_pairs, pairs_of_flat, read_peft
from ptune.errors import BundleError
from tiny import EXAMPLES, tiny_backbone, tiny_model

pytestmark = pytest.mark.filterwarnings(QUIET)

SOFT = {"name": "prompt-tuning", "num_tokens": 3, "placement": "front"}
CONFIGS = {
    "PROMPT_TUNING": PromptTuningConfig,
    "P_TUNING": PromptEncoderConfig,
    "PREFIX_TUNING": PrefixTuningConfig,
    "CARTRIDGE": CartridgeConfig,
    "MULTITASK_PROMPT_TUNING": MultitaskPromptTuningConfig,
}


def by_peft(folder: Path, kind: str = "llama", peft_type: str = "PROMPT_TUNING", **settings: Any) -> PeftModel:
    """A folder that PEFT itself has written."""
    torch.manual_seed(6)
    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3, **settings}
    rival = get_peft_model(base(kind), CONFIGS[peft_type](**settings)).eval()
    rival.save_pretrained(folder)
    return rival


def by_ptune(folder: Path, method: Any, kind: str = "llama") -> None:
    export_peft(task(kind, method), folder)


WRITTEN = {
    "PROMPT_TUNING": (SOFT, TEMPLATE),
    "P_TUNING": ("p-tuning", "{soft:3}{text} It was{mask}"),
    "PREFIX_TUNING": ({"name": "p-tuning-v2", "num_tokens": 3}, TEMPLATE),
}


@pytest.mark.parametrize("peft_type", WRITTEN)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3"])
def test_config_has_the_keys_that_peft_writes(kind: str, peft_type: str, tmp_path: Path) -> None:
    by_peft(tmp_path / "theirs", kind, peft_type)
    export_peft(task(kind, *WRITTEN[peft_type]), tmp_path / "ours")
    theirs, ours = (json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("theirs", "ours"))
    assert ours.keys() == theirs.keys()
    differing = {key for key in ours if ours[key] != theirs[key]}
    allowed = {"base_model_name_or_path", "peft_version", "num_virtual_tokens", "encoder_hidden_size", "auto_mapping"}
    assert differing <= allowed, {key: (ours[key], theirs[key]) for key in differing}


@pytest.mark.parametrize("peft_type", WRITTEN)
def test_tensors_have_the_names_shapes_and_types_that_peft_writes(peft_type: str, tmp_path: Path) -> None:
    by_peft(tmp_path / "theirs", "llama", peft_type, **({} if peft_type != "P_TUNING" else {"num_virtual_tokens": 4}))
    export_peft(task("llama", *WRITTEN[peft_type]), tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("theirs", "ours"))
    assert ours.pop("ptune.prior").tolist() == [0.0, 0.0]  # PEFT passes over it
    assert ours.keys() == theirs.keys()
    num_front = 1 if peft_type == "P_TUNING" else 0  # the start token stands in front of the template's own
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.float32
        assert tensor.shape == (3 + num_front, *theirs[name].shape[1:])
    with safe_open(tmp_path / "ours" / "adapter_model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("peft_type", CONFIGS)
def test_read_and_written_again_is_the_same(peft_type: str, tmp_path: Path) -> None:
    """save, load, save: keys, values and config stay, and PEFT opens the copy as it was."""
    settings = {"num_tasks": 2} if peft_type == "MULTITASK_PROMPT_TUNING" else {}
    rival = by_peft(tmp_path / "first", "gpt2", peft_type, **settings)
    first = read_peft(tmp_path / "first")
    first.write(tmp_path / "second")
    second = read_peft(tmp_path / "second")
    assert first.config == second.config
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    ids = torch.tensor([[5, 6, 7, 8]])
    more = {"task_ids": torch.tensor([1])} if settings else {}
    again = opened(tmp_path / "second", "gpt2")
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids, **more).logits, rival(input_ids=ids, **more).logits)


def test_a_bin_file_is_read_as_tensors(tmp_path: Path) -> None:
    rival = by_peft(tmp_path / "safe")
    rival.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert not (tmp_path / "pickled" / "adapter_model.safetensors").exists()
    safe, pickled = read_peft(tmp_path / "safe"), read_peft(tmp_path / "pickled")
    assert torch.equal(safe.rows(), pickled.rows())


def test_an_adapter_of_another_name_lies_in_a_folder_of_its_own(tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    rival = get_peft_model(base("gpt2"), config, adapter_name="reviews")
    rival.add_adapter("news", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    rival.save_pretrained(tmp_path)
    with pytest.raises(BundleError, match="its adapters lie in news, reviews: name one of these folders"):
        read_peft(tmp_path)
    assert [len(read_peft(tmp_path / name).rows()) for name in ("reviews", "news")] == [3, 5]


def test_the_fewest_keys_that_peft_accepts_are_enough(tmp_path: Path) -> None:
    rival = by_peft(tmp_path, "llama", "PREFIX_TUNING")
    config = {"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "made_up": 1}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    pairs = read_peft(tmp_path).pairs(2, 2, 8)
    flat = rival.prompt_encoder["default"].embedding.weight
    torch.testing.assert_close(pairs[0, 1, :, 0].flatten(), flat[0, 2 * 16 : 3 * 16])


def test_more_tensors_and_the_card_do_not_disturb_peft(tmp_path: Path) -> None:
    by_ptune(tmp_path / "adapter", SOFT)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({**load_file(file), "more": torch.zeros(2)}, file, metadata={"format": "pt"})
    assert (tmp_path / "adapter" / "prompt_card.json").is_file()
    assert len(opened(tmp_path / "adapter", "llama").prompt_encoder["default"].embedding.weight) == 3


def test_peft_reads_the_config_without_a_warning(tmp_path: Path) -> None:
    by_ptune(tmp_path / "adapter", {"name": "prefix-tuning", "num_tokens": 3})
    config = PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    assert (config.peft_type, config.task_type, config.num_virtual_tokens) == ("PREFIX_TUNING", "CAUSAL_LM", 3)


def test_a_text_initialisation_asks_for_no_tokenizer(tmp_path: Path) -> None:
    """PEFT wants a tokenizer's name for prompts that began as text; what ptune writes began at random for PEFT."""
    by_ptune(tmp_path / "adapter", {**SOFT, "init_text": "a good story"})
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["prompt_tuning_init"], config["tokenizer_name_or_path"]) == ("RANDOM", None)
    opened(tmp_path / "adapter", "llama")


# -- encoder-decoder models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peft_type", ["PROMPT_TUNING", "P_TUNING"])
def test_the_second_half_of_a_seq2seq_prompt_is_left_out(peft_type: str, tmp_path: Path) -> None:
    by_peft(tmp_path, "t5", peft_type, task_type="SEQ_2_SEQ_LM")
    adapter = read_peft(tmp_path)
    assert adapter.tensors["prompt_embeddings"].shape == (6, 32)
    assert torch.equal(adapter.rows(), adapter.tensors["prompt_embeddings"][:3])


def test_a_seq2seq_prompt_is_written_for_the_encoder_alone(tmp_path: Path) -> None:
    by_ptune(tmp_path / "adapter", SOFT, "t5")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["num_transformer_submodules"] == 1
    assert opened(tmp_path / "adapter", "t5").prompt_encoder["default"].embedding.weight.shape == (3, 32)


def small_t5(num_layers: int, num_decoder_layers: int) -> T5ForConditionalGeneration:
    torch.manual_seed(7)
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_heads": 4, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(num_layers=num_layers, num_decoder_layers=num_decoder_layers, **sizes)).eval()


@pytest.mark.parametrize(("num_layers", "num_decoder_layers"), [(1, 1), (2, 2), (3, 3), (4, 2), (4, 4), (5, 4), (6, 6)])
def test_decoder_layers_read_the_pairs_that_peft_gives_them(num_layers: int, num_decoder_layers: int, tmp_path: Path) -> None:
    rival = get_peft_model(
        small_t5(num_layers, num_decoder_layers), PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)
    ).eval()
    rival.save_pretrained(tmp_path)
    cache = rival.get_prompt(1)
    pairs = read_peft(tmp_path).pairs(num_layers, 4, 4)
    for layer, place in enumerate(decoder_pairs(num_layers, num_decoder_layers)):
        own = cache.self_attention_cache.layers[layer]
        assert torch.equal(pairs[0, place], own.keys[0])
        assert torch.equal(pairs[1, place], own.values[0])


@given(st.integers(1, 12), st.integers(1, 12))
def test_an_odd_number_of_layers_gives_each_a_pair_of_its_own(num_pairs: int, num_layers: int) -> None:
    places = decoder_pairs(num_pairs, num_layers)
    assert len(places) == min(num_pairs, num_layers)
    if num_pairs % 2 or num_layers <= num_pairs // 2:
        assert len(set(places)) == len(places)
    elif num_layers == num_pairs:
        assert len(set(places)) == num_pairs // 2


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_decoder_prefix_that_peft_would_scramble_is_refused(kind: str, tmp_path: Path) -> None:
    """Two layers: PEFT would give both the first pair, and train only that."""
    model = task(kind, {"name": "prefix-tuning", "num_tokens": 3, "places": ("decoder",)})
    for force in (False, True):
        with pytest.raises(BundleError, match="gives the decoder's layers only 1 different keys"):
            export_peft(model, tmp_path / "adapter", force=force)


def test_a_decoder_prefix_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rival = get_peft_model(base("t5"), PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3)).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone("t5"), template=TEMPLATE, labels=LABELS).model
    assert "take no relative positions" in caplog.text
    assert read.method.places == ("decoder",)
    prefix, cache = read.prompt().prefixes["decoder"], rival.get_prompt(1).self_attention_cache
    for layer in range(2):
        assert torch.equal(prefix.keys[layer], cache.layers[layer].keys)
        assert torch.equal(prefix.values[layer], cache.layers[layer].values)
    assert read.scores(read.prepare(EXAMPLES)).shape == (len(EXAMPLES), 2)


def test_a_prompt_for_encoder_and_decoder_tells_what_is_missing(tmp_path: Path) -> None:
    model = task("t5", {"name": "prefix-tuning", "num_tokens": 3, "places": ("text",)})
    with pytest.raises(BundleError, match="into the decoder alone, and this task learns none there"):
        export_peft(model, tmp_path / "adapter", force=True)


# -- layout ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
def test_flat_rows_and_pairs_are_inverses(num_tokens: int, num_layers: int, num_heads: int, size: int) -> None:
    flat = torch.arange(num_tokens * 2 * num_layers * num_heads * size).float().view(num_tokens, -1)
    pairs = pairs_of_flat(flat, num_layers, num_heads, size, where="here")
    assert pairs.shape == (2, num_layers, num_heads, num_tokens, size)
    assert torch.equal(flat_of_pairs(pairs), flat)
    token, layer, head = num_tokens - 1, num_layers - 1, num_heads - 1
    first = (2 * layer + 1) * num_heads * size + head * size
    assert torch.equal(pairs[1, layer, head, token], flat[token, first : first + size])


def test_other_sizes_are_named_with_the_backbones() -> None:
    with pytest.raises(BundleError, match=r"has 65 numbers .* 2 layers with 2 key heads of 8 take 64"):
        deep_of_flat(torch.zeros(3, 65), tiny_backbone("llama"), where="here")


# -- broken folders --------------------------------------------------------------------------------------------------


def test_a_lora_is_no_prompt(tmp_path: Path) -> None:
    get_peft_model(base("llama"), LoraConfig(task_type="CAUSAL_LM")).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match="LORA is no learned prompt"):
        read_peft(tmp_path)


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        ("[1]", None, "is no mapping"),
        ("{", None, "cannot be read"),
        ('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}', None, "neither adapter_model.safetensors nor"),
        ('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}', {"other": (3, 32)}, "lack prompt_embeddings"),
        ('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}', {"prompt_embeddings": (3, 32)}, r"is 4, but .* \[3, 32\]"),
        ('{"peft_type": "PROMPT_TUNING"}', {"prompt_embeddings": (3, 32)}, "num_virtual_tokens is None"),
    ],
)
def test_a_broken_folder_is_refused(config: str, tensors: dict[str, Any] | None, says: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(config)
    if tensors is not None:
        save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(BundleError, match=says):
        read_peft(tmp_path)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no adapter_config\.json"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), template=TEMPLATE, labels=LABELS)


def test_another_width_is_named_with_the_backbones(tmp_path: Path) -> None:
    small = tiny_model("gpt2")
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, token_dim=16)
    rival = get_peft_model(small, config)
    rival.save_pretrained(tmp_path)
    with pytest.raises(BundleError, match="have 16 numbers, embeddings of tiny-gpt2 have 32"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), template=TEMPLATE, labels=LABELS)


@pytest.mark.parametrize(
    ("template", "labels", "says"),
    [(None, LABELS, "template"), (TEMPLATE, None, "label words"), (TEMPLATE, ["yes", "no"], "label words")],
)
def test_a_foreign_prompt_needs_template_and_label_words(template: Any, labels: Any, says: str, tmp_path: Path) -> None:
    by_peft(tmp_path)
    with pytest.raises(BundleError, match=f"holds a prompt alone, without the {says} that it needs"):
        import_prompt(tmp_path, backbone=tiny_backbone("llama"), template=template, labels=labels)
