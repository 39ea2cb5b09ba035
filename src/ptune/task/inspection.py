"""What a learned prompt is like: its tokens' nearest words, their norms, and what each is worth.

In: a task and, for the worth, labelled examples. Out: `Inspection`. Nearest words are by cosine similarity to the model's own
embeddings; the worth of a learned token is the drop in accuracy when its row is replaced by the mean embedding.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ptune.data import Example
from ptune.model import PromptModel, check_judged, judge_scores
from ptune.prompt import StoredPrompt
from ptune.task.task import Task
from ptune.template import Soft, Template

__all__ = ["Inspection", "LearnedToken", "inspect_task"]

_NUM_WORDS = 3
_VOCABULARY_CHUNK = 32768


@dataclass(frozen=True)
class LearnedToken:
    """One learned row.

    Args:
        row: its number; of an ensemble, counted over all its prompts.
        nearest: (word, cosine similarity), best first.
        norm: length of the row; `relative_norm` compares it with a usual embedding's.
        drop: how much of the kind's main figure is lost without it, None where no examples were given.
    """

    row: int
    nearest: tuple[tuple[str, float], ...]
    norm: float
    relative_norm: float
    drop: float | None = None


@dataclass(frozen=True)
class Inspection:
    """The prompt drawn and measured.

    Args:
        drawing: the template with each learned token as its number and nearest word; of an ensemble, its first prompt.
        tokens: the learned rows.
        accuracy: the kind's main figure with the whole prompt, on the examples given.
        metric: name of that figure.
    """

    drawing: str
    tokens: tuple[LearnedToken, ...]
    accuracy: float | None = None
    metric: str = "accuracy"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def inspect_task(task: Task, examples: Sequence[Example] = ()) -> Inspection:
    """Looks into a task's prompt.

    Args:
        task: trained.
        examples: labelled rows on which to measure what each learned token is worth.

    Raises:
        DataError: an example without its answer, or with a label that the task does not have.
    """
    model = task.model
    if isinstance(model, PromptModel):
        check_judged(examples, model.labels)
    with torch.no_grad():
        stored = model.prompt().rows
    if stored is None:
        return Inspection(str(model.template), (), task.judge(examples).score if examples else None, model.metric)
    rows = stored.flatten(0, -2)
    nearest = _nearest_words(task, rows)
    usual = model.backbone.spec.embedding_rms * model.backbone.spec.embedding_size**0.5
    accuracy, drops = _drops(task, stored, examples) if examples else (None, [None] * len(rows))
    tokens = tuple(
        LearnedToken(i, nearest[i], rows[i].norm().item(), rows[i].norm().item() / usual, drops[i]) for i in range(len(rows))
    )
    return Inspection(_drawing(model.template, model.layout.rows_of_node, nearest), tokens, accuracy, model.metric)


def _nearest_words(task: Task, rows: Tensor) -> list[tuple[tuple[str, float], ...]]:
    backbone = task.model.backbone
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    best_value = torch.full((len(rows), _NUM_WORDS), -2.0)
    best_id = torch.zeros(len(rows), _NUM_WORDS, dtype=torch.long)
    with torch.no_grad():
        for first in range(0, backbone.spec.vocab_size, _VOCABULARY_CHUNK):
            ids = torch.arange(first, min(first + _VOCABULARY_CHUNK, backbone.spec.vocab_size))
            words = torch.nn.functional.normalize(backbone.embed(ids).float(), dim=1)
            value = torch.cat([best_value, (unit @ words.T).cpu()], 1)
            index = torch.cat([best_id, ids.expand(len(rows), -1)], 1)
            best_value, at = value.topk(_NUM_WORDS, dim=1)
            best_id = index.gather(1, at)
    return [
        tuple(zip(backbone.tokens.show(ids), map(float, values), strict=True))
        for ids, values in zip(best_id.tolist(), best_value.tolist(), strict=True)
    ]


def _drops(task: Task, stored: Tensor, examples: Sequence[Example]) -> tuple[float, list[float | None]]:
    model, whole = task.model, task.model.prompt
    prepared = model.prepare(examples, keep_context=not model.why_not_keep())

    def figure() -> float:
        if isinstance(model, PromptModel):
            return judge_scores(model, examples, model.scores(prepared)).accuracy
        return model.judge(examples).score

    mean = model.backbone.embed(torch.tensor(model.backbone.tokens.frequent_words())).float().mean(0)
    accuracy = figure()
    drops: list[float | None] = []
    try:
        for number in range(len(stored.flatten(0, -2))):
            changed = stored.clone()
            changed.view(-1, stored.shape[-1])[number] = mean.to(stored)
            model.prompt = StoredPrompt(changed)
            drops.append(accuracy - figure())
    finally:
        model.prompt = whole
    return accuracy, drops


def _drawing(template: Template, rows_of_node: Any, nearest: Sequence[tuple[tuple[str, float], ...]]) -> str:
    parts = []
    for number, node in enumerate(template.nodes):
        if isinstance(node, Soft):
            parts += [f"[{row}~{nearest[row][0][0].strip()}]" for row in rows_of_node[number]]
        else:
            parts.append(str(Template((node,))))
    return "".join(parts)
