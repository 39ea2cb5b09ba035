"""Prompts that other code has trained, as ptune tasks: PEFT's adapters, P-Tuning v2's and ChatGLM's prefix encoders.

In: a folder or file, a backbone, and what such files do not hold: template, label words or names. Out: a `TaskModel`. Where
`prompt_card.json` lies beside an adapter the whole task comes back from it. A foreign soft prompt becomes `prompt-tuning` with
`placement: front`, keys and values become `prefix-tuning` (or `p-tuning-v2`, by where they come from).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptune.backbone import Backbone, BackboneLike, load_backbone
from ptune.bundle.bundle import FORMAT, Bundle
from ptune.bundle.convert import model_of
from ptune.bundle.deep_exchange import deep_differences, deep_of_flat
from ptune.bundle.foreign_task import Wanted, kind_of_head, task_on
from ptune.bundle.heads import HEAD_KINDS, foreign_head
from ptune.bundle.peft_format import ADAPTER_CONFIG, PeftAdapter, read_peft
from ptune.bundle.prefix_checkpoint import CHECKPOINT_FILES, PrefixCheckpoint, read_prefix_checkpoint
from ptune.bundle.prompt_card import PROMPT_CARD, PromptCard, read_prompt_card
from ptune.errors import BundleError, notice
from ptune.model import TaskModel

__all__ = ["Imported", "import_prompt"]


@dataclass(frozen=True)
class Imported:
    """A task made of a foreign prompt.

    Args:
        model: ready to predict.
        facts: for the bundle's card: where it came from.
        what: its method and size in a few words.
    """

    model: TaskModel
    facts: Mapping[str, Any]
    what: str


def import_prompt(
    source: str | Path,
    *,
    backbone: BackboneLike | None = None,
    task: str | None = None,
    template: str | None = None,
    labels: Mapping[str, Any] | Sequence[str] | None = None,
    task_id: int | None = None,
    max_length: int | None = None,
) -> Imported:
    """Reads a prompt and puts it on its backbone.

    Args:
        source: folder of an adapter, or a checkpoint with a prefix encoder.
        backbone: loaded, or its name; None takes the name in the file.
        task: kind of task; None takes the one that the file's head is for, else classification.
        template: the words around the text; None takes those of `prompt_card.json`, or the kind's own.
        labels: label words by label; names of a head's classes, tags say, in its order; None likewise.
        task_id: which task of a multitask prompt.
        max_length: tokens of a whole row, None as for any task.

    Raises:
        BundleError: nothing to read there, another backbone's prompt, or something missing that no card holds.
    """
    path = Path(source).expanduser()
    adapter, checkpoint = _read(path)
    card = read_prompt_card(path) if adapter is not None else None
    if card is not None and any(value is not None for value in (task, template, labels)):
        notice(f"{PROMPT_CARD} is left aside, because a task, a template or labels are given")
        card = None
    if adapter is not None and card is not None:
        return _from_card(adapter, card, backbone, path)
    named = backbone if backbone is not None else (adapter.base_model if adapter else None)
    weights = adapter.head if adapter is not None else checkpoint.head if checkpoint is not None else {}
    kind = task or (None if isinstance(labels, Mapping) else kind_of_head(adapter, checkpoint)) or "classification"
    wanted = Wanted(
        kind, template, labels, has_head=kind in HEAD_KINDS.values() and bool(weights) and not isinstance(labels, Mapping)
    )
    wanted.check(path)
    if named is None:
        raise BundleError(f"{path} does not say which model it belongs to", where="import", fix="give --backbone")
    loaded = load_backbone(named)
    tensors, method, what = _prompt(adapter, checkpoint, loaded, task_id)
    head = foreign_head(weights, loaded, kind, checkpoint.pooler if checkpoint else None) if wanted.has_head else None
    model = task_on(loaded, tensors, method, wanted, head, max_length)
    return Imported(model, {"imported": {"from": what, "path": str(path.resolve())}}, what)


def _read(path: Path) -> tuple[PeftAdapter | None, PrefixCheckpoint | None]:
    if not path.exists():
        raise BundleError(f"there is nothing at {path}", where="import")
    is_checkpoint = path.is_file() or any((path / name).is_file() for name in CHECKPOINT_FILES)
    if is_checkpoint and not (path / ADAPTER_CONFIG).is_file():
        return None, read_prefix_checkpoint(path)
    return read_peft(path), None


def _from_card(adapter: PeftAdapter, card: PromptCard, backbone: BackboneLike | None, path: Path) -> Imported:
    """The whole task that an export of ptune's own came from."""
    if card.card.get("format") != FORMAT:
        raise BundleError(f"{PROMPT_CARD} holds a bundle of another format", where=str(path / PROMPT_CARD), fix="update ptune")
    kept = card.card["backbone"]
    loaded = load_backbone(backbone or kept["name"], text_start=kept["text_start"])
    tensors: dict[str, Tensor] = dict(adapter.own)
    if adapter.head:
        state = foreign_head(adapter.head, loaded, card.card["task"].get("kind", "classification")).state
        tensors |= {f"head.{name}": value for name, value in state.items()}
    if adapter.is_deep:
        deep = deep_of_flat(adapter.tensors["prompt_embeddings"], loaded, where=str(path))
        tensors |= {f"deep.{place}": both for place, both in deep.items()}
    else:
        tensors["rows"] = _learned(adapter.rows(), card, path)
    model = model_of(Bundle(card.card, tensors), loaded)
    facts = {key: value for key, value in card.card.items() if key not in ("format", "task", "backbone", "versions")}
    return Imported(model, facts, f"{adapter.peft_type} of ptune's own")


