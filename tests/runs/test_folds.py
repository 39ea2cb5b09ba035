"""Careful learning: words that start as the hard template, folds and the step length they choose, the pull to the start."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.errors import PtuneError
from ptune.model import Prepared, PromptModel, fold_numbers, target_rows
from ptune.objective import classification_loss, distribution_loss
from ptune.recipe import Recipe, build_model, read_splits, run
from ptune.recipe.folds import STEP_LENGTHS, same_start, settle_folds
from ptune.template import Template, learn_words, templates
from ptune.train import train
from tiny import EXAMPLES, tiny_backbone


def model_of(words: dict[str, Any], **keys: Any) -> tuple[PromptModel, Recipe]:
    recipe = Recipe.of({**words, **keys})
    model = build_model(recipe, ptune.load_backbone(recipe.backbone), read_splits(recipe))
    assert isinstance(model, PromptModel)
    return model, recipe


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "bert", "t5"])
@pytest.mark.parametrize(
    "template", ["{text}{soft:4} It was{mask}", "Review: {text} It was {mask} .", "{text}\nAnswer:\n{mask}"]
)
def test_words_that_learn_start_as_the_hard_template(kind: str, template: str) -> None:
    if kind == "t5" and "\n" in template:
        pytest.skip("its tokenizer has no line breaks: hard words and learned ones that begin with one differ by a space")
    backbone, labels = tiny_backbone(kind), {"yes": ["great"], "no": ["sports news"]}
    hard = PromptModel.build(backbone=backbone, template=Template.parse(template).without_soft(), labels=labels, method="hard")
    learned = learn_words(Template.parse(template))
    start = PromptModel.build(backbone=backbone, template=learned, labels=labels)
    assert start.layout.num_rows and str(learned.without_soft()) == str(Template.parse(template).without_soft())
    torch.testing.assert_close(start.scores(start.prepare(EXAMPLES)), hard.scores(hard.prepare(EXAMPLES)), rtol=0, atol=2e-4)


def test_every_template_of_the_library_can_learn_its_words_or_says_why_not() -> None:
    for entry in templates():
        template = entry.template
        if template.num_masks == 1:
            try:
                assert learn_words(template).has_soft
            except PtuneError as error:
                assert "no words stand" in str(error)


def test_folds_spread_each_class() -> None:
    assert fold_numbers([0, 1, 0, 0, 1, 0], 2) == (0, 0, 1, 0, 1, 1)


def test_each_fold_trains_as_if_its_rows_were_not_there(words: dict[str, Any]) -> None:
    """One batch holds all rows: a fold's first loss and gradient are those of the other rows alone."""
    model, recipe = model_of(words, folds=3, learn="words")
    same_start(model, recipe)
    rows = model.prepare(read_splits(recipe).train)
    folds = fold_numbers(rows.labels, 3)
    whole = range(len(rows))
    outcome = model(model.batch(target_rows(rows, folds=folds), whole))
    plain = model(model.batch(rows, whole))
    for number, loss in enumerate(outcome.candidate_losses):
        seen = [i for i in whole if folds[i] != number]
        scores = plain.candidate_scores[number][seen]
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, torch.tensor(rows.labels)[seen]))


