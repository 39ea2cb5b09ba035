"""`label_loss: decoupled` in a run: the loss by the paper's equation on the model's logits, and what it does not go with."""

from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.objective import decoupled_loss
from ptune.recipe import Recipe, build_model, read_splits
from tiny import YES_NO_ROWS, tiny_backbone

WORDS: dict[str, Any] = {
    "train": YES_NO_ROWS,
    "template": "{text}{soft:2} It was{mask}",
    "labels": {"yes": ["good"], "no": ["bad"]},
    "label_loss": "decoupled",
    "seed": 2,
}
SEVERAL = {"yes": ["good", "wonderful"], "no": ["bad", "not good"]}


def by_hand(log_q: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    rows = []
    for one, label in zip(log_q, labels.tolist(), strict=True):
        rows.append(-sum(one[c] if c == label else torch.log(1 - one[c].exp()) for c in range(len(one))))
    return torch.stack(rows)


def test_the_loss_by_the_paper_s_equation() -> None:
    log_q = torch.log(torch.tensor([[0.5, 0.2, 0.1], [0.25, 0.25, 0.0001], [0.9, 0.05, 0.01]], dtype=torch.float64))
    labels = torch.tensor([0, 2, 1])
    each = by_hand(log_q, labels)
    torch.testing.assert_close(decoupled_loss(log_q, labels), each.mean())
    weighted = (each * torch.tensor([2.0, 4.0, 3.0])).sum() / 9
    torch.testing.assert_close(decoupled_loss(log_q, labels, class_weights=[2, 3, 4]), weighted)


def test_a_certain_wrong_label_costs_much_and_has_a_gradient() -> None:
    log_q = torch.tensor([[0.0, -30.0]], requires_grad=True)
    loss = decoupled_loss(log_q, torch.tensor([1]))
    assert 40 < float(loss.detach()) < 60
    loss.backward()
    assert log_q.grad is not None and bool(torch.isfinite(log_q.grad).all())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "t5"])
def test_a_step_on_the_model_s_own_probabilities(kind: str) -> None:
    recipe = Recipe.of({**WORDS, "backbone": tiny_backbone(kind)}, where="test")
    splits = read_splits(recipe)
    model: Any = build_model(recipe, recipe.backbone, splits)
    batch = model.batch(model.prepare(splits.train), range(8))
    assert batch.reads.columns is not None
    with torch.no_grad():
        states = model._read_states(batch)
        log_q = torch.log_softmax(model.logits(states, None), 1)[:, batch.reads.columns]
    outcome = model(batch)
    torch.testing.assert_close(
        outcome.loss.detach(), by_hand(log_q.double(), batch.labels).mean().float(), rtol=1e-4, atol=1e-5
    )
    outcome.loss.backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.prompt.parameters())
    with torch.no_grad():  # what is said of a text is the same
        torch.testing.assert_close(torch.softmax(model(batch).scores, 1), torch.softmax(log_q, 1), rtol=1e-4, atol=1e-5)


def test_words_of_several_tokens_and_candidates() -> None:
    recipe = Recipe.of({**WORDS, "labels": SEVERAL, "candidates": 2, "backbone": tiny_backbone("llama")}, where="test")
    splits = read_splits(recipe)
    model: Any = build_model(recipe, recipe.backbone, splits)
    batch = model.batch(model.prepare(splits.train), range(8))
    outcome = model(batch)
    assert outcome.candidate_losses.shape == (2,)
    for scores, loss in zip(outcome.candidate_scores, outcome.candidate_losses, strict=True):
        torch.testing.assert_close(loss, by_hand(scores.double(), batch.labels).mean().float(), rtol=1e-4, atol=1e-5)


def test_a_run_takes_no_prior_out_and_is_loaded_like_any_other(tmp_path: Any) -> None:
    task = ptune.fit(**WORDS, backbone=tiny_backbone("llama"), steps=12, learning_rate=0.05)
    assert task.facts["training"]["last_loss"] < task.facts["training"]["first_loss"]
    assert not bool(task.model.prior.any())
    task.save(tmp_path / "bundle")
    again = ptune.load(tmp_path / "bundle", backbone=tiny_backbone("llama"))
    assert again.predict(["The film was great ."]) == task.predict(["The film was great ."])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label_smoothing": 0.1}, "leave out label_smoothing"),
        ({"folds": 2}, "leave out folds or pull"),
        ({"head": "prototypes", "labels": ["yes", "no"]}, "leave out a head"),
        ({"calibration": "contextual"}, "leave out a calibration"),
        ({"label_loss": "decoupeld"}, "label_loss"),
        ({"task": "generation", "labels": None, "template": "{text}{mask}", "method": "hard"}, "label_loss is for"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PtuneError, match=says):
        Recipe.of({**WORDS, "backbone": tiny_backbone("gpt2"), **changes}, where="test")
