"""Checkpoints of P-Tuning v2's and ChatGLM's prefix encoders, written here by their layout and run by another road.

The independent side is the plain transformers model in double precision: it gets the prefix as `past_key_values`, cut out of
the tensor by hand.
"""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DynamicCache

from peers import LABELS, TEMPLATE
from ptune.bundle import bundle_of, export_peft, import_prompt, model_of, read_bundle
from ptune.errors import BundleError
from tiny import EXAMPLES, tiny_backbone, tiny_model

LAYERS = 2
HEADS = {"bert": (4, 8), "roberta": (4, 8), "gpt2": (4, 8), "llama": (2, 8), "qwen3": (2, 12)}
"""Key heads and their size."""


class TheirEncoder(nn.Module):
    """P-Tuning v2's prefix encoder by its description: an embedding, or an embedding and Linear - tanh - Linear."""

    def __init__(self, num_tokens: int, width: int, out: int, hidden: int | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, out if hidden is None else width)
        if hidden is not None:
            self.trans = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, out))

    def forward(self) -> Tensor:
        weight = self.embedding.weight
        return self.trans(weight) if hasattr(self, "trans") else weight


def checkpoint(kind: str, num_tokens: int, hidden: int | None, stem: str) -> tuple[dict[str, Tensor], Tensor]:
    """A state dict with the backbone's weights beside the encoder, as the Trainer saved it, and what the encoder gives."""
    torch.manual_seed(5)
    encoder = TheirEncoder(num_tokens, 32, 2 * LAYERS * HEADS[kind][0] * HEADS[kind][1], hidden)
    state = {f"{stem}prefix_encoder.{name}": value for name, value in encoder.state_dict().items()}
    return {f"{kind}.embeddings.word_embeddings.weight": torch.zeros(2, 2), **state}, encoder().detach()


@torch.no_grad()
def plain_logits(kind: str, flat: Tensor, ids: Tensor, *, moves_text: bool) -> Tensor:
    """[T, V] of the plain model behind a cache that holds the prefix: view(P, 2L, H, K), keys even, values odd."""
    num = len(flat)
    parts = flat.double().view(num, 2 * LAYERS, *HEADS[kind]).permute(1, 2, 0, 3)
    cache = DynamicCache([(parts[2 * layer][None], parts[2 * layer + 1][None]) for layer in range(LAYERS)])
    start = num if moves_text else 0
    positions = torch.arange(start, start + ids.shape[1])[None]
    mask = torch.ones(1, num + ids.shape[1], dtype=torch.long)
    model = tiny_model(kind, dtype=torch.float64, attention="sdpa")
    arguments = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
    if kind in ("bert", "roberta"):
        hidden = model.base_model(**arguments, position_ids=positions + (2 if kind == "roberta" else 0)).last_hidden_state
        return tiny_backbone(kind, dtype=torch.float64).logits(hidden[0])
    return model(**arguments, position_ids=positions).logits[0]


def assert_reads_like_theirs(kind: str, folder: Path, flat: Tensor, *, moves_text: bool = True) -> None:
    read = import_prompt(folder, backbone=tiny_backbone(kind, dtype=torch.float64), template=TEMPLATE, labels=LABELS).model
    assert read.method.name == "p-tuning-v2"
    prepared = read.prepare(EXAMPLES)
    for number in range(len(EXAMPLES)):
        batch = read.batch(prepared, [number])
        expected = plain_logits(kind, flat, batch.live.ids, moves_text=moves_text)
        with torch.no_grad():
            got = read.backbone.logits(read.backbone.hidden(batch.live, read.prompt())[0])
        scale = float(expected.abs().max())
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("hidden", [None, 16])
@pytest.mark.parametrize("kind", HEADS)
def test_p_tuning_v2(kind: str, hidden: int | None, tmp_path: Path) -> None:
    state, flat = checkpoint(kind, 3, hidden, "")
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_reads_like_theirs(kind, tmp_path, flat)


