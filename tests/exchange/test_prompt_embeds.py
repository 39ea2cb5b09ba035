"""One text's embedded prompt, handed to the plain model as `inputs_embeds`, gives ptune's logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peers import TEMPLATE, task
from ptune.bundle import export_prompt_embeds
from ptune.errors import BundleError, DataError
from tiny import DECODERS, EXAMPLES, tiny_model

ANYWHERE = ({"name": "p-tuning", "init": "random"}, "Topic :{soft:2}{text}{soft} It was{mask}")


@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_the_plain_model_reads_it(kind: str, tmp_path: Path) -> None:
    model = task(kind, *ANYWHERE)
    prepared, plain = model.prepare(EXAMPLES), tiny_model(kind)
    for number, example in enumerate(EXAMPLES):
        done = export_prompt_embeds(model, example.fields, tmp_path / "prompt.safetensors")
        assert done.path == tmp_path / "prompt.safetensors"
        tensors = load_file(done.path)
        length = len(prepared.encoded[number])
        assert tensors["prompt_embeds"].shape == (length, 32)
        got = plain(inputs_embeds=tensors["prompt_embeds"][None]).logits[0, -1]
        batch = model.batch(prepared, [number])
        expected = model.backbone.logits(model.backbone.read(batch.live, model.prompt(), batch.reads))[0]
        scale = float(expected.abs().max())
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=5e-6)


def test_learned_rows_lie_apart_and_their_places_are_told(tmp_path: Path) -> None:
    model = task("gemma3", *ANYWHERE)
    export_prompt_embeds(model, EXAMPLES[0].fields, tmp_path / "prompt.safetensors")
    tensors = load_file(tmp_path / "prompt.safetensors")
    assert torch.equal(tensors["learned_rows"], model.prompt().rows)
    assert tensors["learned"].tolist() == list(model.encode(EXAMPLES[0]).soft)
    learned = tensors["learned"] >= 0
    assert torch.equal(tensors["prompt_embeds"][learned], tensors["learned_rows"][tensors["learned"][learned]])


@pytest.mark.parametrize(
    ("kind", "method", "template", "row", "error", "says"),
    [
        ("bert", "p-tuning", "{soft:2}{text} It was{mask}", {"text": "good"}, BundleError, "no causal model"),
        ("gpt2", "hard", TEMPLATE, {"text": "good"}, BundleError, "nothing is learned"),
        ("gpt2", {"name": "p-tuning-v2", "num_tokens": 2}, TEMPLATE, {"text": "good"}, BundleError, "which are no tokens"),
        ("gpt2", *ANYWHERE, {"title": "good"}, DataError, "text"),
    ],
)
def test_what_a_matrix_cannot_hold_is_refused(
    kind: str, method: Any, template: str, row: dict[str, str], error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        export_prompt_embeds(task(kind, method, template), row, tmp_path / "prompt.safetensors")


def test_the_file_has_to_be_a_safetensors_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"end it with \.safetensors"):
        export_prompt_embeds(task("gpt2", *ANYWHERE), {"text": "good"}, tmp_path / "prompt.pt")
