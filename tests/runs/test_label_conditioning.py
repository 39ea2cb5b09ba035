"""`label_conditioning` in a run: the loss by the paper's equation on a plain masked model, and what it does not go with."""

from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.inputs import field_tokens
from ptune.model import label_conditioning
from ptune.recipe import Recipe, build_model, read_splits
from tiny import YES_NO_ROWS, tiny_backbone, tiny_model

WORDS: dict[str, Any] = {
    "train": YES_NO_ROWS,
    "template": "{soft:2} All in all it was{mask} : {text}",
    "labels": {"yes": ["good"], "no": ["bad"]},
    "label_conditioning": 0.5,
    "seed": 2,
}


def build(kind: str, **more: Any) -> tuple[Any, Any]:
    recipe = Recipe.of({**WORDS, "backbone": tiny_backbone(kind), **more}, where="test")
    splits = read_splits(recipe)
    model: Any = build_model(recipe, recipe.backbone, splits)
    return model, model.prepare(splits.train)


@torch.no_grad()
def probability(kind: str, model: Any, row: Any, word: tuple[int, ...], at: int, others: list[int]) -> torch.Tensor:
    """q of token `at` of a row with a word in its slot, it and `others` shown as masks: by one plain forward pass."""
    plain, mask = tiny_model(kind), model.backbone.tokens.slot_ids[0]
    ids = [mask if number in others else token for number, token in enumerate(row.ids)]
    ids[row.slot : row.slot] = word
    soft = [*row.soft[: row.slot], *(-1 for _ in word), *row.soft[row.slot :]]
    rows, table = model.prompt().rows, plain.get_input_embeddings()
    vectors = torch.stack([table(torch.tensor(i)) if s < 0 else rows[s] for i, s in zip(ids, soft, strict=True)])
    place = at + len(word) * (at >= row.slot)
    return torch.softmax(plain(inputs_embeds=vectors[None]).logits[0, place], -1)[row.ids[at]]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("labels", [{"yes": ["good"], "no": ["bad"]}, {"yes": ["disappointing"], "no": ["bad"]}])