@pytest.mark.parametrize("hidden", [None, 16])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_chatglm_lets_the_text_begin_at_position_0(kind: str, hidden: int | None, tmp_path: Path) -> None:
    """Its scripts save the encoder alone, under `transformer.`; grouped heads as in ChatGLM2."""
    state, flat = checkpoint(kind, 3, hidden, "transformer.")
    encoder = {name: value for name, value in state.items() if "prefix_encoder" in name}
    torch.save(encoder, tmp_path / "pytorch_model.bin")
    assert_reads_like_theirs(kind, tmp_path, flat, moves_text=False)


def test_a_chatglm_prompt_keeps_its_positions_in_a_bundle(tmp_path: Path) -> None:
    state, _ = checkpoint("llama", 3, None, "transformer.")
    torch.save(state, tmp_path / "pytorch_model.bin")
    read = import_prompt(tmp_path, backbone=tiny_backbone("llama"), template=TEMPLATE, labels=LABELS)
    bundle_of(read.model, read.facts).write(tmp_path / "bundle")
    back = model_of(read_bundle(tmp_path / "bundle"), tiny_backbone("llama"))
    assert back.prompt().num_positions == read.model.prompt().num_positions == 0
    assert torch.equal(back.scores(back.prepare(EXAMPLES)), read.model.scores(read.model.prepare(EXAMPLES)))
    with pytest.raises(BundleError, match="positions of the text that begin at 0"):
        export_peft(read.model, tmp_path / "adapter")


def test_a_safetensors_file_by_its_own_name(tmp_path: Path) -> None:
    state, flat = checkpoint("bert", 4, None, "")
    save_file(state, tmp_path / "model.safetensors")
    assert_reads_like_theirs("bert", tmp_path / "model.safetensors", flat)


def made_elsewhere(state: dict[str, Tensor]) -> dict[str, Any]:
    """A pickle that runs something when it is opened without care."""

    class Mischief:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (print, ("opened",))

    return {**state, "more": Mischief()}


def test_a_pickle_with_code_in_it_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, _ = checkpoint("bert", 3, None, "")
    torch.save(made_elsewhere(state), tmp_path / "pytorch_model.bin")
    with pytest.raises(BundleError, match="holds more than tensors, so it is not opened"):
        import_prompt(tmp_path, backbone=tiny_backbone("bert"), template=TEMPLATE, labels=LABELS)
    assert capsys.readouterr().out == ""
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"prefix_encoder.embedding.weight": [1.0]}, file)
    with pytest.raises(BundleError, match=r"cannot be read|holds more|no dictionary of tensors"):
        import_prompt(tmp_path, backbone=tiny_backbone("bert"), template=TEMPLATE, labels=LABELS)


def test_other_sizes_than_the_backbones_are_named(tmp_path: Path) -> None:
    state, _ = checkpoint("llama", 3, None, "")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"has 64 numbers .* 2 layers with 4 key heads of 8 take 128"):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), template=TEMPLATE, labels=LABELS)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"bert.weight": torch.zeros(2)}, r"no prefix_encoder\.embedding\.weight"),
        ({"prefix_encoder.weight": torch.zeros(2, 32)}, "with positions and norm twice"),
        (
            {"prefix_encoder.embedding.weight": torch.zeros(2, 32), "prefix_encoder.trans.0.weight": torch.zeros(8, 32)},
            "projection is incomplete",
        ),
        (
            {
                "prefix_encoder.embedding.weight": torch.zeros(2, 32),
                "prefix_encoder.trans.0.weight": torch.zeros(8, 30),
                "prefix_encoder.trans.0.bias": torch.zeros(8),
                "prefix_encoder.trans.2.weight": torch.zeros(128, 8),
                "prefix_encoder.trans.2.bias": torch.zeros(128),
            },
            "do not fit together",
        ),
    ],
)
def test_files_without_a_whole_prefix_encoder_are_refused(state: dict[str, Tensor], says: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(BundleError, match=says):
        import_prompt(tmp_path, backbone=tiny_backbone("bert"), template=TEMPLATE, labels=LABELS)


def test_a_checkpoint_does_not_name_its_backbone(tmp_path: Path) -> None:
    state, _ = checkpoint("bert", 3, None, "")
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"which model it belongs to \(give --backbone\)"):
        import_prompt(tmp_path, template=TEMPLATE, labels=LABELS)
