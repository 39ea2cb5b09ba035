"""`head: model` from a recipe to PEFT: a classifier, a tagger and an answer finder, trained, saved, exported and read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from peers import QUIET
from ptune.bundle import export_peft, import_prompt
from ptune.bundle.peft_format import read_peft
from ptune.errors import BackboneError, PtuneError, RecipeError
from ptune.readout import TOKEN_FORM, ModelHead, form_of
from tiny import EXAMPLES, tiny_backbone

pytestmark = pytest.mark.filterwarnings(QUIET)

CLASSIFIED = [{"text": one.fields["text"], "label": one.label} for one in EXAMPLES]
TAGGED = [
    {"tokens": ["The", "film", "with", "Good", "Music"], "tags": ["O", "O", "O", "B-PER", "I-PER"]},
    {"tokens": ["I", "like", "this", "place"], "tags": ["O", "O", "O", "O"]},
]
ANSWERED = [
    {"question": "What ?", "context": "The film was great .", "answers": {"text": ["film"], "answer_start": [4]}},
    {"question": "How ?", "context": "The food was bad .", "answers": {"text": ["bad"], "answer_start": [13]}},
]
TASKS: dict[str, dict[str, Any]] = {
    "SEQ_CLS": {"train": CLASSIFIED, "template": "{text}", "labels": ["no", "yes"]},
    "TOKEN_CLS": {"task": "tagging", "train": TAGGED},
    "QUESTION_ANS": {"task": "qa", "train": ANSWERED, "template": "{question} {context}"},
}


@pytest.mark.parametrize("method", [{"name": "p-tuning-v2", "num_tokens": 3}, {"name": "prompt-tuning", "num_tokens": 3}])
@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
@pytest.mark.parametrize("task_type", TASKS)
def test_trained_exported_and_read_again(
    task_type: str, kind: str, method: dict[str, Any], tiny_folder: Callable[[str], str], tmp_path: Path
) -> None:
    words = TASKS[task_type]
    task = ptune.fit(**words, head="model", method=method, backbone=tiny_folder(kind), steps=15, batch_size=4)
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"]
    assert isinstance(task.model.head, ModelHead)
    rows = words["train"]
    loaded = ptune.load(task.save(tmp_path / "bundle"))
    assert loaded.predict(rows) == task.predict(rows)
    export_peft(loaded.model, tmp_path / "adapter")
    adapter = read_peft(tmp_path / "adapter")
    assert adapter.task_type == task_type and adapter.head
    read = import_prompt(tmp_path / "adapter", backbone=loaded.model.backbone)
    assert ptune.Task(read.model).predict(rows) == task.predict(rows)


def test_forms_are_those_of_the_models() -> None:
    sizes = {}
    for kind in ("bert", "electra", "gpt2"):
        backbone = tiny_backbone(kind)
        form = form_of(backbone.spec.architecture, is_decoder=backbone.kind == "decoder")
        sizes[kind] = sum(value.numel() for value in ModelHead(32, 3, form, seed=0).parameters())
    dense, classes = 32 * 32 + 32, 3 * 32
    assert sizes == {"bert": dense + classes + 3, "electra": dense + classes + 3, "gpt2": classes}
    assert sum(value.numel() for value in ModelHead(32, 3, TOKEN_FORM, seed=0).parameters()) == classes + 3


def test_a_mean_of_states_is_scored_as_one_state() -> None:
    head = ModelHead(32, 3, form_of("electra", is_decoder=False), seed=1)
    hidden = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    pool = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    expected = head.score(torch.stack([hidden[0, :2].mean(0), hidden[1, 4]]))
    torch.testing.assert_close(head(hidden, pool), expected)


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"backbone": tiny_backbone("t5")}, BackboneError, "does not know the classification head of t5"),
        ({"backbone": tiny_backbone("gpt2"), "head": "tree"}, RecipeError, "head"),
        ({"backbone": tiny_backbone("gpt2"), "head": None, "pool": "last"}, RecipeError, "pool needs head: linear or model"),
    ],
)
def test_heads_that_there_are_not(words: dict[str, Any], error: type[PtuneError], says: str) -> None:
    with pytest.raises(error, match=says):
        ptune.fit(**{**TASKS["SEQ_CLS"], "head": "model", "method": "hard", "steps": 1, **words})