def test_a_step_by_the_paper_s_equation(kind: str, labels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equation 6 with both labels: each row is asked with its right word and, of two labels, the only wrong one."""
    monkeypatch.setattr(label_conditioning, "HIDDEN_SHARE", 0.4)
    model, rows = build(kind, labels=labels)
    batch = model.batch(rows, range(4))
    torch.manual_seed(5)
    outcome = model(batch)
    torch.manual_seed(5)
    hidden = label_conditioning.draw_hidden(batch)
    assert all(len(own) == max(1, round(0.4 * len(field_tokens(row)))) for own, row in zip(hidden, batch.rows, strict=True))
    losses = []
    for row, own, label in zip(batch.rows, hidden, batch.labels.tolist(), strict=True):
        for at in own:
            right = probability(kind, model, row, model.answers.ids[label], at, own)
            wrong = probability(kind, model, row, model.answers.ids[1 - label], at, own)
            losses.append(-torch.log(right) - torch.log(1 - wrong))
    without, _ = build(kind, labels=labels, label_conditioning=0.0)
    expected = without(batch).loss + 0.5 * torch.stack(losses).mean()
    torch.testing.assert_close(outcome.loss, expected, rtol=1e-4, atol=1e-5)
    outcome.loss.backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.prompt.parameters())


def test_only_the_row_s_own_text_is_hidden() -> None:
    model, rows = build("bert", template="{soft:2} {text} . It was{mask} .")
    torch.manual_seed(0)
    for row, own in zip(rows.encoded, label_conditioning.draw_hidden(model.batch(rows, range(8))), strict=True):
        assert own and all(row.owner[at] == "text" for at in own)


def test_what_is_said_and_measured_of_a_text_is_the_same() -> None:
    """Nothing is drawn and nothing added where nothing learns."""
    model, rows = build("bert")
    without, _ = build("bert", label_conditioning=0.0)
    with torch.no_grad():
        assert model(model.batch(rows, range(8))).loss == without(without.batch(rows, range(8))).loss
    assert model.mean_loss(rows) == without.mean_loss(rows)


def test_of_many_labels_the_right_one_and_any_other_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"yes": ["good", "great"], "no": ["bad"], "so": ["like"]}
    rows = [*YES_NO_ROWS, {"text": "What a day !", "label": "so"}]
    model, prepared = build("bert", labels=labels, train=rows)
    asked: list[list[tuple[int, ...]]] = []
    own = label_conditioning.lay_out_hidden

    def noted(encoded: Any, words: Any, *rest: Any, **keys: Any) -> Any:
        asked.append([part for (part,) in words])
        return own(encoded, words, *rest, **keys)

    monkeypatch.setattr(label_conditioning, "lay_out_hidden", noted)
    for _ in range(20):
        model(model.batch(prepared, [0, 1, 8]))
    of = dict(zip(model.answers.ids, model.answers.label, strict=True))
    first = [[of[word] for word in words] for words in asked]
    assert all(words[:3] == [0, 1, 2] for words in first)
    assert [{words[3 + row] for words in first} for row in range(3)] == [{1, 2}, {0, 2}, {0, 1}]
    assert {words[0] for words in asked} == set(model.answers.ids[:2]), "each word of a label has its turn"


def test_candidates_and_folds_learn_from_their_own_rows() -> None:
    """Two folds' prompts from one start: what each loses is the loss of the other fold's rows alone."""
    model, rows = build("bert", template="{text} It was{mask}", learn="words", folds=2)
    for member in model.prompt.members:
        member.load_state_dict(model.prompt.members[0].state_dict())
    single, _ = build("bert", template="{text} It was{mask}", learn="words", folds=1)
    folded = ptune.model.target_rows(rows, folds=[0, 1] * 4)
    torch.manual_seed(3)
    together = label_conditioning.conditioning_losses(model, model.batch(folded, range(4)))
    torch.manual_seed(3)
    whole = label_conditioning.conditioning_losses(single, single.batch(rows, range(4)))
    assert together.shape == (2,)
    torch.testing.assert_close(together.mean(), whole[0], rtol=1e-4, atol=1e-5)
    first, second = together.tolist()
    assert first != pytest.approx(second)


def test_a_run_learns_and_is_loaded_like_any_other(tmp_path: Any) -> None:
    words = {**WORDS, "label_loss": "decoupled"}
    task = ptune.fit(**words, backbone=tiny_backbone("bert"), steps=12, learning_rate=0.05)
    assert task.facts["training"]["last_loss"] < task.facts["training"]["first_loss"]
    plain = ptune.fit(**{**words, "label_conditioning": None}, backbone=tiny_backbone("bert"), steps=12, learning_rate=0.05)
    assert task.predict(["The film was great ."]) != plain.predict(["The film was great ."])
    task.save(tmp_path / "bundle")
    again = ptune.load(tmp_path / "bundle", backbone=tiny_backbone("bert"))
    assert again.predict(["The film was great ."]) == task.predict(["The film was great ."])


def test_an_interrupted_run_draws_the_same(tmp_path: Any) -> None:
    words = {**WORDS, "backbone": tiny_backbone("bert"), "steps": 8, "save_every": 2}

    def stop(event: Any) -> None:
        if event.kind == "step" and event.step == 5:
            raise KeyboardInterrupt

    whole = ptune.fit(tmp_path / "whole", **words)
    with pytest.raises(KeyboardInterrupt):
        ptune.fit(tmp_path / "broken", **words, listeners=[stop])
    resumed = ptune.fit(tmp_path / "broken", **words, resume=True)
    assert resumed.facts["training"]["log"] == whole.facts["training"]["log"]
    assert torch.equal(resumed.model.prompt().rows, whole.model.prompt().rows)


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("gpt2", {}, "is causal: a text in front of {mask} does not see the label"),
        ("t5", {}, "writes label words with its decoder"),
        ("bert", {"head": "linear", "labels": ["yes", "no"]}, "leave out the head"),
        ("bert", {"label_conditioning": -1}, "label_conditioning"),
        ("bert", {"task": "generation", "labels": None, "template": "{text}{mask}", "method": "hard"}, "is for"),
    ],
)
def test_what_does_not_go_together(kind: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PtuneError, match=says):
        build(kind, **changes)
