"""Labels as learned points: losses against the paper's sums written out, scores by hand, what learns, what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ptune
from ptune.bundle import export_peft
from ptune.errors import BundleError, PtuneError
from ptune.model import PromptModel, target_rows
from ptune.readout import Prototypes
from ptune.readout.prototypes import TAU, instance_loss
from ptune.recipe import Recipe
from tiny import EXAMPLES, build_backbone, tiny_backbone, tiny_model

ROWS = [{"text": f"the film was {word} {n}", "label": word} for n in range(4) for word in ("good", "bad")]
WORDS: dict[str, Any] = {
    "train": ROWS,
    "template": "{text}{soft:2} It was{mask}",
    "labels": ["good", "bad"],
    "head": "prototypes",
    "steps": 8,
}


def built(kind: str, **settings: Any) -> PromptModel:
    words = {"backbone": tiny_backbone(kind), "template": "{text} It was{mask}", "labels": ["yes", "no"], "method": "hard"}
    return PromptModel.build(**{**words, "pool": "mask", "form": "prototypes", **settings})


def head_of(model: Any) -> Prototypes:
    assert isinstance(model.head, Prototypes)
    return model.head


def by_hand(points: np.ndarray, labels: list[int]) -> float:
    """The paper's sum over pairs of one label, each against all texts of other labels, one exponential at a time."""
    losses = []
    for i, one in enumerate(labels):
        against = sum(math.exp(points[i] @ points[k] / TAU) for k, other in enumerate(labels) if other != one)
        for j, other in enumerate(labels):
            if j != i and other == one and against:
                near = math.exp(points[i] @ points[j] / TAU)
                losses.append(-math.log(near / (near + against)))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1], [0, 1, 2, 0, 1, 2, 2], [0, 0, 1], [0, 1, 2], [0, 0, 0], [3]], ids=lambda labels: str(labels)
)
def test_the_loss_between_texts_is_the_papers_sum(labels: list[int]) -> None:
    drawn = np.random.default_rng(len(labels)).normal(size=(len(labels), 5))
    points = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    given = torch.tensor(points, requires_grad=True)
    loss = instance_loss(given, torch.tensor(labels))
    assert loss.item() == pytest.approx(by_hand(points, labels), abs=1e-10)
    loss.backward()
    assert given.grad is not None and bool(torch.isfinite(given.grad).all())


@pytest.mark.parametrize("kind", ["bert", "gpt2", "gemma3"])
def test_scores_are_cosines_of_the_plain_models_state(kind: str) -> None:
    model, plain = built(kind), tiny_model(kind)
    head, tokens, rows = head_of(model), tiny_backbone(kind).tokens, model.prepare(EXAMPLES)
    projection, points = head.projection.detach().double().numpy(), head.points.detach().double().numpy()
    for scores, row in zip(model.scores(rows), rows.encoded, strict=True):
        assert row.slot is not None
        ids = [*row.ids[: row.slot], *tokens.slot_ids, *row.ids[row.slot :]]
        place = row.slot if tokens.slot_ids else row.slot - 1
        with torch.no_grad():
            state = plain(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, place].double().numpy()
        z = projection @ ((state - state.mean()) / np.sqrt(state.var() + 1e-5))
        cosines = points @ z / np.linalg.norm(points, axis=1) / np.linalg.norm(z)
        np.testing.assert_allclose(scores.numpy(), cosines / TAU, atol=1e-4)


def test_a_batchs_loss_is_cross_entropy_and_the_loss_between_texts() -> None:
    model = built("gpt2")
    rows = model.prepare(EXAMPLES)
    batch = model.batch(rows, range(len(EXAMPLES)))
    with torch.no_grad():
        outcome = model(batch)
        expected = torch.nn.functional.cross_entropy(outcome.scores, batch.labels)
        points = head_of(model).project(model._read_states(batch)).double().numpy()
    assert outcome.loss is not None
    assert outcome.loss.item() == pytest.approx(expected.item() + by_hand(points, batch.labels.tolist()), abs=1e-5)