def test_the_step_length_is_that_of_brute_force(words: dict[str, Any]) -> None:
    model, recipe = model_of(words, folds=2, learn="words", steps=20)
    start = same_start(model, recipe)
    examples = read_splits(recipe).train
    rows = model.prepare(examples)
    rows = target_rows(rows, folds=fold_numbers(rows.labels, 2))
    train(model, rows, recipe.train_settings(), seed=1)
    ends = [member().rows.detach().clone() for member in model.prompt.members]
    held_out = settle_folds(model, rows, start)
    alone, _ = model_of(words, learn="words")
    prepared, labels = alone.prepare(examples), torch.tensor(rows.labels)
    losses: dict[float, float] = {}
    right: dict[float, int] = {}
    for length in STEP_LENGTHS:
        scores = torch.zeros(len(rows), 2)
        for number, end in enumerate(ends):
            alone.prompt.rows.data.copy_(start + length * (end - start))
            mine = torch.tensor([fold == number for fold in rows.folds])
            scores[mine] = alone.scores(prepared)[mine]
        temperatures = torch.linspace(-4, 4, 4001).exp()[:, None, None]
        each = torch.nn.functional.cross_entropy(
            (scores / temperatures).transpose(1, 2), labels.expand(4001, -1), reduction="none"
        )
        losses[length] = each.mean(1).min().item()
        right[length] = int((scores.argmax(1) == labels).sum())
    assert held_out is not None
    assert held_out.losses == pytest.approx(losses, abs=1e-4)
    assert held_out.step_length == min((one for one in losses if right[one] >= right[0.0]), key=losses.__getitem__)
    expected = start + held_out.step_length * (torch.stack(ends).mean(0) - start)
    torch.testing.assert_close(model.prompt().rows, expected)
    assert not model.has_candidates and model.num_trained == start.numel()


def test_labels_that_say_nothing_leave_the_start(words: dict[str, Any], rows: list[dict[str, str]]) -> None:
    """Every text occurs with both labels, so that what is learned on some rows is wrong on others."""
    other = {"good": "bad", "bad": "good"}
    noise = [row for pair in rows for row in (pair, {"text": pair["text"], "label": other[pair["label"]]})]
    task = ptune.fit(**{**words, "train": noise}, learn="words", folds=2, learning_rate=0.5)
    held_out = task.facts["held_out"]
    assert held_out["step_length"] == 0.0
    hard = ptune.fit(**{**words, "train": noise, "method": "hard", "template": "{text} It was{mask}", "steps": None})
    texts = ["The film was great", "a bad day"]
    for one, two in zip(task.predict(texts), hard.predict(texts), strict=True):
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-3)


def test_no_step_is_taken_that_gets_fewer_unseen_rows_right(words: dict[str, Any]) -> None:
    """Ends that make the rows on which they are right very sure, and lose one more row than the start does."""
    model, recipe = model_of(words, folds=2, learn="words")
    start = same_start(model, recipe)
    rows = model.prepare(read_splits(recipe).train)
    rows = target_rows(rows, folds=fold_numbers(rows.labels, 2))
    first, asked = rows.encoded[0], []

    def scores(prepared: Prepared) -> torch.Tensor:
        asked.append(len(prepared))
        sure = torch.nn.functional.one_hot(torch.tensor(prepared.labels), 2) * 9.0 - 4.5
        if sum(asked) <= len(rows):
            return sure / 1000
        sure[[row is first for row in prepared.encoded]] *= -0.1
        return sure

    model.scores = scores  # type: ignore[assignment,method-assign]
    held_out = settle_folds(model, rows, start)
    assert held_out is not None and held_out.step_length == 0.0
    assert held_out.accuracies[0.0] == 1.0 > held_out.accuracies[1.0]
    assert sum(asked) == len(rows) * len(STEP_LENGTHS)  # a row is scored by one prompt alone


def test_a_template_without_learned_tokens_learns_its_words_in_folds(words: dict[str, Any], tmp_path: Path) -> None:
    """What `learn: auto` and `folds: auto` come to is what the words spelt out come to."""
    bare = {**words, "template": "{text} It was{mask}"}
    task = ptune.fit(tmp_path / "run", **bare)
    fewest = min(sum(row["label"] == name for row in words["train"]) for name in ("good", "bad"))
    assert task.facts["held_out"]["folds"] == min(4, fewest)
    spelt = ptune.fit(**bare, learn="words", folds=min(4, fewest))
    texts = ["The film was great", "a table"]
    assert [one.probabilities for one in task.predict(texts)] == [one.probabilities for one in spelt.predict(texts)]
    again = ptune.fit(tmp_path / "run", resume=True, **bare)  # the recipe that is compared is the one that was given
    assert [one.probabilities for one in again.predict(texts)] == [one.probabilities for one in task.predict(texts)]


