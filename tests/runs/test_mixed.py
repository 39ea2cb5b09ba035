"""Batches that mix tasks: each answer is the one that its task gives alone."""

from typing import Any

import pytest
import torch

import ptune
from ptune.backbone import kept
from ptune.model import KINDS as KINDS_OF_TASK
from ptune.model import rows
from ptune.task import Task
from tiny import ENCODER_DECODERS, EXAMPLES, KINDS, tiny_backbone

TEXTS = [example.fields["text"] for example in EXAMPLES]
WORDS = [{"yes": "great", "no": "bad"}, {"a": ["great", "terrible"], "b": ["不喜欢", "bad"], "c": "积极"}]
TEMPLATES = [
    ("p-tuning", "{text}{soft:3} It was{mask}"),
    ("p-tuning", "{soft:2} Topic : {text max=5}{soft:1}{mask}"),
    ("prompt-tuning", "{text} All in all it was{mask}"),
    ("hard", "{text} It was{mask} ."),
]


def task_of(kind: str, method: str, template: str, labels: Any, **settings: Any) -> Task:
    model = ptune.PromptModel.build(
        backbone=tiny_backbone(kind), template=template, labels=labels, method=method, seed=len(template), **settings
    )
    with torch.no_grad():
        model.prior.copy_(torch.linspace(-0.5, 0.5, model.prior.numel()).view(model.prior.shape))
    return Task(model.requires_grad_(False))


def tasks_of(kind: str) -> list[Task]:
    tasks = [task_of(kind, method, template, labels) for method, template in TEMPLATES for labels in WORDS]
    tasks.append(task_of(kind, "p-tuning", "{text}{soft:2}{mask}", ["x", "y", "z"], pool="mask"))
    tasks.append(task_of(kind, "p-tuning", "{text}{soft:2}", ["x", "y"], pool="mean"))
    tasks.append(task_of(kind, "p-tuning", "{soft:2} {text} It was{mask}", WORDS[0], candidates=3))
    return tasks


@pytest.mark.parametrize("tokens_per_batch", [1, 64, 1024])
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_batches_equal_each_task_alone(kind: str, tokens_per_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptune.task.mixed.TOKENS_PER_BATCH", tokens_per_batch)
    monkeypatch.setattr(rows, "TOKENS_PER_BATCH", tokens_per_batch)
    tasks = tasks_of(kind)
    requests = [(task, text) for text in TEXTS for task in tasks]
    mixed = ptune.predict_mixed(requests)
    for (task, text), got in zip(requests, mixed, strict=True):
        alone = task.predict([text])[0]
        assert got.label == alone.label
        assert got.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 1024])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_task_share_batches(kind: str, tokens_per_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags, spans, numbers and labels; long texts in several windows; what cannot share is answered all the same."""
    monkeypatch.setattr("ptune.task.mixed.TOKENS_PER_BATCH", tokens_per_batch)
    common: dict[str, Any] = {"backbone": tiny_backbone(kind), "method": {"name": "p-tuning", "init": "random"}}
    words = TEXTS[0].split() * 3
    rows_of = {
        "classification": {"text": TEXTS[0]},
        "regression": {"text": TEXTS[1]},
        "tagging": {"tokens": words},
        "qa": {"question": "good", "context": " ".join(words)},
    }
    tasks = {"classification": task_of(kind, *TEMPLATES[0], WORDS[1])}
    if kind not in ENCODER_DECODERS:
        tasks["regression"] = Task(
            KINDS_OF_TASK["regression"].build(
                template="{text}{soft:2}{mask}", labels={"1": "bad", "2": "good", "3": "great"}, seed=3, **common
            )
        )
        tasks["tagging"] = Task(
            KINDS_OF_TASK["tagging"].build(template="{soft:2}{tokens}", labels=["PER", "LOC"], max_length=24, seed=1, **common)
        )
        tasks["qa"] = Task(KINDS_OF_TASK["qa"].build(template="{soft:3}{question}\n{context}", max_length=24, seed=2, **common))
    requests = [(task, rows_of[name]) for _ in range(2) for name, task in tasks.items()]
    if kind not in ENCODER_DECODERS:
        assert all(task.model.can_share_a_batch for task in tasks.values())
    for (task, row), got in zip(requests, ptune.predict_mixed(requests), strict=True):
        assert got.to_dict() == rounded(task.predict([row])[0].to_dict())


def rounded(value: Any) -> Any:
    """Numbers to within what batches of other sizes change."""
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return type(value)(rounded(one) for one in value) if isinstance(value, list | tuple) else value


def test_tasks_on_different_backbones_are_batched_apart() -> None:
    tasks = [task_of(kind, "p-tuning", TEMPLATES[0][1], WORDS[0]) for kind in ("llama", "bert")]
    mixed = ptune.predict_mixed([(task, text) for text in TEXTS for task in tasks])
    for number, text in enumerate(TEXTS):
        for at, task in enumerate(tasks):
            expected = task.predict([text])[0].probabilities
            assert mixed[2 * number + at].probabilities == pytest.approx(expected, abs=1e-5)


def test_what_many_tasks_start_with_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learned tokens in front: the second call finds their keys and values."""
    task = task_of("llama", "prompt-tuning", "{text} It was{mask}", WORDS[0])
    calls: list[int] = []
    own = kept.read_lead
    monkeypatch.setattr(kept, "read_lead", lambda *given: calls.append(1) or own(*given))
    first = ptune.predict_mixed([(task, text) for text in TEXTS])
    assert len(calls) == 1
    assert ptune.predict_mixed([(task, text) for text in TEXTS]) == first and len(calls) == 1
    with torch.no_grad():
        task.model.prompt.rows.mul_(2)
    assert ptune.predict_mixed([(task, text) for text in TEXTS]) != first and len(calls) == 2


def test_no_requests_and_a_row_without_its_field() -> None:
    assert ptune.predict_mixed([]) == []
    task = task_of("llama", "hard", "{text} It was{mask}", WORDS[0])
    with pytest.raises(ptune.PtuneError, match="text"):
        ptune.predict_mixed([(task, {"review": "good"})])
