"""The log-prior: after it, no label is preferred over all texts together."""

import pytest
import torch

from ptune.model import PromptModel
from ptune.readout import LinearHead, log_prior
from tiny import EXAMPLES, tiny_backbone


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_mean_probabilities_become_uniform(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    scores = torch.randn(40, num_classes, generator=generator) * 2 + torch.arange(num_classes) * 1.5
    prior = log_prior(scores)
    mean = torch.softmax(scores - prior, 1).mean(0)
    torch.testing.assert_close(mean, torch.full((num_classes,), 1 / num_classes), rtol=0, atol=1e-3)
    assert float(prior.mean()) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(log_prior(scores + 3.0), prior, rtol=0, atol=1e-4)


def test_scores_that_prefer_nothing_are_left_alone() -> None:
    scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    torch.testing.assert_close(log_prior(scores), torch.zeros(2), rtol=0, atol=1e-6)


def test_one_text_and_extreme_scores_give_finite_numbers() -> None:
    for scores in (torch.tensor([[50.0, -50.0]]), torch.tensor([[0.0, -200.0]] * 3)):
        assert torch.isfinite(log_prior(scores)).all()


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_models_prior_is_subtracted_and_saved(kind: str) -> None:
    def build() -> PromptModel:
        return PromptModel.build(
            backbone=tiny_backbone(kind), template="{text} It was{mask}", labels={"a": "great", "b": "bad"}, method="hard"
        )

    model = build()
    prepared = model.prepare(EXAMPLES)
    before = model.scores(prepared)
    model.prior.copy_(log_prior(before))
    torch.testing.assert_close(torch.softmax(model.scores(prepared), 1).mean(0), torch.full((2,), 0.5), rtol=0, atol=1e-3)
    other = build()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.scores(prepared), model.scores(prepared), rtol=0, atol=0)


def test_a_head_is_drawn_from_its_seed() -> None:
    first, again, other = LinearHead(32, 3, seed=1), LinearHead(32, 3, seed=1), LinearHead(32, 3, seed=2)
    assert torch.equal(first.linear.weight, again.linear.weight) and not torch.equal(first.linear.weight, other.linear.weight)
    assert float(first.linear.weight.detach().std()) == pytest.approx(0.02, rel=0.3) and not first.linear.bias.any()
