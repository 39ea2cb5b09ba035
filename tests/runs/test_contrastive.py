"""`contrastive` in a run: the loss by the formula on a plain model's states, what learns by it, what it does not go with."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch

import ptune
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.model import TargetRows, prompt_model, target_rows
from ptune.model.contrastive import contrastive_losses, pair_loss, slot_places
from ptune.recipe import Recipe, build_model, read_splits
from ptune.strategy import PetSettings, run_pet
from tiny import YES_NO_ROWS, build_backbone, tiny_backbone, tiny_model

WORDS: dict[str, Any] = {
    "train": YES_NO_ROWS,
    "template": "{text}{soft:2} It was{mask}",
    "labels": {"yes": ["good"], "no": ["bad"]},
    "contrastive": 0.5,
    "seed": 2,
}
HARD = "{text} It was{mask}"
DEEP = {"name": "p-tuning-v2", "num_tokens": 3}
BEHIND = {"template": HARD, "method": {**DEEP, "placement": "behind"}}
THAT_LEARN: list[dict[str, Any]] = [
    {},
    {"template": HARD, "learn": "words"},
    {"template": HARD, "method": "prompt-tuning"},
    {"template": HARD, "method": "prefix-tuning"},
    {"template": HARD, "method": DEEP},
    {"head": "linear", "pool": "mask", "labels": ["yes", "no"]},
    {"candidates": 2},
]
SEVERAL_TOKENS = {"yes": ["disappointing"], "no": ["bad", "not good"]}


def build(kind: str, **more: Any) -> tuple[Any, Any]:
    recipe = Recipe.of({**WORDS, "backbone": tiny_backbone(kind), **more}, where="test")
    splits = read_splits(recipe)
    model: Any = build_model(recipe, recipe.backbone, splits)
    return model, model.prepare(splits.train)


def by_hand(states: Any, labels: list[int]) -> float:
    """The mean over pairs of (cos - 1)^2 for one label and cos^2 for two, a pair at a time."""
    losses = []
    for (u, y), (v, z) in combinations(zip(np.asarray(states, dtype=np.float64), labels, strict=True), 2):
        cosine = sum(u * v) / (sum(u * u) ** 0.5 * sum(v * v) ** 0.5)
        losses.append((cosine - 1) ** 2 if y == z else cosine**2)
    return float(np.mean(losses)) if losses else 0.0


@torch.no_grad()
def plain_state(kind: str, model: Any, row: Any) -> torch.Tensor:
    """[D] what transformers' own model has at the answer slot of one row in its last layer."""
    plain, tokens = tiny_model(kind), model.backbone.tokens
    table, learned = plain.get_input_embeddings(), model.prompt().rows
    vectors = [table(torch.tensor(i)) if s < 0 else learned[s] for i, s in zip(row.ids, row.soft, strict=True)]
    num_masks = len(model.answers.ids[0]) if model.backbone.kind == "encoder" else 1
    vectors[row.slot : row.slot] = [table(torch.tensor(i)) for i in tokens.slot_ids * num_masks]
    embeds = torch.stack(vectors)[None]
    if model.backbone.kind == "encoder-decoder":
        ids = torch.tensor([tokens.decoder_ids])
        states = plain(inputs_embeds=embeds, decoder_input_ids=ids, output_hidden_states=True).decoder_hidden_states
        return torch.Tensor(states[-1][0, -1])
    place = row.slot if model.backbone.kind == "encoder" else row.slot - 1
    return torch.Tensor(plain(inputs_embeds=embeds, output_hidden_states=True).hidden_states[-1][0, place])


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1], [0, 1, 2, 2], [0, 0, 0], [1, 0], [3], []], ids=str)
def test_the_loss_is_the_mean_over_pairs(labels: list[int]) -> None:
    drawn = torch.randn(len(labels), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = pair_loss(drawn, torch.tensor(labels, dtype=torch.long))
    assert loss.item() == pytest.approx(by_hand(drawn.detach(), labels), abs=1e-12)
    loss.backward()
    assert drawn.grad is not None and bool(torch.isfinite(drawn.grad).all())


def test_the_loss_is_that_of_sentence_transformers() -> None:
    """Their CosineSimilarityLoss, with which SetFit trains, on the same pairs."""
    losses = pytest.importorskip("sentence_transformers.losses")

    class Given(torch.nn.Module):
        def forward(self, features: Any) -> Any:
            return {"sentence_embedding": features}

    states, labels = torch.randn(6, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([0, 1, 2, 0, 1, 1])
    first, second = torch.tensor(list(combinations(range(6), 2))).T
    same = (labels[first] == labels[second]).float()
    theirs = losses.CosineSimilarityLoss(Given())([states[first], states[second]], same)
    torch.testing.assert_close(pair_loss(states, labels), theirs)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "gemma3", "t5", "bart"])
