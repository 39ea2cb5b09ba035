"""int8 layers: near the fp32 scores, the same bundle, predictions only."""

import pytest
import torch

import ptune
from ptune.backbone.quantised import quantise
from ptune.errors import PtuneError
from ptune.task import Task, load
from tiny import EXAMPLES, KINDS, build_backbone, tiny_backbone

WORDS = {"yes": "great", "no": ["bad", "terrible"]}
TEXTS = [example.fields["text"] for example in EXAMPLES]


def quantised(kind: str) -> ptune.Backbone:
    backbone = build_backbone(kind)
    own = backbone.fingerprint
    assert quantise(backbone) is backbone and backbone.is_quantised and backbone.fingerprint == own
    return backbone


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gpt2"])
def test_int8_scores_are_near_the_exact_ones_and_not_the_same(kind: str) -> None:
    template = "{text}{soft:3} It was{mask}"
    exact = ptune.PromptModel.build(backbone=tiny_backbone(kind), template=template, labels=WORDS)
    rounded = ptune.PromptModel.build(backbone=quantised(kind), template=template, labels=WORDS)
    one, other = (model.scores(model.prepare(EXAMPLES)) for model in (exact, rounded))
    assert not torch.equal(one, other)
    spread = (one - one.mean()).abs().max()
    assert (one - other).abs().max() < 0.5 * spread


def test_a_bundle_fits_both_and_prediction_by_name_takes_int8(tmp_path, tiny_folder) -> None:  # type: ignore[no-untyped-def]
    folder = tiny_folder("llama")
    backbone = ptune.load_backbone(folder)
    model = ptune.PromptModel.build(backbone=backbone, template="{text}{soft:2} It was{mask}", labels=WORDS)
    Task(model.requires_grad_(False)).save(tmp_path / "task")
    exact, rounded = load(tmp_path / "task", backbone=folder), load(tmp_path / "task", backbone=folder, dtype="int8")
    assert rounded.model.backbone.is_quantised and not exact.model.backbone.is_quantised
    for one, other in zip(exact.predict(TEXTS), rounded.predict(TEXTS), strict=True):
        assert sum(other.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.probabilities.keys() == other.probabilities.keys()


def test_nothing_is_learned_on_int8() -> None:
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, ["yes", "no", "yes", "no", "no"], strict=True)]
    with pytest.raises(PtuneError, match="int8 weights pass no gradients"):
        ptune.fit(train=rows, template="{text}{soft:2} It was{mask}", labels=WORDS, backbone=quantised("llama"), steps=2)


def test_a_model_whose_layers_have_no_linear_maps_is_refused() -> None:
    """GPT-2's maps are convolutions of width one."""
    with pytest.raises(PtuneError, match="no linear maps"):
        quantise(build_backbone("gpt2"))
