"""Labels as learned vectors: where they start, what they score (against plain models), what learns, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import ptune
from ptune.bundle import export_peft
from ptune.errors import BundleError, PtuneError
from ptune.model import PromptModel
from ptune.readout import LabelVectors
from ptune.train import RunFolder, TrainEvent
from tiny import DECODERS, ENCODERS, EXAMPLES, build_backbone, tiny_backbone, tiny_model

ONE_TOKEN = {"yes": ["good"], "no": ["bad"]}
ROWS = [{"text": f"the film was {word} {n}", "label": word} for n in range(4) for word in ("good", "bad")]
WORDS: dict[str, Any] = {
    "train": ROWS,
    "template": "{text}{soft:2} It was{mask}",
    "labels": {"good": ["good"], "bad": ["bad"]},
    "head": "vectors",
    "steps": 8,
    "batch_size": 4,
}


def built(kind: str, labels: Any = ONE_TOKEN, template: str = "{text} It was{mask}", **settings: Any) -> PromptModel:
    settings = {"pool": "mask", "form": "vectors", "method": "hard", **settings}
    return PromptModel.build(backbone=tiny_backbone(kind), template=template, labels=labels, **settings)


def vectors_of(model: PromptModel) -> LabelVectors:
    assert isinstance(model.head, LabelVectors)
    return model.head


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS, "electra", "distilbert", "albert", "modernbert"])
def test_training_starts_at_the_label_words(kind: str) -> None:
    model = built(kind)
    words = built(kind, pool=None, form=None)
    ours, theirs = (torch.softmax(one.scores(one.prepare(EXAMPLES)), 1) for one in (model, words))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "gemma3", "electra"])
def test_scores_are_the_plain_models_with_the_vectors_as_rows_of_its_output_layer(kind: str) -> None:
    """The vectors take the place of two tokens that occur in no text, and a plain model is run on one sequence at a time."""
    model, plain = built(kind), tiny_model(kind)
    head = vectors_of(model)
    drawn = torch.randn(head.vectors.shape, generator=torch.Generator().manual_seed(7))
    head.vectors.data.copy_(drawn)
    rows = model.prepare(EXAMPLES)
    tokens = model.backbone.tokens
    unused = [token for token in range(10, 60) if all(token not in row.ids for row in rows.encoded)][:2]
    output = plain.get_output_embeddings()
    with torch.no_grad():
        output.weight[unused] = drawn
        if output.bias is not None:
            output.bias[unused] = head.bias
        for scores, row in zip(model.scores(rows), rows.encoded, strict=True):
            assert row.slot is not None
            ids = [*row.ids[: row.slot], *tokens.slot_ids, *row.ids[row.slot :]]
            place = row.slot if tokens.slot_ids else row.slot - 1
            expected = plain(input_ids=torch.tensor([ids])).logits[0, place, unused]
            torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_a_vector_is_the_mean_of_its_words_by_weight_and_of_a_words_tokens() -> None:
    labels = {"yes": {"good": 3, "terrible": 1}, "no": ["bad"]}
    head = vectors_of(built("bert", labels))
    tokens = tiny_backbone("bert").tokens
    weight, bias = (getattr(tiny_model("bert").get_output_embeddings(), name) for name in ("weight", "bias"))
    several = list(tokens.word_ids(" terrible", "s"))
    good, bad = (tokens.word_ids(f" {word}", "s")[0] for word in ("good", "bad"))
    assert len(several) > 1
    expected = torch.stack([0.75 * weight[good] + 0.25 * weight[several].mean(0), weight[bad]])
    torch.testing.assert_close(head.vectors.data, expected, rtol=0, atol=1e-6)
    expected_bias = torch.stack([0.75 * bias[good] + 0.25 * bias[several].mean(), bias[bad]])
    torch.testing.assert_close(head.bias, expected_bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "gemma3"])
def test_gradients_in_double_precision(kind: str) -> None:
    backbone = tiny_backbone(kind, dtype=torch.float64)
    model = PromptModel.build(
        backbone=backbone, template="{text} It was{mask}", labels=ONE_TOKEN, method="hard", pool="mask", form="vectors"
    )
    head = vectors_of(model)
    batch = model.batch(model.prepare(EXAMPLES[:2]), [0, 1])

    def loss(vectors: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(model, {"head.vectors": vectors}, (batch,)).loss
        return found

    assert torch.autograd.gradcheck(loss, head.vectors.detach().clone().requires_grad_())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_vectors_and_prompt_learn_together_and_the_model_does_not(kind: str, tmp_path: Path) -> None:
    backbone = build_backbone(kind)
    before = [parameter.clone() for parameter in backbone.model.parameters()]
    task = ptune.fit(**{**WORDS, "steps": 40}, backbone=backbone, test=ROWS)
    assert all(torch.equal(one, other) for one, other in zip(before, backbone.model.parameters(), strict=True))
    assert task.facts["trained_parameters"] == (2 + 2) * backbone.spec.embedding_size
    assert task.facts["training"]["last_loss"] < 0.8 * task.facts["training"]["first_loss"]
    assert {"zero_shot", "prior_corrected", "tuned"} <= task.facts.keys()
    assert not torch.equal(vectors_of(task.model).vectors, vectors_of(built(kind)).vectors)
    folder = task.save(tmp_path / "bundle")
    loaded = ptune.load(folder, backbone=backbone)
    assert torch.equal(loaded.scores(task.examples(["a good day", ""])), task.scores(task.examples(["a good day", ""])))
    assert loaded.evaluate(ROWS).accuracy == task.evaluate(ROWS).accuracy
    tensors = load_file(folder / "prompt.safetensors")
    assert tensors["head.vectors"].shape == (2, backbone.spec.embedding_size)
    assert sum(tensor.numel() for tensor in tensors.values()) < 6 * backbone.spec.embedding_size


def test_alone_on_the_hard_template_the_first_loss_is_that_of_the_label_words() -> None:
    words = {**WORDS, "template": "{text} It was{mask}", "method": "hard", "steps": 30, "backbone": tiny_backbone("gpt2")}
    task = ptune.fit(**words)
    plain = ptune.fit(**{**words, "head": None, "steps": None})
    assert task.facts["trained_parameters"] == 2 * tiny_backbone("gpt2").spec.embedding_size
    model = plain.model
    torch.testing.assert_close(task.model.prior, model.prior, rtol=0, atol=1e-5)  # type: ignore[arg-type]
    expected = model.mean_loss(model.prepare(ptune.read_examples(ROWS, label="label")))
    assert task.facts["training"]["first_loss"] == pytest.approx(expected, abs=1e-5)
    assert task.facts["training"]["last_loss"] < expected


def test_kept_contexts_and_batches_that_mix_tasks_change_nothing(tmp_path: Path) -> None:
    backbone = tiny_backbone("gpt2")
    task = ptune.fit(**WORDS, backbone=backbone, keep_context=True)
    other = ptune.fit(**{**WORDS, "head": None}, backbone=backbone)
    model = task.model
    examples = ptune.read_examples(ROWS, label="label")
    kept = model.prepare(examples, keep_context=True)
    torch.testing.assert_close(model.scores(kept), model.scores(model.prepare(examples)), rtol=1e-5, atol=1e-5)
    texts = ["a good day", "It was bad"]
    mixed = ptune.predict_mixed([(one, text) for text in texts for one in (task, other)])
    for at, text in enumerate(texts):
        alone = task.predict([text])[0]
        assert mixed[2 * at].probabilities == pytest.approx(alone.probabilities, abs=1e-5)


class Stop(Exception):
    """Ends a run in the middle."""


def test_an_interrupted_run_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    def stop(event: TrainEvent) -> None:
        if event.step == 5:
            raise Stop

    words = {**WORDS, "backbone": tiny_backbone("bert"), "save_every": 2}
    whole = ptune.fit(**words, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ptune.fit(**words, out=tmp_path / "broken", listeners=[stop])
    again = ptune.fit(**words, out=tmp_path / "broken", resume=True)
    one, other = (
        [event["loss"] for event in RunFolder(tmp_path / name).events() if event["event"] == "step"]
        for name in ("whole", "broken")
    )
    assert one == other and len(one) == 8
    assert torch.equal(vectors_of(whole.model).vectors, vectors_of(again.model).vectors)


@pytest.mark.parametrize(
    ("kind", "keys", "fault"),
    [
        ("gpt2", {"labels": ["good", "bad"]}, "labels is list, not label words"),
        ("gpt2", {"pool": "cls"}, "head: vectors reads the answer slot; leave out pool"),
        ("gpt2", {"tune": "lm-head"}, "leave out tune: lm-head"),
        ("gpt2", {"aggregate": "max"}, "aggregate: max means nothing"),
        ("gpt2", {"terminator": "."}, r"terminator: \. means nothing"),
        ("gpt2", {"candidates": 2}, "candidates are for label words on a frozen model"),
        ("gpt2", {"folds": 2}, "folds and pull are for label words"),
        ("gpt2", {"template": "{text}{soft:2}"}, r"add \{mask\} to the template"),
        ("gpt2", {"template": "{text}{soft:2}{mask} ."}, r"what stands behind it is never seen \(write \{mask\} last\)"),
        ("t5", {}, "tiny-t5 is an encoder-decoder"),
        ("bert", {"task": "regression", "labels": {1: "bad", 2: "good"}}, "head: vectors is not for task: regression"),
        ("bert", {"task": "multi-label", "labels": ["good", "bad"]}, "head: vectors is not for task: multi-label"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(kind: str, keys: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(PtuneError, match=fault):
        ptune.fit(**{**WORDS, **keys}, backbone=tiny_backbone(kind), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_peft_cannot_hold_them(tmp_path: Path) -> None:
    task = ptune.fit(**WORDS, backbone=tiny_backbone("gpt2"))
    with pytest.raises(BundleError, match=r"the head \(LabelVectors\), which is not one of transformers' own"):
        export_peft(task.model, tmp_path / "adapter")