@pytest.mark.parametrize("labels", [WORDS["labels"], SEVERAL_TOKENS], ids=["one token", "several"])
@pytest.mark.parametrize("template", [WORDS["template"], "{soft:2} {text} . It was{mask} ."])
def test_a_step_by_the_states_of_the_plain_model(kind: str, labels: Any, template: str) -> None:
    model, rows = build(kind, labels=labels, template=template)
    without, _ = build(kind, labels=labels, template=template, contrastive=0.0)
    batch = model.batch(rows, range(5))
    states = torch.stack([plain_state(kind, model, row) for row in rows.encoded[:5]])
    with torch.no_grad():
        torch.testing.assert_close(model._read_states(batch)[slot_places(batch)], states, rtol=1e-4, atol=1e-4)
    outcome = model(batch)
    expected = without(batch).loss.item() + 0.5 * by_hand(states, batch.labels.tolist())
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("kind", "changes"), [*product(["bert", "gpt2", "t5"], THAT_LEARN), ("gpt2", BEHIND)], ids=str)
def test_the_prompt_learns_by_this_loss_alone(kind: str, changes: dict[str, Any]) -> None:
    model, rows = build(kind, **changes)
    with torch.no_grad():
        for parameter in model.prompt.parameters():  # a prefix's MLP starts at zero
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    batch = model.batch(rows, range(6))
    contrastive_losses(model, batch, model._read_states(batch)).sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.prompt.parameters())


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
@pytest.mark.parametrize("labels", [WORDS["labels"], SEVERAL_TOKENS], ids=["one token", "several"])
def test_kept_contexts_change_nothing(kind: str, labels: Any) -> None:
    model, rows = build(kind, labels=labels, contrastive=3.0)
    kept = model.prepare(read_splits(Recipe.of({**WORDS, "backbone": model.backbone}, where="test")).train, keep_context=True)
    assert kept.contexts is not None
    grads = []
    for prepared in (rows, kept):
        model.zero_grad()
        loss = model(model.batch(prepared, range(8))).loss
        loss.backward()
        grads.append((loss.detach(), *(parameter.grad.clone() for parameter in model.prompt.parameters())))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {"label_loss": "decoupled"}),
        ("bert", {"label_conditioning": 2.0}),
        ("gpt2", {"head": "vectors"}),
        ("gpt2", {"head": "prototypes", "labels": ["yes", "no"]}),
        ("gpt2", {"head": "weights", "labels": {"yes": ["good", "great"], "no": ["bad"]}}),
        ("t5", {"head": "linear", "pool": "mask", "labels": ["yes", "no"]}),
        ("t5", {"template": HARD, "method": {**DEEP, "dropout": 0.4}, "r_drop": 2.0}),
        ("bert", {"fill": "chain", "labels": SEVERAL_TOKENS}),
    ],
    ids=str,
)
def test_it_is_added_to_the_other_losses(kind: str, changes: dict[str, Any]) -> None:
    (model, rows), (without, _) = build(kind, **changes), build(kind, contrastive=0.0, **changes)
    batch = model.batch(rows, range(6))
    torch.manual_seed(5)
    outcome = model(batch)
    torch.manual_seed(5)
    plain = without(batch)
    torch.manual_seed(5)
    states = model._read_states(batch).detach()[slot_places(batch)]  # the first reading, where there are two
    torch.testing.assert_close(outcome.scores, plain.scores)
    assert outcome.loss.item() == pytest.approx(plain.loss.item() + 0.5 * by_hand(states, batch.labels.tolist()), rel=1e-4)


def test_candidates_and_folds_learn_from_pairs_of_their_own_rows() -> None:
    model, rows = build("bert", template=HARD, learn="words", folds=2)
    for member in model.prompt.members:
        member.load_state_dict(model.prompt.members[0].state_dict())
    folded = target_rows(rows, folds=[0, 1, 1, 0, 1, 1, 0, 1])
    batch = model.batch(folded, range(6))
    states = model._read_states(batch)
    losses = contrastive_losses(model, batch, states).tolist()
    for number, loss in enumerate(losses):
        own = [row for row in range(6) if folded.folds[row] != number]
        assert loss == pytest.approx(by_hand(states[number].detach()[own], batch.labels[own].tolist()), rel=1e-4)
    outcome = model(batch)
    torch.testing.assert_close(outcome.loss, outcome.candidate_losses.sum())
    model.contrastive = 0.0
    more = outcome.candidate_losses - model(batch).candidate_losses
    torch.testing.assert_close(more, 0.5 * torch.tensor(losses), rtol=1e-4, atol=1e-5)


def test_where_there_is_no_pair_nothing_is_added() -> None:
    """One row; rows of which one has a label; rows that learn from distributions alone."""
    (model, rows), (without, _) = build("gpt2"), build("gpt2", contrastive=0.0)
    assert model(model.batch(rows, [3])).loss == without(without.batch(rows, [3])).loss
    bare = model.prepare(
        [Example({"text": row["text"]}, row["label"] if not at else None) for at, row in enumerate(YES_NO_ROWS)]
    )
    even: TargetRows = target_rows(bare, targets=torch.full((8, 2), 0.5))
    assert model(model.batch(even, range(8))).loss == without(without.batch(even, range(8))).loss


