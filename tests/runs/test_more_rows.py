"""`augment` and `r_drop` in a run: which rows are copied, and the loss by the paper's equation."""

from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.recipe import Recipe, build_model, read_splits
from tiny import YES_NO_ROWS, tiny_backbone

WORDS: dict[str, Any] = {
    "train": YES_NO_ROWS,
    "template": "{text} It was{mask}",
    "labels": {"yes": ["good"], "no": ["bad"]},
    "seed": 2,
}
DROPS: dict[str, Any] = {"method": {"name": "p-tuning-v2", "num_tokens": 4, "dropout": 0.4}, "r_drop": 2.0}


def test_training_rows_are_copied_and_held_out_ones_are_not() -> None:
    recipe = Recipe.of(
        {**WORDS, "backbone": tiny_backbone("gpt2"), "method": "hard", "hold_out": 1, "augment": {"copies": 2}}, where="test"
    )
    splits = read_splits(recipe)
    assert len(splits.train) == 18 and len(splits.validation) == 2
    held = {row.fields["text"] for row in splits.validation}
    originals = {row["text"] for row in YES_NO_ROWS}
    assert held <= originals and not held & {row.fields["text"] for row in splits.train[::3]}
    assert all(copy.label == splits.train[number // 3 * 3].label for number, copy in enumerate(splits.train))


def test_the_card_shows_what_people_wrote() -> None:
    task = ptune.fit(**WORDS, backbone=tiny_backbone("gpt2"), method="hard", augment={"copies": 3, "swap": 0.5})
    shown = str(task.facts["data"]["examples"])
    assert task.facts["data"]["train_rows"] == 32
    assert sum(row["text"] in shown for row in YES_NO_ROWS) == 4


@pytest.mark.parametrize("kind", ["gpt2", "bert", "t5"])
def test_the_loss_of_two_readings(kind: str) -> None:
    """Half of equation 4 of the paper, with the two distributions as the model itself gives them."""
    recipe = Recipe.of({**WORDS, **DROPS, "backbone": tiny_backbone(kind)}, where="test")
    splits = read_splits(recipe)
    model: Any = build_model(recipe, recipe.backbone, splits)
    with torch.no_grad():
        for parameter in model.prompt.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    batch = model.batch(model.prepare(splits.train), range(8))
    torch.manual_seed(5)
    loss = model(batch).loss
    torch.manual_seed(5)
    p, q = (torch.log_softmax(model.corrected_scores(batch), 1) for _ in range(2))
    assert not torch.allclose(p, q)
    at = torch.arange(8), batch.labels
    paper = -p[at] - q[at] + 2.0 / 2 * ((p.exp() * (p - q)).sum(1) + (q.exp() * (q - p)).sum(1))
    torch.testing.assert_close(loss, paper.mean() / 2)
    loss.backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.prompt.parameters())
    with torch.no_grad():
        plain = torch.nn.functional.cross_entropy(model.corrected_scores(batch), batch.labels)
        torch.testing.assert_close(model(batch).loss, plain)


def test_a_run_with_both_is_loaded_like_any_other(tmp_path: Any) -> None:
    task = ptune.fit(**WORDS, **DROPS, backbone=tiny_backbone("gpt2"), augment={"punctuate": 0.2}, steps=4)
    task.save(tmp_path / "bundle")
    again = ptune.load(tmp_path / "bundle", backbone=tiny_backbone("gpt2"))
    assert again.predict(["The film was great ."]) == task.predict(["The film was great ."])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"r_drop": 1.0, "template": "{text}{soft:2} It was{mask}"}, "dropout"),
        ({**DROPS, "head": "prototypes", "labels": ["yes", "no"]}, "r_drop is for"),
        ({"augment": {"copies": 0}}, "copies"),
        ({"augment": {"swap": 0, "delete": 0}}, "all 0"),
        ({"augment": {"copy": 3}}, "copy"),
        ({"augment": {}, "folds": 2, "template": "{text}{soft:2} It was{mask}"}, "leave out folds or augment"),
        ({"augment": {}, "task": "generation", "labels": None, "template": "{text}{mask}", "method": "hard"}, "augment is for"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PtuneError, match=says):
        Recipe.of({**WORDS, "backbone": tiny_backbone("gpt2"), **changes}, where="test")
