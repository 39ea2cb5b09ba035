"""Calibrations against the papers' formulas, worked out number by number; temperature against a grid; abstention by hand."""

import math

import pytest
import torch

from ptune.model import PromptModel
from ptune.objective import abstention
from ptune.readout import batch_prior, best_temperature, contextual_prior, domain_prior
from tiny import EXAMPLES, example, tiny_backbone


def test_contextual_calibration_is_the_papers_matrix() -> None:
    """Zhao et al. 2021: q = softmax-free W p with W = diag(p_cf)^-1, p_cf the mean of probabilities, renormalised."""
    free = [[2.0, 0.5, -1.0], [1.0, 1.0, 0.0], [3.0, -2.0, 0.5]]
    text = [0.3, 0.9, -0.2]

    def softmax(row: list[float]) -> list[float]:
        powers = [math.exp(value) for value in row]
        return [power / sum(powers) for power in powers]

    means = [sum(softmax(row)[c] for row in free) / 3 for c in range(3)]
    p_cf = [mean / sum(means) for mean in means]
    weighted = [p / cf for p, cf in zip(softmax(text), p_cf, strict=True)]
    expected = [value / sum(weighted) for value in weighted]
    got = torch.softmax(torch.tensor(text) - contextual_prior(torch.tensor(free)), 0)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(batch_prior(torch.tensor(free)), contextual_prior(torch.tensor(free)))


def test_probabilities_are_averaged_and_not_scores() -> None:
    free = torch.tensor([[8.0, 0.0], [0.0, 0.0]])
    mean_of_scores = free.mean(0) - free.mean()
    assert float((contextual_prior(free) - mean_of_scores).abs().max()) > 1


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_domain_premise_gives_pmi(kind: str) -> None:
    """Holtzman et al. 2021: argmax P(y | x) / P(y | domain), from the model's own full-vocabulary probabilities."""
    words = {"a": ["great"], "b": ["sports news"]}
    model = PromptModel.build(backbone=tiny_backbone(kind), template="{text} It was{mask}", method="hard", labels=words)
    text, premise = [example("The food is good", None)], [example("", None)]
    log_p, log_domain = model.scores(model.prepare(text)), model.scores(model.prepare(premise))
    ratio = torch.exp(log_p.double()) / torch.exp(log_domain.double())
    model.take_out_prior(model.prepare(premise), "domain")
    got = torch.softmax(model.scores(model.prepare(text)).double(), 1)
    torch.testing.assert_close(got, ratio / ratio.sum(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(domain_prior(log_domain + 7), domain_prior(log_domain), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [0.2, 1.0, 6.0])
def test_temperature_is_the_best_of_a_grid(factor: float) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(300, 4, generator=generator) * 2
    labels = torch.multinomial(torch.softmax(scores, 1), 1, generator=generator)[:, 0]  # calibrated at T = 1
    found = best_temperature(scores * factor, labels)
    losses = {t: torch.nn.functional.cross_entropy(scores * factor / t, labels) for t in torch.logspace(-2, 2, 400).tolist()}
    grid = min(losses, key=losses.__getitem__)
    assert found == pytest.approx(grid, rel=0.02) and found == pytest.approx(factor, rel=0.25)


def test_temperature_of_rows_that_are_all_right_stays_within_its_range() -> None:
    assert best_temperature(torch.tensor([[3.0, 0.0]]), [0]) == pytest.approx(math.exp(-4), rel=1e-3)


def test_abstention_by_hand() -> None:
    figures = abstention([0.9, 0.55, 0.7, 0.6], [True, True, False, True], below=0.6)
    assert (figures.coverage, figures.accuracy) == (0.75, pytest.approx(2 / 3))
    assert abstention([0.5], [True], below=0.6).accuracy is None


def test_a_task_that_may_abstain_says_so_below_its_threshold() -> None:
    model = PromptModel.build(
        backbone=tiny_backbone("gpt2"), template="{text} It was{mask}", labels={"a": "great", "b": "bad"}, method="hard"
    )
    plain = model.predict(EXAMPLES)
    highest = sorted(max(one.probabilities.values()) for one in plain)
    model.abstain_below, model.out_of_scope = (highest[1] + highest[2]) / 2, "other"
    said = model.predict(EXAMPLES)
    assert sum(one.label == "other" for one in said) == 2
    assert [one.probabilities for one in said] == [one.probabilities for one in plain]
