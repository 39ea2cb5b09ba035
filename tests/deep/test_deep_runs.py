"""Deep prompts through `fit`: interruption with dropout, another task's bundle as a start, kept contexts, files."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PromptError
from ptune.train import TrainEvent
from tiny import tiny_backbone

ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ["The film was great", "a good story", "It was good", "What a good day"],
        "bad": ["the plot was bad", "It was bad", "What a bad day", "the end was bad"],
    }.items()
    for text in texts
]


def words(kind: str, **more: Any) -> dict[str, Any]:
    base = {
        "train": ROWS,
        "template": "{text} It was{mask}",
        "labels": {"good": "great", "bad": "terrible"},
        "backbone": tiny_backbone(kind),
        "method": {"name": "p-tuning-v2", "num_tokens": 3, "dropout": 0.3},
        "steps": 8,
        "batch_size": 4,
        "save_every": 2,
    }
    return {**base, **more}


class _Stop(Exception):
    pass


def _stop_after(step: int) -> Any:
    def listen(event: TrainEvent) -> None:
        if event.kind == "step" and event.step == step:
            raise _Stop

    return listen


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("name", ["p-tuning-v2", "prefix-tuning"])
def test_an_interrupted_run_with_dropout_gives_the_same_prompt(kind: str, name: str, tmp_path: Path) -> None:
    method = {"name": name, "num_tokens": 3, "dropout": 0.3}
    whole = ptune.fit(tmp_path / "whole", **words(kind, method=method))
    with pytest.raises(_Stop):
        ptune.fit(tmp_path / "cut", listeners=[_stop_after(5)], **words(kind, method=method))
    torch.manual_seed(99)
    resumed = ptune.fit(tmp_path / "cut", resume=True, **words(kind, method=method))
    first, second = (task.bundle().tensors for task in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)
    one, other = ((tmp_path / run / "bundle" / "prompt.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == other


def test_training_lowers_the_loss_and_predicts(tmp_path: Path) -> None:
    task = ptune.fit(tmp_path / "run", **words("bert", steps=40, method={"name": "p-tuning-v2", "num_tokens": 4}))
    figures = task.facts["training"]
    assert figures["last_loss"] < 0.7 * figures["first_loss"]
    loaded = ptune.load(tmp_path / "run" / "bundle", backbone=tiny_backbone("bert"))
    assert [str(one) for one in loaded.predict(["a good story"])] == [str(one) for one in task.predict(["a good story"])]


def test_a_run_behind_the_text_keeps_contexts_with_the_same_losses(tmp_path: Path) -> None:
    losses = []
    for keep in (True, False):
        seen: list[float] = []
        method = {"name": "p-tuning-v2", "num_tokens": 3, "placement": "behind"}
        ptune.fit(
            listeners=[lambda event, seen=seen: seen.append(event.loss)], **words("llama", method=method, keep_context=keep)
        )
        losses.append(seen)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_another_task_s_bundle_is_the_start(tmp_path: Path) -> None:
    source = ptune.fit(tmp_path / "source", **words("llama"))
    path = str(tmp_path / "source" / "bundle")
    method = {"name": "p-tuning-v2", "num_tokens": 3, "init_bundle": path}
    target = ptune.fit(**words("llama", method=method, steps=1, learning_rate=1e-12))
    learned = source.bundle().tensors["deep.text"]
    torch.testing.assert_close(target.bundle().tensors["deep.text"], learned, rtol=1e-4, atol=1e-6)
    soft = {"name": "p-tuning", "init_bundle": path}
    with pytest.raises(PromptError, match="holds keys and values of each layer, no learned rows"):
        ptune.fit(**words("llama", method=soft, template="{text}{soft:3} It was{mask}"))
    ptune.fit(tmp_path / "soft", **words("llama", method="p-tuning", template="{text}{soft:3} It was{mask}"))
    with pytest.raises(PromptError, match="holds no learned keys and values"):
        ptune.fit(**words("llama", method={**method, "init_bundle": str(tmp_path / "soft" / "bundle")}))
    with pytest.raises(PromptError, match="learned on tiny-llama, this run uses tiny-qwen3"):
        ptune.fit(**words("qwen3", method=method))


def test_candidates_are_for_learned_rows() -> None:
    with pytest.raises(PromptError, match="learns no rows"):
        ptune.fit(**words("llama", candidates=2, keep_candidates="ensemble"))
