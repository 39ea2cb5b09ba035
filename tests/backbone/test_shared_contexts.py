"""Contexts that several tasks share: each task's results are those of itself alone, and no text is read twice."""

import copy
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
import torch

import ptune
from ptune.backbone import Backbone, SharedContexts, context_bytes, kept
from ptune.errors import BackboneError
from ptune.train import train
from tiny import tiny_backbone

NAMES = ["great", "bad"]
ROWS = [
    {"text": f"the film {at} was # {'very ' * (at % 5)}so", "label": NAMES[at % 2], "choices": NAMES, "answer": at % 2}
    for at in range(12)
]
WAYS: dict[str, dict[str, Any]] = {
    "behind": {"template": "{text}{soft:3} It was{mask}"},
    "in front": {"template": "{soft:3}{text} It was{mask}"},
    "hard": {"template": "{text} It was{mask}", "method": "hard"},
    "layers behind": {
        "template": "{text} It was{mask}",
        "method": {"name": "p-tuning-v2", "num_tokens": 3, "placement": "behind"},
    },
    "layers in front": {"template": "{text} It was{mask}", "method": {"name": "p-tuning-v2", "num_tokens": 3}},
    "words in folds": {"template": "{text} It was{mask}"},
    "candidates": {"template": "{text}{soft:3} It was{mask}", "candidates": 3},
    "long words": {"template": "{text}{soft:3} It was{mask}", "labels": {"great": "a great film", "bad": "a bad day"}},
    "head": {"template": "{text}{soft:3}", "head": "linear", "labels": NAMES},
    "choice": {"task": "choice", "template": "{text}{soft:3} It was{mask}", "labels": None},
    "cloze": {"task": "choice", "template": "{text}", "gap": "#", "labels": None, "method": "hard"},
    "model trained": {"template": "{text} It was{mask}", "method": "hard", "tune": "lm"},
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """The texts whose contexts are computed."""
    texts: list[Sequence[int]] = []
    plain = kept._of_texts

    def counted(backbone: Backbone, rows: Sequence[Sequence[int]]) -> Any:
        texts.extend(rows)
        return plain(backbone, rows)

    monkeypatch.setattr(kept, "_of_texts", counted)
    return texts


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone("llama")


def learned(backbone: Backbone, seed: int = 1, **words: Any) -> tuple[Any, Any]:
    """What a task says of itself, and of new texts."""
    common = {"backbone": backbone, "labels": {"great": ["great"], "bad": ["bad"]}, "steps": 4, "batch_size": 4}
    given = {**common, "train": ROWS[:8], "test": ROWS[6:], **words}
    if given["labels"] is None:
        del given["labels"]
    task = ptune.fit(**given, seed=seed)
    return task.facts["tuned"], [one.to_dict() for one in task.predict(ROWS[4:])]


@pytest.mark.parametrize("way", list(WAYS))
def test_a_task_is_what_it_is_alone(way: str, backbone: Backbone) -> None:
    alone = [learned(backbone, seed, **WAYS[way]) for seed in (1, 2)]
    with ptune.sharing_contexts(backbone):
        shared = [learned(backbone, seed, **WAYS[way]) for seed in (1, 2)]
    for (facts, answers), (facts_alone, answers_alone) in zip(shared, alone, strict=True):
        assert facts["loss"] == pytest.approx(facts_alone["loss"], abs=2e-5)
        for mine, other in zip(answers, answers_alone, strict=True):
            assert mine["probabilities"] == pytest.approx(other["probabilities"], abs=2e-5)


def test_a_masked_model_is_read_as_ever() -> None:
    backbone = tiny_backbone("bert")
    alone = learned(backbone, **WAYS["behind"])
    with ptune.sharing_contexts(backbone):
        assert learned(backbone, **WAYS["behind"]) == alone


def test_a_second_task_reads_no_text_again(backbone: Backbone, read: list[Sequence[int]]) -> None:
    with ptune.sharing_contexts(backbone):
        learned(backbone, **WAYS["behind"])
        assert len(read) == len(set(map(tuple, read))) > 0
        first = len(read)
        learned(backbone, 2, **WAYS["behind"])
        assert len(read) == first
    assert backbone.shared is None
    learned(backbone, **WAYS["behind"])
    assert len(read) > first


def test_texts_without_room_are_read_as_they_are_without_sharing(backbone: Backbone, read: list[Sequence[int]]) -> None:
    alone = learned(backbone, **WAYS["behind"])
    as_ever = list(read)
    with ptune.sharing_contexts(backbone, memory=context_bytes(backbone, 20)):
        assert learned(backbone, **WAYS["behind"]) == alone
    assert read == [*as_ever, *as_ever]


def test_what_rows_hold_counts_after_it_was_let_go(backbone: Backbone) -> None:
    """Room for 40 tokens: two texts of 20 at once, and no third while somebody holds the first two."""
    shared = SharedContexts(context_bytes(backbone, 40))
    held = shared.of(backbone, [range(20), range(1, 21)])
    assert held is not None and shared.of(backbone, [range(20)]) is held
    assert shared.of(backbone, [range(2, 22)]) is None
    del held
    assert shared.of(backbone, [range(2, 22)]) is not None


def test_a_store_is_of_one_model_in_one_number_type(backbone: Backbone) -> None:
    shared = SharedContexts()
    first = shared.of(backbone, [range(5)])
    assert shared.of(tiny_backbone("gpt2"), [range(5)]) is not first
    again = shared.of(backbone, [range(5)])
    copied = copy.deepcopy(backbone.model).to(torch.bfloat16)
    halved = Backbone(copied, backbone.tokens.tokenizer, name="half")
    assert again is not None and shared.of(halved, [range(5)]) is not again


@pytest.mark.parametrize("words", [{"context_dtype": "bf16"}, {"keep_context": False}, {"context_memory": 1}], ids=str)
def test_training_rows_are_kept_as_the_recipe_says(
    words: dict[str, Any], backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not kept in memory, in the model's own number type, is not shared either."""
    if "context_memory" in words:
        monkeypatch.setattr("ptune.recipe.keeping.memory_for_contexts", lambda recipe: 100)
        monkeypatch.setattr("ptune.recipe.contexts.memory_for_contexts", lambda recipe: 100)
    seen: list[Any] = []

    def watched(model: Any, rows: Any, *rest: Any, **more: Any) -> Any:
        seen.append(rows.contexts)
        return train(model, rows, *rest, **more)

    monkeypatch.setattr(import_module("ptune.recipe.fit"), "train", watched)
    with ptune.sharing_contexts(backbone):
        learned(backbone, **WAYS["behind"], **words)
        assert backbone.shared is not None and seen[0] is not backbone.shared._store


def test_sharing_ends_with_an_error_and_is_not_begun_twice(backbone: Backbone) -> None:
    with (
        pytest.raises(BackboneError, match=r"shared already.*one with is enough"),
        ptune.sharing_contexts(backbone),
        ptune.sharing_contexts(backbone),
    ):
        pass
    assert backbone.shared is None


def test_what_all_rows_start_with_is_not_kept_for_each(backbone: Backbone, read: list[Sequence[int]]) -> None:
    start = "It was good . " * 7
    with ptune.sharing_contexts(backbone):
        learned(backbone, template=start + "{text} It was{mask}", method="hard")
        assert not read
