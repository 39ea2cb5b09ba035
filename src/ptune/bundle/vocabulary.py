"""A soft prompt as rows of the vocabulary: a normal Hugging Face model folder in which a string holds the prompt.

In: a task whose learned tokens are rows. Out: the backbone with P more tokens (`<ptune_0>`, ...), its tokenizer that knows
them, and `ptune_prompt.json` with the string. Where the model multiplies its embeddings (Gemma), rows are divided by that.
An added token is never written: it gets a very low bias where the output layer has one; else output rows are untied from the
embeddings and its row is the mean of the others, whose logit is never the largest; and `suppress_tokens` for `generate`.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptune.bundle.lost_in_export import Exported, has_segments, learned_rows, prompt_losses, refuse_changes
from ptune.bundle.prompt_card import check_folder
from ptune.data import Example
from ptune.errors import BundleError
from ptune.model import TaskModel
from ptune.prompt import registration
from ptune.template import FieldSegment, MaskSegment, SoftSegment, SpecialSegment, TextSegment

__all__ = ["PROMPT_FILE", "export_vocabulary"]

PROMPT_FILE = "ptune_prompt.json"
_LOW_BIAS = -1e4
_PROBES = ("good", "The film was great, a good story.", "这部电影很好，我很喜欢。")


def export_vocabulary(model: TaskModel, folder: str | Path, *, force: bool = False) -> Exported:
    """Writes the model folder.

    Args:
        model: trained.
        folder: new or empty.
        force: write the prompt even where something else of the task decides the scores too.

    Raises:
        BundleError: no learned rows, a tokenizer that cannot put them into a string, or embeddings that are more than scaled.
    """
    path = Path(folder).expanduser().resolve()
    check_folder(path, ())
    rows = learned_rows(model, "a vocabulary")
    losses = prompt_losses(model, holds_model=True)
    refuse_changes(losses, "the model folder", force=force)
    tokenizer = copy.deepcopy(model.backbone.tokens.tokenizer)
    names = _free_names(tokenizer, len(rows))
    tokenizer.add_tokens(names, special_tokens=True)
    first = int(tokenizer.convert_tokens_to_ids(names[0]))
    prompt = _prompt_string(model, tokenizer, names, first)
    grown = _grown(model, rows, first)
    path.mkdir(parents=True, exist_ok=True)
    grown.save_pretrained(path)
    tokenizer.save_pretrained(path)
    lost = [loss.what for loss in losses]
    if has_segments(model):
        lost.append("segment ids: behind {sep} they are 1 in ptune, so hand token_type_ids over yourself")
    verbalizer = getattr(model, "verbalizer", None)
    words = None if verbalizer is None else {name: list(listed) for name, listed in verbalizer.words.items()}
    kept = {"format": 1, **prompt, "tokens": names, "labels": list(model.label_names), "label_words": words}
    (path / PROMPT_FILE).write_text(json.dumps(kept, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return Exported(path, f"{len(rows)} tokens from {names[0]} on, ids from {first} on", tuple(lost))


def _free_names(tokenizer: Any, count: int) -> list[str]:
    """Names that the tokenizer does not have yet: a folder that was exported once may be a backbone again."""
    known = tokenizer.get_vocab()
    start = 0
    while any(f"<ptune_{start + number}>" in known for number in range(count)):
        start += 1
    return [f"<ptune_{start + number}>" for number in range(count)]


# -- the model -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _grown(model: TaskModel, rows: Tensor, first: int) -> Any:
    """A copy of the language model with the learned rows among its embeddings."""
    grown = copy.deepcopy(model.backbone.model)
    if getattr(type(grown), "_supports_sdpa", False):
        grown.set_attn_implementation("sdpa")
    num_before = grown.get_input_embeddings().weight.shape[0]
    if not _biases(grown) or model.lm_head is not None:
        _untie(grown, model.lm_head)
    last = first + len(rows)
    grown.resize_token_embeddings(max(num_before, last), mean_resizing=False)
    ids = torch.arange(first, last, device=grown.device)
    table = grown.get_input_embeddings()
    scale = torch.as_tensor(getattr(table, "embed_scale", 1.0), dtype=torch.float64)
    table.weight[ids] = (rows.to(table.weight.device).double() / scale.to(table.weight.device)).to(table.weight.dtype)
    if not torch.allclose(
        table(ids).float(), rows.to(ids.device).float(), rtol=1e-5 if table.weight.dtype.itemsize > 2 else 1e-2
    ):
        raise BundleError(
            f"{model.backbone.spec.architecture} does more than scale its embeddings, so rows cannot stand in its vocabulary",
            where="export",
            fix="use --to prompt-embeds",
        )
    _silence(grown, range(min(num_before, first), last), num_before)
    return grown


def _untie(grown: Any, trained: Tensor | None) -> None:
    """Gives the output layer a matrix of its own, the trained one where there is one."""
    output = grown.get_output_embeddings()
    if output is None:
        return
    output.weight = nn.Parameter((output.weight if trained is None else trained.to(output.weight)).detach().clone())
    for config in (grown.config, grown.config.get_text_config()):
        config.tie_word_embeddings = False


def _biases(grown: Any) -> list[Tensor]:
    """What the model adds to the logits of each token."""
    found = (getattr(grown.get_output_embeddings(), "bias", None), getattr(grown, "final_logits_bias", None))
    return [bias for bias in found if isinstance(bias, Tensor)]


def _silence(grown: Any, ids: Sequence[int], num_before: int) -> None:
    """Output rows of added tokens: the mean of the others, the lowest bias, and out of `generate`."""
    output = grown.get_output_embeddings()
    is_tied = output is not None and output.weight is grown.get_input_embeddings().weight
    if output is not None:
        new = torch.tensor(list(ids), device=output.weight.device)
        old = torch.ones(len(output.weight), dtype=torch.bool, device=output.weight.device)
        old[new] = False
        if not is_tied:
            output.weight[new] = output.weight[old].float().mean(0).to(output.weight.dtype)
        for bias in _biases(grown):
            bias.view(-1)[new] = _LOW_BIAS
    generation = getattr(grown, "generation_config", None)
    if generation is not None:
        generation.suppress_tokens = sorted({*(generation.suppress_tokens or ()), *ids})


# -- the string ------------------------------------------------------------------------------------------------------


def _prompt_string(model: TaskModel, tokenizer: Any, names: Sequence[str], first: int) -> dict[str, Any]:
    """The task's text as one string with the fields in braces, proven on a few texts to give the tokens of `encode`.

    Raises:
        BundleError: the tokenizer cuts the string in another way than its parts.
    """
    tokens, fields = model.backbone.tokens, model.template.field_names
    bare, start_at = _pieces(model, tokenizer, names)
    start, end = (tokenizer.convert_ids_to_tokens(list(ids)) for ids in (tokens.start_ids, tokens.end_ids))
    whole = "".join([*bare[:start_at], *map(_escaped, start), *bare[start_at:], *map(_escaped, end)])
    rows = [dict.fromkeys(fields, probe) for probe in _PROBES] if fields else [{}]
    expected = [_ids(model, Example(row), first) for row in rows]
    for string, adds in (("".join(bare), True), (whole, True), (whole, False)):
        got = [tokenizer(string.format(**row), add_special_tokens=adds)["input_ids"] for row in rows]
        if got == expected:
            return {"prompt": string, "add_special_tokens": adds, "fields": list(fields)}
    raise BundleError(
        "the tokenizer cuts the prompt in another way when it is one string, so no string holds it",
        where="export",
        fix="use --to prompt-embeds or --to peft",
    )


def _pieces(model: TaskModel, tokenizer: Any, names: Sequence[str]) -> tuple[list[str], int]:
    """The template's parts as text, and in front of which the text's start token stands."""
    tokens = model.backbone.tokens
    parts: list[str] = []
    row = {name: name for name in model.template.field_names}
    for segment in model.template.render(row):
        if isinstance(segment, TextSegment):
            parts.append(_escaped(segment.text))
        elif isinstance(segment, FieldSegment):
            parts.append("{" + segment.name + "}")
        elif isinstance(segment, SoftSegment):
            parts.append("".join(names[row] for row in model.layout.rows_of_node[segment.node_index]))
        elif isinstance(segment, SpecialSegment):
            parts.append(_escaped("".join(tokenizer.convert_ids_to_tokens(list(tokens.special(segment.token))))))
        elif isinstance(segment, MaskSegment):
            if model.backbone.kind == "decoder":
                break
            parts.append(_escaped("".join(tokenizer.convert_ids_to_tokens(list(tokens.slot_ids)))))
    return parts, registration(model.method).num_lead(model.method)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _ids(model: TaskModel, example: Example, first: int) -> list[int]:
    """What ptune reads of a row: a causal model's tokens up to the answer, another's with a token for each slot."""
    encoded = model.encode(example)
    ids = [first + soft if soft >= 0 else index for index, soft in zip(encoded.ids, encoded.soft, strict=True)]
    if encoded.slot is None:
        return ids
    if model.backbone.kind == "decoder":
        return ids[: encoded.slot]
    for slot in reversed(encoded.slots):
        ids[slot:slot] = model.backbone.tokens.slot_ids
    return ids