@pytest.mark.parametrize(
    "keys",
    [
        {"folds": 1},
        {"candidates": 2},
        {"augment": {"copies": 1, "swap": 0.5}},
        {"label_loss": "decoupled"},
        {"hold_out": 1},
        {"template": "{text}{soft:2} It was{mask}"},
        {"tune": "lm"},
    ],
)
def test_folds_stay_away_where_something_else_chooses(words: dict[str, Any], keys: dict[str, Any]) -> None:
    task = ptune.fit(**{**words, "template": "{text} It was{mask}", "steps": 2, **keys})
    assert "held_out" not in task.facts
    assert task.model.template.has_soft  # type: ignore[attr-defined]


def test_a_template_without_words_still_asks_for_learned_tokens(words: dict[str, Any]) -> None:
    with pytest.raises(PtuneError, match="no learned tokens"):
        ptune.fit(**{**words, "template": "{text}{mask}"})


def test_a_run_with_folds_is_saved_and_resumed(words: dict[str, Any], tmp_path: Path) -> None:
    whole = ptune.fit(tmp_path / "whole", **words, folds=2, learn="words", pull=0.2)
    again = ptune.fit(**words, folds=2, learn="words", pull=0.2)
    texts = ["The film was great", "a table"]
    assert [one.probabilities for one in whole.predict(texts)] == [one.probabilities for one in again.predict(texts)]
    loaded = ptune.load(tmp_path / "whole" / "bundle")
    assert [one.probabilities for one in loaded.predict(texts)] == [one.probabilities for one in whole.predict(texts)]
    assert whole.facts["held_out"]["folds"] == 2 and whole.facts["trained_parameters"] > 0


def test_pull_mixes_the_starts_distribution_into_the_target(words: dict[str, Any]) -> None:
    from ptune.recipe.folds import careful_rows

    model, recipe = model_of(words, pull=0.25)
    rows = model.prepare(read_splits(recipe).train)
    pulled = careful_rows(model, recipe, rows)
    start = torch.softmax(model.scores(rows), 1)
    for number, label in enumerate(rows.labels):
        expected = 0.25 * start[number] + 0.75 * torch.eye(2)[label]
        torch.testing.assert_close(torch.tensor(pulled.targets[number]), expected)
    loss = model(model.batch(pulled, range(len(rows)))).loss
    by_hand = -(torch.tensor(pulled.targets) * torch.log(start)).sum(1).mean()
    torch.testing.assert_close(loss.detach(), by_hand)


def test_a_distribution_that_is_a_label_costs_what_the_label_costs() -> None:
    scores, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(distribution_loss(scores, one_hot), classification_loss(scores, labels))


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"folds": 4, "candidates": 4}, "candidates already"),
        ({"folds": 4, "head": "linear", "labels": ["good", "bad"]}, "label words"),
        ({"pull": 0.5, "tune": "lm"}, "label words"),
        ({"learn": "words", "method": "prompt-tuning"}, "p-tuning"),
        ({"learn": "words", "template": "{text}{soft:3}{mask}"}, "no words stand"),
        ({"folds": 2, "shots": 1}, "one row"),
        ({"folds": 0}, "auto, or a number from 1 to 16"),
        ({"folds": "four"}, "auto, or a number from 1 to 16"),
    ],
)
def test_what_does_not_go_together_is_refused(words: dict[str, Any], keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        ptune.fit(**{**words, **keys})


def test_the_run_counts_the_parameters_of_the_prompt_that_is_kept(words: dict[str, Any]) -> None:
    lines: list[str] = []
    task = run(Recipe.of({**words, "template": "{text} It was{mask}"}), say=lines.append)
    told = next(line for line in lines if line.startswith("training "))
    assert told.startswith(f"training {task.facts['trained_parameters']:,} parameters (") and told.endswith(" in 4 folds")
