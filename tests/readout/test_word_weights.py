"""Learned weights of label words: scores against plain models, where they start, what learns, what is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.model import PromptModel
from ptune.readout import WordWeights
from tiny import EXAMPLES, tiny_backbone, tiny_model

LABELS = {"yes": {"good": 3, "great": 1}, "no": ["bad", "not", "day"]}
ROWS = [{"text": f"the film was {word} {n}", "label": word} for n in range(4) for word in ("good", "bad")]
WORDS: dict[str, Any] = {
    "train": ROWS,
    "template": "{text}{soft:2} It was{mask}",
    "labels": {"good": ["good", "great"], "bad": ["bad", "not", "day"]},
    "head": "weights",
    "steps": 8,
}


def built(kind: str, **settings: Any) -> PromptModel:
    words = {"backbone": tiny_backbone(kind), "template": "{text} It was{mask}", "labels": LABELS, "method": "hard"}
    return PromptModel.build(**{**words, "pool": "mask", "form": "weights", **settings})


def head_of(model: Any) -> WordWeights:
    assert isinstance(model.head, WordWeights)
    return model.head


@pytest.mark.parametrize("kind", ["bert", "gpt2", "gemma3"])
def test_scores_are_weighted_means_of_the_plain_models_log_probabilities(kind: str) -> None:
    """Up to a constant of each text, of which softmax takes no notice; weights drawn, one sequence at a time."""
    model, plain, tokens = built(kind), tiny_model(kind), tiny_backbone(kind).tokens
    numbers = torch.randn(5, generator=torch.Generator().manual_seed(3))
    head_of(model).numbers.data.copy_(numbers)
    shares = [math.exp(number) for number in numbers.tolist()]
    ids = [tokens.word_ids(f" {word}", "s")[0] for word in ("good", "great", "bad", "not", "day")]
    rows = model.prepare(EXAMPLES)
    for scores, row in zip(model.scores(rows), rows.encoded, strict=True):
        assert row.slot is not None
        sequence = [*row.ids[: row.slot], *tokens.slot_ids, *row.ids[row.slot :]]
        place = row.slot if tokens.slot_ids else row.slot - 1
        with torch.no_grad():
            log_p = torch.log_softmax(plain(input_ids=torch.tensor([sequence])).logits[0, place], -1).tolist()
        expected = [
            sum(shares[n] * log_p[ids[n]] for n in mine) / sum(shares[n] for n in mine) for mine in (range(2), range(2, 5))
        ]
        gap = scores[0].item() - scores[1].item()
        assert gap == pytest.approx(expected[0] - expected[1], abs=1e-4)


@pytest.mark.parametrize("kind", ["roberta", "llama"])
def test_training_starts_at_the_label_words_with_their_weights(kind: str) -> None:
    ours, theirs = (
        torch.softmax(one.scores(one.prepare(EXAMPLES)), 1) for one in (built(kind), built(kind, pool=None, form=None))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_gradients_in_double_precision() -> None:
    model = built("bert", backbone=tiny_backbone("bert", dtype=torch.float64))
    head = head_of(model)
    batch = model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))

    def loss(numbers: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(model, {"head.numbers": numbers}, (batch,)).loss
        return found

    assert torch.autograd.gradcheck(loss, head.numbers.detach().clone().requires_grad_())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_weights_learn_and_are_kept_and_may_stand_in_a_recipe(kind: str, tmp_path: Path) -> None:
    words = {**WORDS, "method": "hard", "template": "{text} It was{mask}", "steps": 30, "backbone": tiny_backbone(kind)}
    task = ptune.fit(**words, test=ROWS)
    assert task.facts["trained_parameters"] == 5 and "zero_shot" in task.facts
    assert task.facts["training"]["last_loss"] < task.facts["training"]["first_loss"]
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    examples = task.examples(["a good day", ""])
    assert torch.equal(loaded.scores(examples), task.scores(examples))
    weights = task.facts["word_weights"]
    assert sum(weights["bad"].values()) == pytest.approx(1, abs=1e-3) and set(weights["good"]) == {"good", "great"}
    plain = ptune.fit(**{**words, "labels": weights, "head": None, "steps": None, "prior": "keep"})
    gap = plain.scores(examples) - (task.scores(examples) + task.model.prior)  # type: ignore[operator]
    torch.testing.assert_close(gap[:, 0], gap[:, 1], rtol=0, atol=5e-3)  # but for the figures' rounding


@pytest.mark.parametrize(
    ("kind", "keys", "fault"),
    [
        (
            "bert",
            {"labels": {"good": ["good", "terrible"], "bad": ["bad"]}},
            r"reads words of one token, and 'terrible' has \d",
        ),
        ("bert", {"labels": {"good": ["good"], "bad": ["bad"]}}, "no label has several words"),
        ("bert", {"aggregate": "logsumexp"}, "aggregate: logsumexp means nothing"),
        ("t5", {}, "tiny-t5 is an encoder-decoder"),
        ("bert", {"pool": "cls"}, "leave out pool"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(kind: str, keys: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(PtuneError, match=fault):
        ptune.fit(**{**WORDS, **keys}, backbone=tiny_backbone(kind), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