def test_a_weight_of_nothing_is_no_key_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {key: value for key, value in WORDS.items() if key != "contrastive"}
    plain = ptune.fit(**words, backbone=tiny_backbone("gpt2"), steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(prompt_model, "contrastive_losses", lambda *_: pytest.fail("it was computed"))
        nothing = ptune.fit(**words, contrastive=0.0, backbone=tiny_backbone("gpt2"), steps=4)
    assert nothing.facts["training"]["log"] == plain.facts["training"]["log"]
    assert torch.equal(nothing.model.prompt().rows, plain.model.prompt().rows)  # type: ignore[union-attr, operator]


def test_a_text_is_read_once_and_said_of_and_measured_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    (model, rows), (without, _) = build("bert"), build("bert", contrastive=0.0)
    own, counts = model.backbone.read, []
    monkeypatch.setattr(model.backbone, "read", lambda *given, **keys: (counts.append(1), own(*given, **keys))[1])
    model(model.batch(rows, range(8)))
    assert len(counts) == 1
    monkeypatch.setattr(prompt_model, "contrastive_losses", lambda *_: pytest.fail("nothing learns here"))
    with torch.no_grad():
        assert model(model.batch(rows, range(8))).loss == without(without.batch(rows, range(8))).loss
    assert model.mean_loss(rows) == without.mean_loss(rows)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_a_run_brings_states_of_one_label_together(kind: str, tmp_path: Any) -> None:
    def spread(task: Any) -> float:
        model = task.model
        rows = model.prepare([Example({"text": row["text"]}, row["label"]) for row in YES_NO_ROWS])
        batch = model.batch(rows, range(8))
        with torch.no_grad():
            states = model._read_states(batch)[slot_places(batch)]
        return by_hand(states, [int(row["label"] == "yes") for row in YES_NO_ROWS])

    words = {**WORDS, "backbone": tiny_backbone(kind), "steps": 60, "learning_rate": 0.02}
    plain, pulled = ptune.fit(**{**words, "contrastive": None}), ptune.fit(**{**words, "contrastive": 20.0})
    start = ptune.fit(**{**words, "contrastive": None, "steps": 1, "learning_rate": 1e-9})
    assert spread(pulled) < 0.9 * min(spread(start), spread(plain))
    pulled.save(tmp_path / "bundle")
    again = ptune.load(tmp_path / "bundle", backbone=tiny_backbone(kind))
    assert again.predict(["The film was great ."]) == pulled.predict(["The film was great ."])


def test_a_tuned_model_learns_by_it_without_a_prompt() -> None:
    backbone = build_backbone("bert")
    words = {**WORDS, "template": HARD, "method": "hard", "tune": "lm", "steps": 3}
    task = ptune.fit(**words, backbone=backbone)
    plain = ptune.fit(**{**words, "contrastive": None}, backbone=backbone)
    assert task.predict(["The film was great ."]) != plain.predict(["The film was great ."])


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("gpt2", {"method": "hard", "template": HARD}, "nothing that learns changes it"),
        ("bert", {"method": "hard", "template": HARD, "tune": "lm-head"}, "nothing that learns changes it"),
        ("gpt2", {"method": "hard", "template": HARD, "head": "vectors"}, "nothing that learns changes it"),
        ("gpt2", {"template": "{text} It was{mask} .{soft:2}"}, "stand behind it, where a causal model"),
        (
            "bert",
            {"template": "{text}{soft:2}{mask} was{mask}", "labels": {"yes": ["it", "good"], "no": ["it", "bad"]}},
            "has 2",
        ),
        ("bert", {"head": "linear", "labels": ["yes", "no"]}, r"\(pool: cls\)"),
        ("t5", {"head": "linear", "labels": ["yes", "no"]}, r"\(pool: mean\)"),
        ("bert", {"fill": "pet"}, "fill: pet reads several"),
        ("bert", {"contrastive": -1}, "contrastive"),
        ("bert", {"batch_size": 1}, "compares the texts of a batch"),
        ("gpt2", {"task": "generation", "labels": None, "template": "{text}{mask}"}, "contrastive is for task: classification"),
        ("bert", {"task": "multi-label"}, "contrastive is for task: classification"),
    ],
)
def test_what_does_not_go_together(kind: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PtuneError, match=says):
        build(kind, **changes)


def test_a_student_without_labels_does_not_take_it() -> None:
    template = {"template": WORDS["template"]}
    keys = PetSettings(patterns=[template], unlabelled=[{"text": "bad"}], student={"contrastive": 1.0})
    with pytest.raises(PtuneError, match=r"pet\.student\.contrastive"):
        run_pet(Recipe.of({**WORDS, "backbone": tiny_backbone("gpt2")}, where="test"), keys)
