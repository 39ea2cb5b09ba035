"""Between a model of any kind of task and a `Bundle`: what has to be kept, and how to put it back on a backbone."""

import copy
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from ptune.backbone import Backbone
from ptune.bundle.bundle import CLASSIFICATION, FORMAT, Bundle
from ptune.bundle.prompt_tensors import prompt_tensors, stored_prompt
from ptune.errors import BundleError
from ptune.inputs import soft_layout
from ptune.model import TaskModel, task_class
from ptune.prompt import parse_method
from ptune.template import Template

__all__ = ["bundle_of", "model_of"]


def bundle_of(model: TaskModel, facts: Mapping[str, Any]) -> Bundle:
    """Everything needed to predict, and what is known about how it came to be.

    Args:
        model: trained.
        facts: data fingerprint, figures, seed, recipe: kept as they are.
    """
    spec = model.backbone.spec
    task = {
        "kind": model.kind,
        "template": str(model.template),
        "method": model.method.model_dump(exclude_none=True),
        "max_length": model.max_length,
        "tune": model.tune,
        "columns": model.columns,
        **model.settings(),
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
        tensors = {**model.tensors(), **prompt_tensors(model.prompt())}
    tuned: dict[str, torch.Tensor] = {}
    if model.lm_head is not None:
        tuned["lm_head"] = model.lm_head
    if model.tune == "lm":
        tuned |= {f"model.{name}": value for name, value in model.backbone.model.named_parameters()}
    return Bundle(card, tensors, tuned)


def model_of(bundle: Bundle, backbone: Backbone) -> TaskModel:
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
    model = task_class(task.get("kind", CLASSIFICATION)).restore(
        task,
        backbone=backbone,
        template=template,
        method=parse_method(task["method"]),
        layout=layout,
        start=stored_prompt(bundle.tensors, backbone, moves_text=task["method"].get("moves_text", True)),
        columns=task.get("columns"),
        max_length=task["max_length"],
        tune=task["tune"],
    )
    model.base_fingerprint = wanted["fingerprint"]
    model.put_back(bundle.tensors)
    if model.lm_head is not None:
        model.lm_head.data.copy_(bundle.tuned["lm_head"])
    return model.requires_grad_(False)


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
