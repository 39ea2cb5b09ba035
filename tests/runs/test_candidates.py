"""Candidates trained at once: each one's losses and rows are those of training it alone, on every kind of backbone."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.model import PromptModel
from ptune.prompt import CandidatePrompts, vary
from ptune.recipe import Recipe, build_model, read_splits, run
from ptune.train import RunFolder, TrainSettings, train
from tiny import KINDS, tiny_backbone

ROWS = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ["The film was great", "a good story"],
        "bad": ["It was bad", "the plot was bad , a bad end"],
    }.items()
    for text in texts
]
WORDS: dict[str, Any] = {"good": ["great", "wonderful"], "bad": ["bad", "不喜欢"]}


def build(kind: str, template: str, num_candidates: int, **method: Any) -> tuple[PromptModel, Recipe]:
    recipe = Recipe.of(
        {
            "train": ROWS,
            "template": template,
            "labels": WORDS,
            "method": {"name": "p-tuning", **method},
            "backbone": tiny_backbone(kind),
            "candidates": num_candidates,
            "steps": 6,
            "batch_size": 3,
            "seed": 4,
        }
    )
    return build_model(recipe, recipe.backbone, read_splits(recipe)), recipe


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("template", "method"),
    [
        ("{text}{soft:3} It was{mask}", {}),
        ("{soft:2} {text} It was{mask}", {"init": "random"}),
        ('{text}{soft:"It was"}{mask} .', {"encoder": "mlp"}),
    ],
)
def test_each_trace_equals_training_it_alone(kind: str, template: str, method: dict[str, Any]) -> None:
    together, recipe = build(kind, template, 3, **method)
    assert isinstance(together.prompt, CandidatePrompts)
    members = list(together.prompt.members)
    starts = [{name: value.clone() for name, value in member.state_dict().items()} for member in members]
    keep = not together.why_not_keep()
    examples = read_splits(recipe).train
    settings = recipe.train_settings()
    result = train(together, together.prepare(examples, keep_context=keep), settings, seed=recipe.seed)
    assert result.chosen is None and len(result.candidate_losses) == settings.steps
    for number, variation in enumerate(vary(3, recipe.seed)):
        alone, _ = build(kind, template, 1, **method)
        alone.prompt.load_state_dict(starts[number])
        rate = alone.prompt.learning_rate * variation.rate_factor
        alone_settings = TrainSettings(**{**settings.model_dump(), "candidates": 1, "learning_rate": rate})
        own = train(alone, alone.prepare(examples, keep_context=keep), alone_settings, seed=recipe.seed)
        assert own.losses == pytest.approx([losses[number] for losses in result.candidate_losses], rel=1e-5, abs=1e-6)
        torch.testing.assert_close(together.prompt().rows[number], alone.prompt().rows, rtol=1e-4, atol=1e-5)


def test_candidates_differ_and_the_first_is_the_recipes_own() -> None:
    for template in ("{text}{soft:3} It was{mask}", '{text}{soft:"It was"}{mask}'):
        rows = build("llama", template, 4)[0].prompt().rows
        torch.testing.assert_close(rows[0], build("llama", template, 1)[0].prompt().rows, rtol=0, atol=0)
        assert all(not torch.equal(rows[i], rows[j]) for i in range(4) for j in range(i))


def fit(tmp_path: Path | None = None, **words: Any) -> ptune.Task:
    words = {"steps": 8, "batch_size": 4, "candidates": 3, **words}
    return ptune.fit(
        out=tmp_path,
        train=ROWS,
        template="{text}{soft:3} It was{mask}",
        labels=WORDS,
        backbone=tiny_backbone("llama"),
        **words,
    )


def test_the_best_on_validation_is_kept_and_the_bundle_holds_it_alone(tmp_path: Path) -> None:
    task = fit(tmp_path / "run", validation=ROWS, evaluate_every=2)
    assert task.model.prior.dim() == 1 and task.model.prompt().rows.dim() == 2
    again = ptune.load(tmp_path / "run" / "bundle", backbone=tiny_backbone("llama"))
    texts = [row["text"] for row in ROWS]
    assert again.predict(texts) == task.predict(texts)


def test_an_ensemble_is_the_mean_of_its_members_probabilities(tmp_path: Path) -> None:
    task = fit(tmp_path / "run")
    model, texts = task.model, [row["text"] for row in ROWS]
    each = torch.softmax(model.candidate_scores(model.prepare(task.examples(texts))), -1)
    assert each.shape == (3, len(texts), 2)
    mean = each.mean(0)
    for row, prediction in zip(mean.tolist(), task.predict(texts), strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(row, abs=1e-5)
    again = ptune.load(tmp_path / "run" / "bundle", backbone=tiny_backbone("llama"))
    for mine, other in zip(task.predict(texts), again.predict(texts), strict=True):
        assert mine.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def said_of(**words: Any) -> tuple[dict[str, Any], str]:
    """What the facts and the console have of the candidates."""
    given = {"train": ROWS, "template": "{text}{soft:3} It was{mask}", "labels": WORDS, "backbone": tiny_backbone("llama")}
    said: list[str] = []
    keys = {"steps": 20, "batch_size": 4, "candidates": 3, "learning_rate": 0.05, **words}
    task = run(Recipe.of({**given, **keys}, where="test"), say=said.append)
    return task.facts["training"], next(line for line in said if "candidate" in line)


def test_the_run_says_which_candidate_was_kept() -> None:
    training, line = said_of(validation=ROWS, evaluate_every=2)
    candidates, chosen = training["candidates"], training["chosen"]
    assert [one["number"] for one in candidates] == [1, 2, 3]
    assert [one["learning_rate"] for one in candidates] == pytest.approx([0.05, 0.015, 0.15])
    best = candidates[chosen - 1]
    assert best["score"] == max(one["score"] for one in candidates)
    assert best["score"] == pytest.approx(max(entry["validation"] for entry in training["log"]))
    assert f"candidate {chosen} of 3 kept (learning rate {best['learning_rate']:g}): validation {best['score']:.3f}" in line
    assert "; others " in line


def test_an_ensemble_says_how_its_members_learned() -> None:
    training, line = said_of()
    losses = [one["loss"] for one in training["candidates"]]
    assert training["chosen"] is None and line.startswith("all 3 candidates kept: training loss")
    assert sum(losses) / 3 == pytest.approx(sum(entry["loss"] for entry in training["log"][-1:]), rel=1e-4)  # of two steps
    assert f"{min(losses):.3f} to {max(losses):.3f}" in line


def test_a_resumed_run_of_candidates_has_the_same_losses(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", validation=ROWS, evaluate_every=2, save_every=1)

    class Stop(Exception):
        pass

    def stop(event: Any) -> None:
        if event.step == 5:
            raise Stop

    with pytest.raises(Stop):
        fit(tmp_path / "cut", validation=ROWS, evaluate_every=2, save_every=1, listeners=[stop])
    resumed = fit(tmp_path / "cut", validation=ROWS, evaluate_every=2, save_every=1, resume=True)
    first, second = (
        [(event["step"], event["event"], event["loss"]) for event in RunFolder(tmp_path / name).events()]
        for name in ("whole", "cut")
    )
    assert first == second
    assert torch.equal(whole.model.prompt().rows, resumed.model.prompt().rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"keep_candidates": "best"}, "validation"),
        ({"candidates": 1, "keep_candidates": "ensemble"}, "candidates"),
        ({"tune": "lm-head"}, "frozen"),
        ({"candidates": 0}, "candidates"),
        ({"method": "hard", "template": "{text} It was{mask}"}, "candidates"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(words: dict[str, Any], message: str) -> None:
    given = {"train": ROWS, "template": "{text}{soft:3}{mask}", "labels": WORDS, "backbone": tiny_backbone("llama")}
    with pytest.raises(ptune.PtuneError, match=message):
        ptune.fit(**{**given, "candidates": 3, **words})