def _learned(rows: Tensor, card: PromptCard, path: Path) -> Tensor:
    """The learned ones among an adapter's virtual tokens, in ptune's order."""
    if len(card.learned) != len(rows):
        what = f"{PROMPT_CARD} tells of {len(card.learned)} virtual tokens, the adapter has {len(rows)}"
        raise BundleError(what, where=str(path), fix="delete the card, and give --template and --labels")
    count = max(card.learned) + 1
    return rows[torch.tensor([card.learned.index(row) for row in range(count)])]


def _prompt(
    adapter: PeftAdapter | None, checkpoint: PrefixCheckpoint | None, backbone: Backbone, task_id: int | None
) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The prompt as a bundle's tensors, the method that stands for it, and what it was."""
    if checkpoint is not None:
        tensors, method = _deep(checkpoint.flat, backbone, "p-tuning-v2")
        method |= {"moves_text": checkpoint.origin != "chatglm"}
        return tensors, method, f"prefix encoder of {checkpoint.origin}, {len(checkpoint.flat)} virtual tokens"
    assert adapter is not None
    what = f"{adapter.peft_type} of PEFT, {adapter.num_tokens} virtual tokens"
    if adapter.is_deep:
        return *_deep(adapter.tensors["prompt_embeddings"], backbone, "prefix-tuning"), what
    rows = adapter.rows(task_id)
    width = backbone.spec.embedding_size
    if rows.shape[1] != width:
        raise BundleError(
            f"the virtual tokens have {rows.shape[1]} numbers, embeddings of {backbone.spec.name} have {width}",
            where="import",
            fix="name the backbone that it was trained on",
        )
    return {"rows": rows}, {"name": "prompt-tuning", "num_tokens": len(rows), "placement": "front"}, what


def _deep(flat: Tensor, backbone: Backbone, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    deep = deep_of_flat(flat, backbone, where="import")
    for difference in deep_differences(backbone):
        notice(f"scores may differ from those that it was trained with: ptune has {difference.what}")
    method = {"name": name, "num_tokens": len(flat), "places": tuple(deep)}
    return {f"deep.{place}": both for place, both in deep.items()}, method
