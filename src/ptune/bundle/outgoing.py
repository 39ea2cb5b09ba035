"""A task as a PEFT adapter, and what of the task that format cannot say.

In: a `TaskModel`. Out: a folder that `peft.PeftModel.from_pretrained` opens, with `prompt_card.json` and `README.md` beside
it, and `Exported`, which lists what is not in it. PEFT puts its virtual tokens in front of everything: words and special tokens
that stand in front of the last learned token are therefore written as virtual tokens too (`bundle/front.py`), which gives the
same scores. Whatever would give other scores is refused, or written with `force` and said.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ptune.bundle.convert import bundle_of
from ptune.bundle.deep_exchange import TASK_TYPES, deep_adapter
from ptune.bundle.front_rows import Front, front_of, why_no_front
from ptune.bundle.heads import head_tensors, task_type_of
from ptune.bundle.lost_in_export import Exported, Loss, base_name, has_segments, learned_rows, prompt_losses, refuse_changes
from ptune.bundle.peft_format import ADAPTER_CONFIG, PeftAdapter
from ptune.bundle.prompt_card import PROMPT_CARD, PromptCard, check_folder
from ptune.model import TaskModel
from ptune.template import Template

__all__ = ["export_peft"]

_OWN_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors", "README.md", PROMPT_CARD)


def export_peft(
    model: TaskModel, folder: str | Path, *, facts: Mapping[str, Any] | None = None, force: bool = False
) -> Exported:
    """Writes a task's prompt as PEFT keeps it.

    Args:
        model: trained.
        folder: new, empty, or an earlier export.
        facts: what the bundle's card keeps about the run.
        force: write the learned rows as a front prompt even where that gives other scores.

    Raises:
        BundleError: nothing is learned, several prompts are, or PEFT would compute something else and `force` is not set.
    """
    path = Path(folder).expanduser().resolve()
    check_folder(path, _OWN_FILES)
    adapter, card, losses = _adapter(model, facts or {})
    refuse_changes(losses, "PEFT", force=force)
    adapter.write(path)
    card.write(path)
    lost = tuple(loss.what for loss in losses)
    (path / "README.md").write_text(_readme(model, adapter, lost), encoding="utf-8")
    return Exported(path, f"{adapter.peft_type}, {adapter.task_type}, {adapter.num_tokens} virtual tokens", lost)


def _adapter(model: TaskModel, facts: Mapping[str, Any]) -> tuple[PeftAdapter, PromptCard, list[Loss]]:
    with torch.no_grad():
        state = model.prompt()
    task_type = task_type_of(model)
    front = None if state.prefixes else _front(model)
    if front is None:
        adapter, losses = deep_adapter(model, state)
        losses.insert(0, Loss(f"the template: write texts as {str(model.template)!r} yourself"))
    else:
        adapter, losses = _soft_adapter(model, front), _placement_losses(model, front)
    if task_type is not None:
        losses += _head_losses(model, front)
    elif model.backbone.kind == "encoder":
        where = "load it on AutoModel" if front is None else "its result begins with the virtual tokens"
        losses.append(Loss(f"a masked-language-model task, which PEFT does not know: {where}"))
    losses += prompt_losses(model, holds_head=task_type is not None)
    head = head_tensors(model)
    own = {name: value for name, value in model.tensors().items() if not (head and name.startswith("head."))}
    tensors = {f"base_model.{name}": value for name, value in head.items()}
    tensors |= {f"ptune.{name}": value for name, value in own.items()}
    config = dict(adapter.config)
    if any("pooler" in name for name in head):
        config["modules_to_save"] = ["pooler", "classifier", "score"]
    tensors |= adapter.tensors
    adapter = replace(adapter, task_type=task_type or adapter.task_type, tensors=tensors, config=config)
    return adapter, PromptCard(bundle_of(model, facts).card, front.learned if front else ()), losses


def _head_losses(model: TaskModel, front: Front | None) -> list[Loss]:
    """What PEFT does not know of a head's classes, and where it would read something else."""
    losses = []
    names = getattr(model, "tags", model.label_names)
    if names:
        listed = ", ".join(f"{number}: {name}" for number, name in enumerate(names))
        losses.append(Loss(f"the names of the classes ({listed})"))
    if model.kind not in ("tagging", "qa") and not _reads_as_peft(model, front):
        losses.append(Loss(f"a head on another place (pool: {_pool(model)}) than PEFT's result has it", True))
    if model.kind == "qa" and has_segments(model):
        losses.append(Loss("segment ids, which PEFT's question answering drops", True))
    return losses


