"""Between a `PromptModel` and a `Bundle`: what of a model has to be kept, and how to put it back on a backbone."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from ptune.backbone import Backbone
from ptune.bundle.bundle import FORMAT, Bundle
from ptune.bundle.prompt_tensors import prompt_tensors, stored_prompt
from ptune.data import LabelSet
from ptune.errors import BundleError
from ptune.inputs import soft_layout
from ptune.model import PromptModel
from ptune.prompt import parse_method
from ptune.readout import Verbalizer
from ptune.template import Template

__all__ = ["bundle_of", "model_of"]


def bundle_of(model: PromptModel, facts: Mapping[str, Any]) -> Bundle:
    """Everything needed to predict, and what is known about how it came to be.

    Args:
        model: trained.
        facts: data fingerprint, figures, seed, recipe: kept as they are.
    """
    spec = model.backbone.spec
    task = {
        "template": str(model.template),
        "labels": list(model.labels.names),
        "verbalizer": None if model.verbalizer is None else asdict(model.verbalizer),
        "pool": model.pool,
        "method": model.method.model_dump(exclude_none=True),
        "max_length": model.max_length,
        "fill": model.fill,
        "tune": model.tune,
    }
    backbone = {
        "name": spec.name,
        "architecture": spec.architecture,
        "kind": spec.kind,
        "fingerprint": model.base_fingerprint,
        "text_start": model.backbone.text_start,
    }
    versions = {name: version(name) for name in ("torch", "transformers")}
    card = {"format": FORMAT, "task": task, "backbone": backbone, **facts, "versions": versions}
    with torch.no_grad():
        tensors = {"prior": model.prior, **prompt_tensors(model.prompt())}
    if model.head is not None:
        tensors |= {f"head.{name}": value for name, value in model.head.state_dict().items()}
    tuned: dict[str, torch.Tensor] = {}
    if model.lm_head is not None:
        tuned["lm_head"] = model.lm_head
    if model.tune == "lm":
        tuned |= {f"model.{name}": value for name, value in model.backbone.model.named_parameters()}
    return Bundle(card, tensors, tuned)


def model_of(bundle: Bundle, backbone: Backbone) -> PromptModel:
    """The task on a loaded backbone.

    Raises:
        BundleError: the bundle was made for another backbone; both are named.
    """
    task, wanted = bundle.card["task"], bundle.card["backbone"]
    if backbone.fingerprint != wanted["fingerprint"]:
        raise BundleError(
            f"the bundle was made for {wanted['name']} ({wanted['fingerprint'][:12]}), "
            f"this backbone is {backbone.spec.name} ({backbone.fingerprint[:12]})",
            where="backbone",
            fix=f"load it with backbone={wanted['name']!r}",
        )
    if task["tune"] == "lm":
        backbone = _tuned_copy(bundle, backbone)
    elif backbone.text_start != wanted["text_start"]:  # the same weights, but the task's texts start with another token
        backbone = _twin(backbone, backbone.model, wanted["text_start"])
    template = Template.parse(task["template"])
    rows = bundle.tensors.get("rows")
    layout = soft_layout(template, backbone.tokens)
    num_rows = 0 if rows is None else rows.shape[-2]  # [P, E], or [J, P, E] of an ensemble
    if num_rows != layout.num_rows:
        raise BundleError(f"the template has {layout.num_rows} learned rows, the file {num_rows}", where="bundle")
    words = task["verbalizer"]
    model = PromptModel(
        backbone,
        template,
        LabelSet(tuple(task["labels"])),
        verbalizer=None if words is None else _verbalizer(words),
        pool=task["pool"],
        method=parse_method(task["method"]),
        layout=layout,
        start=stored_prompt(bundle.tensors, backbone, moves_text=task["method"].get("moves_text", True)),
        max_length=task["max_length"],
        fill=task["fill"],
        tune=task["tune"],
    )
    model.base_fingerprint = wanted["fingerprint"]
    model.prior.copy_(bundle.tensors["prior"])
    if model.head is not None:
        model.head.load_state_dict({name[5:]: value for name, value in bundle.tensors.items() if name.startswith("head.")})
    if model.lm_head is not None:
        model.lm_head.data.copy_(bundle.tuned["lm_head"])
    return model.requires_grad_(False)


def _verbalizer(kept: Mapping[str, Any]) -> Verbalizer:
    words = {name: tuple(listed) for name, listed in kept["words"].items()}
    weights = {name: tuple(listed) for name, listed in kept["weights"].items()} if kept["weights"] else None
    return Verbalizer(words, weights, kept["aggregate"], kept["length"], kept["terminator"])


def _tuned_copy(bundle: Bundle, backbone: Backbone) -> Backbone:
    """A copy of the backbone with the trained weights: the one handed in may serve other tasks."""
    model = copy.deepcopy(backbone.model)
    weights = {name[6:]: value for name, value in bundle.tuned.items() if name.startswith("model.")}
    _, unknown = model.load_state_dict(weights, strict=False)
    if unknown:
        raise BundleError(f"the bundle holds weights that the backbone lacks, such as {unknown[0]}")
    return _twin(backbone, model, bundle.card["backbone"]["text_start"])


def _twin(backbone: Backbone, model: Any, text_start: str | None) -> Backbone:
    return Backbone(model, backbone.tokens.tokenizer, name=backbone.spec.name, text_start=text_start)
