"""One text of a task as a matrix of embeddings, as runtimes take it that accept a whole embedded prompt (vLLM).

In: a task on a causal model, and one row of data. Out: a safetensors file with `prompt_embeds` [T, D], all tokens in front of
the answer with the learned ones in place; `learned_rows` [P, D]; and `learned` [T], each token's learned row or -1, by which a
client can embed other texts itself. Such a runtime knows no template: the matrix is made anew for each text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ptune.bundle.front_rows import embedded
from ptune.bundle.lost_in_export import Exported, learned_rows, prompt_losses, refuse_changes
from ptune.data import read_examples
from ptune.errors import BundleError
from ptune.model import TaskModel

__all__ = ["export_prompt_embeds"]


def export_prompt_embeds(model: TaskModel, row: Mapping[str, Any], file: str | Path, *, force: bool = False) -> Exported:
    """Embeds one text with its prompt.

    Args:
        model: trained, on a causal model.
        row: the template's fields.
        file: ends with .safetensors; replaced if it is there.
        force: write the prompt even where something else of the task decides the scores too.

    Raises:
        BundleError: no causal model, no learned rows, or something that the matrix cannot hold.
        DataError: the row lacks a field.
        TemplateError: the row does not fit.
    """
    path = Path(file).expanduser().resolve()
    if path.suffix != ".safetensors" or path.is_dir():
        raise BundleError(f"{path.name} is no name of a safetensors file", where=str(path), fix="end it with .safetensors")
    rows = learned_rows(model, "an embedded prompt")
    if model.backbone.kind != "decoder":
        what = f"{model.backbone.spec.name} is no causal model, and only these are served by embedded prompts"
        raise BundleError(what, where="export", fix="use --to peft")
    losses = prompt_losses(model)
    refuse_changes(losses, "an embedded prompt", force=force)
    (example,) = read_examples([row], fields=model.template.field_names, label=None)
    encoded = model.encode(example)
    ids, learned = encoded.ids[: encoded.slot], encoded.soft[: encoded.slot]
    lost = [loss.what for loss in losses]
    if len(ids) < len(encoded):
        lost.append("what stands behind the answer")
    tensors = {
        "prompt_embeds": embedded(model, ids, learned).contiguous(),
        "learned_rows": rows.detach().cpu().to(model.backbone.dtype).contiguous(),
        "learned": torch.tensor(learned),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt", "backbone": model.backbone.spec.name})
    return Exported(path, f"{len(ids)} tokens, {len(rows)} of them learned, of width {rows.shape[1]}", tuple(lost))
