"""What all rows of a training step start with is read once: losses and gradients against reading it in every row."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptune.data import Example
from ptune.inputs import Batch, Lead
from ptune.model import GenerationModel, Prepared, PromptModel, TaskModel
from tiny import DECODERS, ENCODERS, EXAMPLES, build_backbone, tiny_backbone

FRONT = "{soft:9} It says : {text} It was{mask}"
PLAIN = "All in all this is what the film was : {text} It was{mask}"
SINGLE = {"yes": ["great"], "no": ["bad"]}
SEVERAL = {"yes": ["great", "wonderful"], "no": ["bad", "不喜欢"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "embedding": {"method": "p-tuning", "template": FRONT, "labels": SINGLE},
    "branches": {"method": "p-tuning", "template": FRONT, "labels": SEVERAL},
    "behind too": {"method": "p-tuning", "template": "{soft:9} It says : {text}{soft:2}{mask} .", "labels": SINGLE},
    "lstm": {"method": {"name": "p-tuning", "encoder": "lstm"}, "template": FRONT, "labels": SINGLE},
    "at the front": {"method": {"name": "prompt-tuning", "num_tokens": 9}, "template": "{text} It was{mask}", "labels": SINGLE},
    "deep in front": {"method": {"name": "p-tuning-v2", "num_tokens": 3}, "template": PLAIN, "labels": SINGLE},
    "deep with gates": {"method": {"name": "p-tuning-v2", "num_tokens": 3, "gate": True}, "template": PLAIN, "labels": SINGLE},
    "deep behind": {
        "method": {"name": "p-tuning-v2", "num_tokens": 3, "placement": "behind"},
        "template": PLAIN,
        "labels": SINGLE,
    },
    "head": {"method": "p-tuning", "template": "{soft:9} It says : {text}", "labels": ["yes", "no"], "pool": "last"},
}


def every_row(model: TaskModel, rows: Prepared) -> Batch:
    """The batch as it was without a common beginning."""
    return model.lay_out(rows, range(len(rows)))


def loss_and_slopes(model: TaskModel, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    loss = model(batch).loss
    assert loss is not None
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, learned))


def same(model: TaskModel, rows: Prepared) -> Lead:
    batch = model.batch(rows, range(len(rows)))
    (lead,) = batch.contexts
    assert isinstance(lead, Lead) and batch.live.ids.shape[1] == max(map(len, rows.encoded)) - len(lead) + extra(model, rows)
    loss, slopes = loss_and_slopes(model, batch)
    own_loss, own_slopes = loss_and_slopes(model, every_row(model, rows))
    assert any(bool(slope.abs().max() > 1e-6) for slope in own_slopes)
    torch.testing.assert_close(loss, own_loss, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slopes, own_slopes, rtol=1e-6, atol=1e-9)
    return lead


def extra(model: TaskModel, rows: Prepared) -> int:
    """Tokens that answers add to the longest row."""
    return every_row(model, rows).live.ids.shape[1] - max(map(len, rows.encoded))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", DECODERS)
def test_loss_and_gradients_are_those_of_reading_it_in_every_row(kind: str, name: str) -> None:
    model = PromptModel.build(backbone=build_backbone(kind, dtype=torch.float64), **SETTINGS[name])
    with torch.no_grad():  # away from the start, where gates are 0
        for parameter in model.prompt.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    lead = same(model, model.prepare(EXAMPLES))
    assert lead.sees_prefix == name.startswith("deep") - (name == "deep behind")


@pytest.mark.parametrize("kind", DECODERS)
def test_texts_that_are_written_share_it_too(kind: str) -> None:
    model = GenerationModel.build(
        backbone=build_backbone(kind, dtype=torch.float64),
        template="{soft:9} It says : {text} And so{mask}",
        method="p-tuning",
        max_new_tokens=8,
    )
    texts = [Example({"text": one.fields["text"], "target": " it was great"}) for one in EXAMPLES]
    same(model, model.prepare(texts))


def tokens_read(model: TaskModel, batch: Batch) -> list[tuple[int, int]]:
    """Rows and tokens of each call of the stack."""
    calls: list[tuple[int, int]] = []

    def note(module: Any, args: Any, given: dict[str, Any]) -> None:
        calls.append(tuple(given["inputs_embeds"].shape[:2]))

    hook = model.backbone.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    model(batch)
    hook.remove()
    return calls


def test_its_tokens_enter_the_model_once() -> None:
    model = PromptModel.build(backbone=tiny_backbone("llama"), **SETTINGS["embedding"])
    rows = model.prepare(EXAMPLES)
    longest = max(map(len, rows.encoded))
    num = model.num_shared(rows.encoded)
    assert num >= 12 and model.backbone.reads_where_needed  # its trial comes first
    assert tokens_read(model, model.batch(rows, range(5))) == [(1, num), (5, longest - num)]
    assert tokens_read(model, every_row(model, rows)) == [(5, longest)]


def shares(model: TaskModel, index: Any = range(5)) -> bool:
    return bool(model.batch(model.prepare(EXAMPLES), index).contexts)


def test_where_it_is_not_read_by_itself() -> None:
    """Where it would not be the same, not be fast, or not be learned through."""
    words = SETTINGS["embedding"]
    model = PromptModel.build(backbone=tiny_backbone("llama"), **words)
    assert shares(model) and not shares(model, [0, 1])  # too few rows
    with torch.no_grad():
        assert not shares(model)
    model.backbone.checkpoint(True)
    assert not shares(model)
    model.backbone.checkpoint(False)
    assert not shares(PromptModel.build(backbone=tiny_backbone("llama"), candidates=2, **words))
    assert not shares(PromptModel.build(backbone=build_backbone("llama"), tune="lm", **words))
    for kind in ENCODERS:
        assert not shares(PromptModel.build(backbone=tiny_backbone(kind), **words))
    short = {**words, "template": "{soft:2} {text} It was{mask}"}
    assert not shares(PromptModel.build(backbone=tiny_backbone("llama"), **short))
