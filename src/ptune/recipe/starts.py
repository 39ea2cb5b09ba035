"""What a prompt starts from when another task's bundle is named: its learned rows, or its learned keys and values."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ptune.backbone import Backbone
from ptune.bundle import deep_tensors, read_bundle
from ptune.errors import PromptError
from ptune.inputs import Place
from ptune.prompt import DeepConfig, InitConfig, MethodConfig

__all__ = ["bundle_start"]


def bundle_start(method: MethodConfig, backbone: Backbone) -> dict[str, Any]:
    """`init_rows` or `init_deep` for a model's `build`; empty where the method names no bundle.

    Raises:
        PromptError: a bundle of another backbone, or one that holds nothing this method could start from.
    """
    if not isinstance(method, InitConfig | DeepConfig) or method.kind != "bundle":
        return {}
    path = str(method.init_bundle)
    bundle = read_bundle(path)
    kept = bundle.card["backbone"]
    if kept["fingerprint"] != backbone.fingerprint:
        raise PromptError(
            f"{path} was learned on {kept['name']}, this run uses {backbone.spec.name}",
            where="method.init_bundle",
            fix="prompts only transfer within one backbone",
        )
    if isinstance(method, DeepConfig):
        return {"init_deep": _keys_and_values(bundle.tensors, path)}
    return {"init_rows": _rows(bundle.tensors, path)}


def _rows(tensors: Mapping[str, Tensor], path: str) -> Tensor:
    if "rows" not in tensors:
        what = "keys and values of each layer" if deep_tensors(tensors) else "a hard prompt"
        raise PromptError(f"{path} holds {what}, no learned rows to start from", where="method.init_bundle")
    rows = tensors["rows"]
    if rows.dim() == 3:
        raise PromptError(
            f"{path} holds an ensemble of {len(rows)} prompts",
            where="method.init_bundle",
            fix="name a task with one prompt (keep_candidates: best)",
        )
    return rows


def _keys_and_values(tensors: Mapping[str, Tensor], path: str) -> Mapping[Place, Tensor]:
    deep = deep_tensors(tensors)
    if not deep:
        raise PromptError(
            f"{path} holds no learned keys and values to start from",
            where="method.init_bundle",
            fix="name a task that was learned with prefix-tuning or p-tuning-v2",
        )
    return deep
