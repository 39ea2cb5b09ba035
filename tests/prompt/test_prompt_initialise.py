"""Where learned tokens start, for every choice; and what a recipe may say about a method."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ptune.backbone import Backbone
from ptune.errors import PromptError, VerbalizerError
from ptune.inputs import BackboneSpec
from ptune.model import PromptModel
from ptune.prompt import InitSources, PromptSetup, build_prompt, embedding_rate, initial_rows, method_names, parse_method
from ptune.prompt.p_tuning import PTuningConfig
from ptune.prompt.rate import EMBEDDING_SHARE, encoder_scale
from tiny import KINDS, WIDTH, tiny_backbone

LABELS = {"yes": ["great", "terrible"], "no": "bad"}


def start(kind: str, template: str = "{text}{soft:4} It was{mask}", **settings: Any) -> Tensor:
    init_rows = settings.pop("init_rows", None)
    seed = settings.pop("seed", 0)
    labels = settings.pop("labels", LABELS)
    pool = settings.pop("pool", None)
    model = PromptModel.build(
        backbone=tiny_backbone(kind),
        template=template,
        labels=labels,
        method={"name": "p-tuning", **settings},
        init_rows=init_rows,
        seed=seed,
        pool=pool,
    )
    return model.prompt().rows.detach()


def embedded(kind: str, *ids: int) -> Tensor:
    return tiny_backbone(kind).embed(torch.tensor(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_random_rows_have_the_size_of_embeddings(kind: str) -> None:
    rows = start(kind, "{text}{soft:200}{mask}", init="random")
    rms = tiny_backbone(kind).spec.embedding_rms
    assert float(rows.square().mean().sqrt()) == pytest.approx(rms, rel=0.03)
    assert abs(float(rows.mean())) < 0.05 * rms


@pytest.mark.parametrize("kind", KINDS)
def test_vocabulary_rows_are_different_frequent_words(kind: str) -> None:
    rows = start(kind)
    assert torch.equal(rows, start(kind, init="vocabulary")), "the default"
    table = embedded(kind, *tiny_backbone(kind).tokens.frequent_words())
    matches = [torch.nonzero((table == row).all(1))[:, 0].tolist() for row in rows]
    assert all(len(match) == 1 for match in matches) and len({match[0] for match in matches}) == 4
    assert not torch.equal(rows, start(kind, seed=1))


def test_more_rows_than_frequent_words_repeat_them() -> None:
    backbone = tiny_backbone("bert")
    model = PromptModel.build(
        backbone=backbone,
        template="{text}{mask}",
        labels=LABELS,
        method={"name": "prompt-tuning", "num_tokens": 300},
        max_length=64,
    )
    few = initial_rows(
        "vocabulary", model.layout, InitSources(frequent_ids=[7, 8, 9]), backbone.embed, rms=backbone.spec.embedding_rms, seed=0
    )
    assert few.shape == (300, WIDTH) and len(few.unique(dim=0)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_cycled_over_the_rows(kind: str) -> None:
    ids = tiny_backbone(kind).tokens.ids("good film")
    expected = embedded(kind, *[ids[i % len(ids)] for i in range(4)])
    assert torch.equal(start(kind, init_text="good film"), expected)
    assert torch.equal(start(kind, init="text", init_text="good film"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_start_from_the_mean_of_their_words(kind: str) -> None:
    rows = start(kind, init="labels")
    model = PromptModel.build(backbone=tiny_backbone(kind), template="{text}{soft:4} It was{mask}", labels=LABELS)
    great, terrible, bad = model.answers.ids
    torch.testing.assert_close(rows[0], embedded(kind, *great, *terrible).mean(0))
    torch.testing.assert_close(rows[1], embedded(kind, *bad).mean(0))
    table = embedded(kind, *tiny_backbone(kind).tokens.frequent_words())
    assert all((table == row).all(1).any() for row in rows[2:])
    one = start(kind, "{text}{soft:1} It was{mask}", init="labels")
    torch.testing.assert_close(one[0], rows[0])
    with pytest.raises(VerbalizerError, match="init: labels needs label words"):
        start(kind, init="labels", labels=["yes", "no"], pool="last")


def test_another_tasks_rows_are_taken_as_they_are() -> None:
    rows = torch.randn(4, WIDTH)
    assert torch.equal(start("bert", init_bundle="there", init_rows=rows), rows)
    with pytest.raises(PromptError, match=r"the bundle's prompt has 3 rows, this one 4 \(use the same number\)"):
        start("bert", init_bundle="there", init_rows=rows[:3])
    with pytest.raises(PromptError, match="has 0 rows"):
        start("bert", init="bundle", init_bundle="there")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", [{}, {"init": "random"}, {"init_text": "bad"}, {"init": "labels"}], ids=str)
def test_words_in_the_template_win(kind: str, choice: dict[str, str]) -> None:
    words = tiny_backbone(kind).tokens.ids("good film")
    rows = start(kind, '{soft:2}{text}{soft:"good film"} It was{mask}', **choice)
    assert torch.equal(rows[2:], embedded(kind, *words))
    without = start(kind, f"{{soft:2}}{{text}}{{soft:{len(words)}}} It was{{mask}}", **choice)
    assert torch.equal(rows[:2], without[:2])


def test_words_in_the_template_do_not_win_over_a_trained_prompt() -> None:
    rows = torch.randn(2, WIDTH)
    assert torch.equal(start("bert", '{text}{soft:"good film"}{mask}', init_bundle="there", init_rows=rows), rows)


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_encoder_starts_from_the_same_rows(kind: str, encoder: str) -> None:
    assert torch.equal(start(kind, init_text="good film", encoder=encoder), start(kind, init_text="good film"))


@pytest.mark.parametrize("size", [16, 33])
@pytest.mark.parametrize(("encoder", "has_lstm"), [("mlp", False), ("lstm", True)])
def test_an_encoder_is_what_its_formula_says(encoder: str, has_lstm: bool, size: int) -> None:
    """start + scale * W2 relu(W1 [BiLSTM](z)), from the parts; an odd width too."""
    first = torch.randn(5, size)
    spec = BackboneSpec("x", "encoder", "bert", size, size, 2, 100, 64, 0.5, True)
    module = build_prompt(PTuningConfig(encoder=encoder), PromptSetup(spec, layout_of(5), first, seed=3))
    torch.nn.init.normal_(module.mlp[2].weight)
    hidden = module.inputs
    if has_lstm:
        hidden = module.lstm(hidden[None])[0][0]
        assert hidden.shape == (5, size // 2 * 2)
    w1, w2 = module.mlp[0], module.mlp[2]
    expected = first + encoder_scale(spec) * (torch.relu(hidden @ w1.weight.T + w1.bias) @ w2.weight.T + w2.bias)
    torch.testing.assert_close(module().rows, expected)


def layout_of(count: int) -> Any:
    from ptune.inputs import SoftLayout

    return SoftLayout({0: tuple(range(count))}, (None,) * count)


def test_learning_rates_are_in_units_of_the_embeddings() -> None:
    small, large = tiny_backbone("bert"), tiny_backbone("gemma3")

    def rate(backbone: Backbone, **settings: Any) -> float:
        model = PromptModel.build(
            backbone=backbone, template="{text}{soft:2}{mask}", labels=LABELS, method={"name": "p-tuning", **settings}
        )
        return model.parameter_groups()[0]["lr"]

    assert rate(small) == embedding_rate(small.spec)
    for backbone in (small, large):
        share = EMBEDDING_SHARE[backbone.spec.kind]
        assert rate(backbone) == pytest.approx(share * backbone.spec.embedding_rms)
    assert rate(large, encoder="lstm") == rate(small, encoder="lstm")


def test_what_a_recipe_may_say() -> None:
    assert set(method_names()) >= {"hard", "p-tuning", "prompt-tuning"}
    assert parse_method({"name": "p-tuning", "encoder": "linear"}).encoder == "embedding"
    assert parse_method("hard").name == "hard"
    with pytest.raises(PromptError, match=r"no prompt method 'p-tunin' \(did you mean p-tuning\?\)"):
        parse_method("p-tunin")
    with pytest.raises(PromptError, match=r"method\.num_tokens: .*got 0.*prompt-tuning has name, "):
        parse_method({"name": "prompt-tuning", "num_tokens": 0})
    with pytest.raises(PromptError, match=r"method\.tokens: .*\(got 3\)"):
        parse_method({"name": "p-tuning", "tokens": 3})
    with pytest.raises(PromptError, match=r"method\.num_token: there is no such setting; did you mean num_tokens\? \(got 4\)"):
        parse_method({"name": "p-tuning-v2", "num_token": 4})
    for missing in ("text", "bundle"):
        with pytest.raises(PromptError, match=f"init: {missing} needs init_{missing}"):
            parse_method({"name": "p-tuning", "init": missing})
    with pytest.raises(ValidationError):
        parse_method("hard").name = "other"


def test_methods_and_templates_that_do_not_fit() -> None:
    def build(template: str, method: str) -> None:
        PromptModel.build(backbone=tiny_backbone("bert"), template=template, labels=LABELS, method=method)

    with pytest.raises(PromptError, match=r"no learned tokens, which p-tuning needs .*soft:8"):
        build("{text} It was{mask}", "p-tuning")
    for method in ("hard", "prompt-tuning"):
        with pytest.raises(PromptError, match=rf"has learned tokens \({{soft}}\), which {method} does not take"):
            build("{text}{soft:2} It was{mask}", method)
    with pytest.raises(PromptError, match="init_text has no tokens"):
        PromptModel.build(
            backbone=tiny_backbone("bert"),
            template="{text}{soft:2}{mask}",
            labels=LABELS,
            method={"name": "p-tuning", "init_text": "\u200b"},
        )