def _reads_as_peft(model: TaskModel, front: Front | None) -> bool:
    """Whether a head reads what transformers reads behind PEFT's tokens: position 0 of an encoder, a causal model's last."""
    pool = _pool(model)
    if model.backbone.kind == "decoder":
        return pool == "last"
    has_cls_at_0 = front is None or (front.holds_start and front.learned[0] < 0)
    return pool == "first" or (pool == "cls" and has_cls_at_0)


def _pool(model: TaskModel) -> str | None:
    """What a head on a whole text reads."""
    pool = model.settings().get("pool")
    return pool if isinstance(pool, str) else None


def _front(model: TaskModel) -> Front:
    """What stands in front of the text; where the learned tokens do not, these alone."""
    rows = learned_rows(model, "PEFT")
    if not why_no_front(model):
        return front_of(model)
    return Front(rows.detach().cpu(), (), tuple(range(len(rows))), holds_start=False)


def _soft_adapter(model: TaskModel, front: Front) -> PeftAdapter:
    spec = model.backbone.spec
    config = {
        "base_model_name_or_path": base_name(model),
        "num_attention_heads": _heads(model),
        "num_layers": spec.num_layers,
        "token_dim": spec.embedding_size,
    }
    peft_type = "P_TUNING" if model.method.name == "p-tuning" else "PROMPT_TUNING"
    return PeftAdapter(peft_type, TASK_TYPES[spec.kind], len(front.rows), {"prompt_embeddings": front.rows}, config)


def _placement_losses(model: TaskModel, front: Front) -> list[Loss]:
    reason = why_no_front(model)
    losses = [Loss(f"the template: write texts as {str(_rest(model.template, reason))!r} yourself")]
    if reason:
        losses.insert(0, Loss(f"their place: {reason}, and PEFT's stand in front of everything", True))
    if front.num_fixed:
        shown = " ".join(model.backbone.tokens.show([i for i, row in zip(front.ids, front.learned, strict=True) if row < 0]))
        losses.append(Loss(f"the text's beginning, which is among the virtual tokens ({shown}): do not write it again"))
    if front.holds_start:
        losses.append(Loss("the start token, which is a virtual one too: tokenise texts without it"))
    return losses


def _rest(template: Template, reason: str) -> Template:
    """What the user of the other format has to write: the template behind its last learned token."""
    if reason:
        return template.without_soft()
    last, _ = template.soft_nodes[-1]
    return Template(template.nodes[last + 1 :])


def _heads(model: TaskModel) -> int | None:
    config = model.backbone.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    return heads if isinstance(heads, int) else None


def _readme(model: TaskModel, adapter: PeftAdapter, lost: tuple[str, ...]) -> str:
    classes = {
        "CAUSAL_LM": "AutoModelForCausalLM",
        "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
        "SEQ_CLS": "AutoModelForSequenceClassification",
        "TOKEN_CLS": "AutoModelForTokenClassification",
        "QUESTION_ANS": "AutoModelForQuestionAnswering",
    }
    loader = classes.get(adapter.task_type or "", "AutoModel" if adapter.is_deep else "AutoModelForMaskedLM")
    base = base_name(model)
    names = getattr(model, "tags", model.label_names)
    count = f", num_labels={len(names)}" if adapter.task_type in ("SEQ_CLS", "TOKEN_CLS") else ""
    lines = "\n".join(f"- {sentence}" for sentence in lost)
    return f"""---
library_name: peft
base_model: {base!r}
tags: [ptune]
---

A learned prompt ({adapter.peft_type}, {adapter.num_tokens} virtual tokens) for {base}, trained with ptune.

```python
from peft import PeftModel
from transformers import {loader}

model = PeftModel.from_pretrained({loader}.from_pretrained({base!r}{count}), "this folder")
```

Not part of it:

{lines}

`prompt_card.json` holds the rest for `ptune import`, which gives the whole task back.
"""
