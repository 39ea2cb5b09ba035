"""A GGUF file, written here with the `gguf` package, becomes a folder with the same weights, logits and tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ptune.backbone import gguf as room
from ptune.backbone.gguf import convert_gguf, converted, gguf_fingerprint
from ptune.errors import BackboneError

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello"]
TOKENS = [*SPECIALS, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
WIDTH, HEADS, KV_HEADS, INNER, LAYERS = 64, 2, 1, 96, 2
Q4_1 = GGMLQuantizationType.Q4_1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with Q4_1 weights and a byte-level tokenizer, as llama.cpp writes it."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(TOKENS) - len(SPECIALS)))
    writer.add_token_merges(MERGES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    for name, weights in _weights().items():
        if weights.ndim == 1:
            writer.add_tensor(name, weights)
        else:
            writer.add_tensor(name, quants.quantize(weights, Q4_1), raw_dtype=Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    narrow = WIDTH // HEADS * KV_HEADS
    matrices = {"attn_q": (WIDTH, WIDTH), "attn_k": (narrow, WIDTH), "attn_v": (narrow, WIDTH)}
    matrices |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
    matrices |= {"ffn_down": (WIDTH, INNER)}
    weights = {"token_embd.weight": random.normal(0, 0.5, (len(TOKENS), WIDTH)), "output_norm.weight": np.ones(WIDTH)}
    for layer in range(LAYERS):
        weights |= {f"blk.{layer}.{name}.weight": random.normal(0, 0.2, shape) for name, shape in matrices.items()}
        weights |= {f"blk.{layer}.{name}_norm.weight": np.ones(WIDTH) for name in ("attn", "ffn")}
    return {name: values.astype(np.float32) for name, values in weights.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_folder_gives_the_logits_of_the_gguf_file(tiny: Path) -> None:
    folder = converted(tiny)
    direct = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32).eval()
    again = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[1, 40, 50, 60, 2]])
    with torch.no_grad():
        assert torch.equal(direct(ids).logits, again(ids).logits)


def test_weights_are_the_dequantised_blocks_in_fp32(tiny: Path) -> None:
    weights = load_file(converted(tiny) / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    expected = quants.dequantize(quants.quantize(_weights()["token_embd.weight"], Q4_1), Q4_1)
    assert np.array_equal(weights["model.embed_tokens.weight"].numpy(), expected)
    assert "lm_head.weight" not in weights


def test_folder_is_a_plain_model_without_marks(tiny: Path) -> None:
    config = json.loads((converted(tiny) / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32" and config["architectures"] == ["LlamaForCausalLM"]


def test_tokenizer_survives(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted(tiny))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.tokenize("hello hello") == ["hello", "Ġhello"]
    for text in ("总体来说，很好", "a\n\n  b", "<|im_start|> hello"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_start|> hello").input_ids == [1, TOKENS.index("Ġhello")]
    split = tokenizer("<|im_start|> hello", split_special_tokens=True).input_ids
    assert 1 not in split and tokenizer.decode(split) == "<|im_start|> hello"


def test_second_use_and_another_name_convert_nothing(
    tiny: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = converted(tiny)
    assert folder == cache / "gguf" / gguf_fingerprint(tiny)[:16]
    monkeypatch.setattr(room, "convert_gguf", None)
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny.read_bytes())
    assert converted(tiny) == converted(other) == folder


def test_conversion_is_silent_and_puts_the_log_level_back(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    converted(tiny)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"none\.gguf: cannot be read: No such file"):
        converted(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(BackboneError, match=r"text\.gguf: this is not a GGUF file"):
        converted(tmp_path / "text.gguf")


def test_broken_and_unknown_files_leave_nothing(tmp_path: Path, tiny: Path, cache: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny.read_bytes()[:2000])
    writer = GGUFWriter(tmp_path / "odd.gguf", "oddity")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    for name in ("cut.gguf", "odd.gguf"):
        with pytest.raises(BackboneError, match=f"{name}: this GGUF file cannot be loaded: ") as caught:
            converted(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_full_disk_is_refused_before_writing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(BackboneError, match=r"the converted tiny\.gguf needs \d+ MB of disk, 0 MB are free"):
        convert_gguf(tiny, tmp_path)
