"""Tiny models that write, with every kind of learned prompt moved away from where it starts, so that it makes a difference."""

from typing import Any

import torch

from ptune.data import Example
from ptune.model import GenerationModel
from tiny import tiny_backbone

__all__ = ["METHODS", "ROWS", "built", "moved", "rows_of", "template_of"]

METHODS: dict[str, tuple[Any, str]] = {
    "hard": ("hard", "{input} All{mask}"),
    "prompt-tuning": ({"name": "prompt-tuning", "num_tokens": 3}, "{input} All{mask}"),
    "prompt-tuning-front": ({"name": "prompt-tuning", "num_tokens": 3, "placement": "front"}, "{input} All{mask}"),
    "p-tuning-behind": ("p-tuning", "{input} All{soft:3}{mask}"),
    "p-tuning-between": ("p-tuning", "The{soft:2} {input}{soft:2} All{mask}"),
    "p-tuning-v2": ({"name": "p-tuning-v2", "num_tokens": 3}, "{input} All{mask}"),
    "p-tuning-v2-gate": ({"name": "p-tuning-v2", "num_tokens": 3, "gate": True}, "{input} All{mask}"),
    "p-tuning-v2-behind": ({"name": "p-tuning-v2", "num_tokens": 3, "placement": "behind"}, "{input} All{mask}"),
    "prefix-tuning": ({"name": "prefix-tuning", "num_tokens": 3}, "{input} All{mask}"),
}
"""Name -> method and a template that it goes with; what stands behind the text is for causal models alone."""

ROWS = (
    {"input": "The film was great , a good story", "target": "It was great"},
    {"input": "bad", "target": "It was bad , not good at all"},
    {"input": "这部电影很好", "target": "我 很 喜欢"},
    {"input": "The food is good and the service is great", "target": "good"},
)


def rows_of(rows: Any = ROWS) -> tuple[Example, ...]:
    """Rows as examples."""
    return tuple(Example(dict(row), None, f"row {number}") for number, row in enumerate(rows, 1))


def template_of(method: str) -> str:
    """The template that goes with a method of `METHODS`."""
    return METHODS[method][1]


def moved(model: Any, seed: int = 0) -> Any:
    """The model with noise on all that it learns."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.prompt.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.5)
    return model


def built(kind: str, method: str, *, dtype: torch.dtype = torch.float32, **settings: Any) -> GenerationModel:
    """A generation model of a tiny backbone and a method of `METHODS`."""
    config, template = METHODS[method]
    words = {"max_new_tokens": 12, "max_length": 48, "template": template, **settings}
    return moved(GenerationModel.build(backbone=tiny_backbone(kind, dtype=dtype), method=config, **words))
