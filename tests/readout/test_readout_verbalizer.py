"""Label words that cannot be told apart, and how word scores become label scores."""

import math
from typing import Any

import pytest
import torch

from ptune.errors import VerbalizerError
from ptune.inputs import AnswerWords
from ptune.model import PromptModel
from ptune.readout import Verbalizer
from ptune.template import Template
from tiny import EXAMPLES, tiny_backbone

TEMPLATE = Template.parse("{text} It was{mask}")


def answers(kind: str, labels: dict[str, Any], template: Template = TEMPLATE, **settings: Any) -> AnswerWords:
    return Verbalizer.parse(labels, **settings).answers(template, tiny_backbone(kind).tokens)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": "great"}, "1 label given, at least two"),
        ({}, "0 label"),
        ({"a": "great", "b": []}, "label 'b' has no words"),
        ({"a": "great", "b": " "}, r"' ' is no label word \(write words in quotes"),
        ({"a": "great", "b": [True]}, r"True is no label word"),
        ({"a": "great", "b": "great"}, r"labels\.b: 'great' speaks for both 'a' and 'b'"),
        ({"a": ["great", "good", " great"], "b": "bad"}, "speaks for both 'a' and 'a'"),
        ({"a": {"great": 1.0, "good": 0.0}, "b": "bad"}, r"labels\.a: weights of label words must be positive"),
    ],
)
def test_label_words_that_say_nothing(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(VerbalizerError, match=message):
        Verbalizer.parse(labels)


def test_words_with_the_same_tokens() -> None:
    """BERT's tokenizer lowers case."""
    with pytest.raises(VerbalizerError, match=r"' great' and ' Great' are the same tokens \['great'\] \(choose other words\)"):
        answers("bert", {"a": "great", "b": "Great"})
    answers("gpt2", {"a": "great", "b": "Great"})


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma3", "t5", "bart"])
def test_a_word_that_begins_another(kind: str) -> None:
    """Found wherever the two stand in the list."""
    with pytest.raises(VerbalizerError, match=r"' ?good' is the beginning of ' ?good film' .*terminator"):
        answers(kind, {"a": ["good film", "great"], "b": ["bad", "good"]})
    assert answers(kind, {"a": ["good film", "great"], "b": ["bad", "good"]}, terminator=" .").max_tokens > 2


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_masked_models_take_words_of_any_length_together(kind: str) -> None:
    """The number of masks tells a word from its beginning."""
    assert len(answers(kind, {"a": "good film", "b": "good"})) == 2


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_word_that_the_tokenizer_does_not_know(kind: str) -> None:
    with pytest.raises(VerbalizerError, match=r"labels\.b: the model's tokenizer does not know the word '🙂'"):
        answers(kind, {"a": "great", "b": "🙂"})


def test_words_weights_and_labels_in_order() -> None:
    verbalizer = Verbalizer.parse({"b": {"great": 3, "good": 1}, "a": "bad", 1: ("film", "story")})
    assert verbalizer.labels == ("b", "a", "1")
    assert verbalizer.words == {"b": ("great", "good"), "a": ("bad",), "1": ("film", "story")}
    assert verbalizer.weights == {"b": (0.75, 0.25), "a": (1.0,), "1": (0.5, 0.5)}
    found = verbalizer.answers(TEMPLATE, tiny_backbone("gpt2").tokens)
    assert found.texts == (" great", " good", " bad", " film", " story") and found.label == (0, 0, 1, 2, 2)


SCORES = torch.tensor([[-1.0, -3.0, -2.0], [-4.0, -1.0, -6.0]])


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("mean", [[-2.0, -2.0], [-2.5, -6.0]]),
        ("max", [[-1.0, -2.0], [-1.0, -6.0]]),
        (
            "logsumexp",
            [
                [math.log(0.5 * math.exp(-1) + 0.5 * math.exp(-3)), -2.0],
                [math.log(0.5 * math.exp(-4) + 0.5 * math.exp(-1)), -6.0],
            ],
        ),
    ],
)
def test_several_words_of_a_label_are_joined(aggregate: Any, expected: list[list[float]]) -> None:
    verbalizer = Verbalizer.parse({"a": ["great", "good"], "b": "bad"}, aggregate=aggregate)
    found = verbalizer.answers(TEMPLATE, tiny_backbone("gpt2").tokens)
    torch.testing.assert_close(verbalizer.label_scores(SCORES, found), torch.tensor(expected))
    shifted = verbalizer.label_scores(SCORES + 5.0, found) - 5.0
    torch.testing.assert_close(shifted, torch.tensor(expected), msg="a constant per row passes through")


def test_weights_count_in_the_mean() -> None:
    verbalizer = Verbalizer.parse({"a": {"great": 3, "good": 1}, "b": "bad"})
    found = verbalizer.answers(TEMPLATE, tiny_backbone("gpt2").tokens)
    torch.testing.assert_close(verbalizer.label_scores(SCORES, found)[:, 0], torch.tensor([-1.5, -3.25]))


def test_words_of_unequal_length_are_corrected() -> None:
    tokens = tiny_backbone("gpt2").tokens
    scores = torch.tensor([[-2.0, -6.0]])
    for length, rule in (("auto", "mean"), ("sum", "sum"), ("mean", "mean")):
        verbalizer = Verbalizer.parse({"a": "great", "b": "terrible"}, length=length)
        found = verbalizer.answers(TEMPLATE, tokens)
        assert verbalizer.length_rule(found) == rule
        expected = scores / torch.tensor([1, len(found.ids[1])]) if rule == "mean" else scores
        torch.testing.assert_close(verbalizer.label_scores(scores, found), expected)
    equal = Verbalizer.parse({"a": "great", "b": "bad"})
    assert equal.length_rule(equal.answers(TEMPLATE, tokens)) == "sum"


@pytest.mark.parametrize("aggregate", ["mean", "max", "logsumexp"])
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_gradients_flow_through_every_rule(kind: str, aggregate: Any) -> None:
    labels = Verbalizer.parse({"yes": ["great", "terrible"], "no": ["bad", "不喜欢"]}, aggregate=aggregate)
    model = PromptModel.build(backbone=tiny_backbone(kind), template="{text}{soft:2} It was{mask}", labels=labels)
    outcome = model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES))))
    outcome.loss.backward()
    assert torch.isfinite(model.prompt.rows.grad).all() and model.prompt.rows.grad.abs().max() > 0
    torch.testing.assert_close(outcome.probabilities.sum(1), torch.ones(len(EXAMPLES)))


def test_gradients_flow_through_masks_filled_one_by_one() -> None:
    model = PromptModel.build(
        backbone=tiny_backbone("bert"),
        template="{text}{soft:2} It was{mask}",
        labels={"yes": "great", "no": "不喜欢"},
        fill="pet",
    )
    model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))).loss.backward()
    assert torch.isfinite(model.prompt.rows.grad).all() and model.prompt.rows.grad.abs().max() > 0
