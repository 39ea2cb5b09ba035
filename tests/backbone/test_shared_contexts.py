"""Contexts that several tasks share: each task's results are those of itself alone, and no text is read twice."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import ptune
from ptune.backbone import Backbone, context_bytes, kept
from ptune.errors import BackboneError
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


@pytest.fixture(params=["llama", "bert"])
def backbone(request: pytest.FixtureRequest) -> Iterator[Backbone]:
    yield tiny_backbone(request.param)


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
    if backbone.kind == "encoder" and "cloze" in way:
        pytest.skip("a gap is read left to right: causal models only")
    words = WAYS["layers in front" if backbone.kind == "encoder" and way == "layers behind" else way]
    alone = [learned(backbone, seed, **words) for seed in (1, 2)]
    with ptune.sharing_contexts(backbone):
        shared = [learned(backbone, seed, **words) for seed in (1, 2)]
    for (facts, answers), (facts_alone, answers_alone) in zip(shared, alone, strict=True):
        assert facts["loss"] == pytest.approx(facts_alone["loss"], abs=2e-5)
        for mine, other in zip(answers, answers_alone, strict=True):
            assert mine["probabilities"] == pytest.approx(other["probabilities"], abs=2e-5)


def test_a_second_task_reads_no_text_again(read: list[Sequence[int]]) -> None:
    backbone = tiny_backbone("llama")
    with ptune.sharing_contexts(backbone):
        learned(backbone, **WAYS["behind"])
        assert len(read) == len(set(map(tuple, read))) > 0
        first = len(read)
        learned(backbone, 2, **WAYS["behind"])
        assert len(read) == first
    assert backbone.shared is None
    learned(backbone, **WAYS["behind"])
    assert len(read) > first


def test_texts_without_room_are_read_anew(read: list[Sequence[int]]) -> None:
    backbone = tiny_backbone("llama")
    with ptune.sharing_contexts(backbone, memory=context_bytes(backbone, 20)):
        answers = learned(backbone, **WAYS["behind"])
        held = backbone.shared
        assert held is not None and held.of(backbone, [range(21)]) is None
    assert answers[0]["loss"] == pytest.approx(learned(backbone, **WAYS["behind"])[0]["loss"], abs=2e-5)


def test_sharing_ends_with_an_error_and_is_not_begun_twice() -> None:
    backbone = tiny_backbone("llama")
    with (
        pytest.raises(BackboneError, match=r"shared already.*one with is enough"),
        ptune.sharing_contexts(backbone),
        ptune.sharing_contexts(backbone),
    ):
        pass
    assert backbone.shared is None


def test_what_all_rows_start_with_is_not_kept_for_each(read: list[Sequence[int]]) -> None:
    backbone = tiny_backbone("llama")
    start = "It was good . " * 7
    with ptune.sharing_contexts(backbone):
        learned(backbone, template=start + "{text} It was{mask}", method="hard")
        assert not read
