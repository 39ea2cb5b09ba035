"""What the tests of exchange share: the same tiny model as a ptune task and as a PEFT model, and the logits of both."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from ptune.bundle.front_rows import front_of
from ptune.model import Prepared, PromptModel
from tiny import tiny_backbone, tiny_model

LABELS = {"yes": ["great"], "no": ["bad"]}
TEMPLATE = "{text} It was{mask}"
QUIET = "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT 0.21 asks transformers by the old name
CLOSE = 2e-6  # of the largest logit: single precision, two implementations of attention


def task(
    kind: str, method: Any, template: str = TEMPLATE, *, dtype: torch.dtype = torch.float32, **settings: Any
) -> PromptModel:
    """A task with label words on a tiny model."""
    return PromptModel.build(
        backbone=tiny_backbone(kind, dtype=dtype), template=template, labels=LABELS, method=method, **settings
    )


def base(kind: str, *, is_bare: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    """The plain tiny model for PEFT; an encoder's trunk alone for keys and values, since its head's class hands none on."""
    model = tiny_model(kind, dtype=dtype, attention="sdpa")
    return model.base_model if is_bare else model


def opened(folder: Path, kind: str, *, is_bare: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    """An adapter folder on the plain tiny model, through PEFT's own door."""
    return PeftModel.from_pretrained(base(kind, is_bare=is_bare, dtype=dtype), str(folder)).eval()


def num_in_front(model: PromptModel) -> int:
    """How many of a row's first tokens PEFT holds as virtual ones."""
    return len(front_of(model).rows) if model.template.has_soft else 0


@torch.no_grad()
def own_logits(model: PromptModel, prepared: Prepared, number: int) -> Tensor:
    """[T, V] of the tokens behind the virtual ones; of an encoder-decoder, those of its decoder."""
    batch, state = model.batch(prepared, [number]), model.prompt()
    backbone = model.backbone
    if batch.decoder is not None:
        return backbone.logits(backbone.read(batch.live, state, batch.reads, batch.contexts, batch.decoder))
    hidden = backbone.hidden(batch.live, state, batch.contexts)[0]
    return backbone.logits(hidden[num_in_front(model) :])


@torch.no_grad()
def peft_logits(rival: Any, model: PromptModel, prepared: Prepared, number: int) -> Tensor:
    """The same of a PEFT model: it is handed the row's tokens behind the virtual ones."""
    batch = model.batch(prepared, [number])
    ids = batch.live.ids[:, num_in_front(model) :]
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if batch.decoder is not None:
        logits = rival(**arguments, decoder_input_ids=batch.decoder.ids).logits[0]
        return logits[batch.reads.position]
    out = rival(**arguments)
    if "logits" not in out:
        return model.backbone.logits(out.last_hidden_state[0])
    return out.logits[0][-ids.shape[1] :]  # PEFT gives logits for virtual tokens too


def assert_same_logits(model: PromptModel, rival: Any, examples: Any, tolerance: float = CLOSE) -> None:
    """All logits of all rows, on the scale of the largest one."""
    prepared = model.prepare(examples)
    for number in range(len(prepared)):
        expected, got = peft_logits(rival, model, prepared, number), own_logits(model, prepared, number)
        assert expected.shape == got.shape
        scale = float(expected.abs().max())
        torch.testing.assert_close(got / scale, expected / scale, rtol=0, atol=tolerance, check_dtype=False)