def test_rows_without_labels_learn_from_distributions_alone() -> None:
    """As a student of PET does."""
    model = built("gpt2")
    bare = model.prepare([ptune.data.Example({"text": row.fields["text"]}) for row in EXAMPLES])
    even = torch.full((len(EXAMPLES), 2), 0.5)
    batch = model.batch(target_rows(bare, targets=even), range(len(EXAMPLES)))
    outcome = model(batch)
    assert outcome.loss is not None
    expected = torch.nn.functional.cross_entropy(outcome.scores, even)
    assert outcome.loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_gradients_in_double_precision(kind: str) -> None:
    model = built(kind, backbone=tiny_backbone(kind, dtype=torch.float64))
    head = head_of(model)
    batch = model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))

    def loss(points: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(model, {"head.points": points}, (batch,)).loss
        return found

    assert torch.autograd.gradcheck(loss, head.points.detach().clone().requires_grad_())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_points_and_prompt_learn_together_and_the_model_does_not(kind: str, tmp_path: Path) -> None:
    backbone = build_backbone(kind)
    before = [parameter.clone() for parameter in backbone.model.parameters()]
    task = ptune.fit(**{**WORDS, "steps": 60}, backbone=backbone, test=ROWS)
    assert all(torch.equal(one, other) for one, other in zip(before, backbone.model.parameters(), strict=True))
    width = backbone.spec.width
    assert task.facts["trained_parameters"] == (width + 2) * 64 + 2 * backbone.spec.embedding_size
    assert task.facts["training"]["last_loss"] < 0.8 * task.facts["training"]["first_loss"]
    assert "zero_shot" not in task.facts and not task.model.prior.any()  # type: ignore[union-attr, operator]
    folder = task.save(tmp_path / "bundle")
    loaded = ptune.load(folder, backbone=backbone)
    examples = task.examples(["a good day", ""])
    assert torch.equal(loaded.scores(examples), task.scores(examples))
    assert loaded.evaluate(ROWS).accuracy == task.evaluate(ROWS).accuracy
    assert load_file(folder / "prompt.safetensors")["head.points"].shape == (2, 64)


def test_the_same_seed_gives_the_same_bytes_and_a_finished_run_is_resumed_as_it_is(tmp_path: Path) -> None:
    words = {**WORDS, "backbone": tiny_backbone("gpt2"), "method": "hard", "template": "{text} It was{mask}"}
    for name in ("one", "two"):
        ptune.fit(**words, out=tmp_path / name)
    one, two = ((tmp_path / name / "bundle" / "prompt.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    again = ptune.fit(**words, out=tmp_path / "one", resume=True)
    assert (tmp_path / "one" / "bundle" / "prompt.safetensors").read_bytes() == two
    assert again.facts["training"]["steps"] == 8


def test_names_may_stand_with_words_that_are_not_looked_at() -> None:
    recipe = Recipe.of({**WORDS, "labels": {"good": ["great"], "bad": ["terrible"]}, "backbone": "x"})
    assert recipe.label_names() == ("good", "bad") and not recipe.has_label_words


@pytest.mark.parametrize(
    ("kind", "keys", "fault"),
    [
        ("gpt2", {"labels": ["good"]}, "fewer than two labels"),
        ("gpt2", {"pool": "last"}, "head: prototypes reads the answer slot; leave out pool"),
        ("gpt2", {"calibration": "batch"}, "calibration is for label words"),
        ("gpt2", {"pull": 0.2}, "folds and pull are for label words"),
        ("gpt2", {"template": "{text}{soft:2}"}, "no answer slot"),
        ("gpt2", {"template": "{text}{soft:2}{mask} ."}, "what stands behind it is never seen"),
        ("t5", {}, "tiny-t5 is an encoder-decoder"),
        ("bert", {"task": "regression", "labels": [1, 2]}, "head: prototypes is not for task: regression"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(kind: str, keys: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(PtuneError, match=fault):
        ptune.fit(**{**WORDS, **keys}, backbone=tiny_backbone(kind), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_peft_cannot_hold_them(tmp_path: Path) -> None:
    task = ptune.fit(**WORDS, backbone=tiny_backbone("gpt2"))
    with pytest.raises(BundleError, match=r"the head \(Prototypes\), which is not one of transformers' own"):
        export_peft(task.model, tmp_path / "adapter")
