"""Contexts of a run within its budget: training first, then validation; and none held where no row is read twice."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ptune.backbone import KeptContexts, context_bytes
from ptune.cli.plan import _contexts
from ptune.inputs import trunk_start
from ptune.model import MixtureRows, Prepared
from ptune.recipe import ContextKeeper, Recipe, build_model, plan_recipe, read_splits, run
from ptune.recipe.keeping import decide_keeping
from ptune.strategy import MixtureSettings, run_mixture
from ptune.strategy.teaching import teach
from ptune.train import RunFolder, train
from tiny import tiny_backbone

LABELS = {"yes": ["great"], "no": ["bad"]}
TEMPLATE = "{text}{soft:3} It was{mask}"


def rows_of(number: int, start: int = 0) -> list[dict[str, str]]:
    """Texts of about 30 tokens, all different."""
    words = [("great", "yes"), ("bad", "no")]
    return [
        {"text": f"{words[at % 2][0]} film {at} {'was ' * (20 + at % 3)}{start}", "label": words[at % 2][1]}
        for at in range(number)
    ]


def recipe(**words: Any) -> Recipe:
    given = {
        "train": rows_of(24),
        "template": TEMPLATE,
        "labels": LABELS,
        "backbone": tiny_backbone("llama"),
        "batch_size": 4,
        "steps": 20,
        "seed": 3,
    }
    return Recipe.of({**given, **words}, where="test")


def watch_training(monkeypatch: pytest.MonkeyPatch, place: str) -> list[tuple[Any, Any]]:
    """Rows and validation rows that the loop is given."""
    seen: list[tuple[Any, Any]] = []

    def watched(model: Any, rows: Any, *args: Any, validation: Any = None, **settings: Any) -> Any:
        seen.append((rows, validation))
        return train(model, rows, *args, validation=validation, **settings)

    monkeypatch.setattr(import_module(place), "train", watched)
    return seen


def bytes_of(rows: Prepared) -> int:
    return context_bytes(tiny_backbone("llama"), sum(map(trunk_start, rows.encoded)))


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the budget in bytes, where a recipe's is in MiB."""
    return lambda num_bytes: monkeypatch.setattr("ptune.recipe.contexts.memory_for_contexts", lambda recipe: num_bytes)


def test_validation_takes_what_training_leaves(
    budget: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = watch_training(monkeypatch, "ptune.recipe.fit")
    given = recipe(validation=rows_of(12, start=1), evaluate_every=5)
    free = run(given)
    assert "temporary file" not in caplog.text
    rows, validation = seen[0]
    budget(bytes_of(rows) + bytes_of(validation) // 2)
    tight = run(given)
    assert "of the validation texts' contexts'" in caplog.text and "go into a temporary file" in caplog.text
    kept, looked = (one.contexts for one in seen[1])
    assert kept.num_bytes_in_file == 0 and looked.num_bytes_in_file >= bytes_of(validation) // 2
    held = bytes_of(rows) + bytes_of(validation) - looked.num_bytes_in_file
    assert held <= bytes_of(rows) + bytes_of(validation) // 2  # all together
    assert tight.facts["training"]["log"] == free.facts["training"]["log"]


def test_validation_that_fits_nowhere_is_computed_in_each_look(
    budget: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = watch_training(monkeypatch, "ptune.recipe.fit")
    given = recipe(validation=rows_of(12, start=1), evaluate_every=5)
    free = run(given)
    budget(bytes_of(seen[0][0]))
    monkeypatch.setattr("ptune.recipe.keeping._SHARE_OF_FREE_DISK", 0)
    tight = run(given)
    assert "the validation texts' contexts need" in caplog.text and "computed anew in each look" in caplog.text
    assert seen[1][0].contexts is not None and seen[1][1].contexts is None
    mine, other = (task.facts["training"]["last_loss"] for task in (tight, free))
    assert mine == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"group_by_length": True}, {"accumulate": 2}, {"checkpointing": True}], ids=str)
def test_rows_read_once_are_computed_with_their_batch(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses as with all contexts computed at first, and nothing held."""
    seen, said = watch_training(monkeypatch, "ptune.recipe.fit"), []
    given = recipe(steps=3, **changes)
    result: list[float] = []
    run(given, say=said.append, listeners=[lambda event: result.append(event.loss) if event.kind == "step" else None])
    (once, _) = seen[0]
    assert once.contexts.holds_nothing and once.contexts.num_bytes_in_file == 0
    most = 3 * 4 * given.accumulate
    assert any(f"contexts of up to {most} of 24 texts" in line for line in said)
    model = build_model(given, given.backbone, read_splits(given))
    model.take_out_prior(model.prepare(read_splits(given).train))
    rows = model.prepare(read_splits(given).train, keep_context=True)
    assert result == pytest.approx(train(model, rows, given.train_settings(), seed=3).losses, rel=1e-5)


def test_no_row_is_read_twice_up_to_the_end_of_the_first_pass() -> None:
    def place(**words: Any) -> str:
        given = recipe(**words)
        model = build_model(given, given.backbone, read_splits(given))
        return decide_keeping(model, given, model.prepare(read_splits(given).train).encoded).place

    assert [place(steps=steps) for steps in (1, 6, 7)] == ["batch", "batch", "memory"]
    assert [place(steps=None, epochs=epochs) for epochs in (1, 2)] == ["batch", "memory"]
    assert place(steps=None, epochs=1, accumulate=4) == "batch"
    assert place(steps=6, keep_context=False) == "nowhere"
    planned = plan_recipe(recipe(steps=6))
    assert planned.contexts.num_bytes == 0 and "none is held" in _contexts(planned)


def planned_bytes(given: Recipe) -> tuple[int, str]:
    """Of all contexts that are to be held, and what is printed of them."""
    planned = plan_recipe(given)
    looked = planned.validation_contexts
    return planned.contexts.num_bytes + (0 if looked is None else looked.num_bytes), _contexts(planned)


@pytest.mark.parametrize(
    ("num_looked", "changes"), [(12, {}), (12, {"steps": 6}), (150, {"context_memory": 1})], ids=["held", "once", "file"]
)
def test_the_plan_counts_the_contexts_of_validation_rows(
    num_looked: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many bytes as a run holds, of the training rows (unless each is read once) and of the validation rows."""
    given = recipe(validation=rows_of(num_looked, start=1), **changes)
    seen = watch_training(monkeypatch, "ptune.recipe.fit")
    run(given)
    rows, validation = seen[0]
    held = [one for one in (rows, validation) if not one.contexts.holds_nothing]
    num_bytes, line = planned_bytes(given)
    assert validation in held and num_bytes == sum(map(bytes_of, held))
    assert f"{num_bytes / 2**20:,.1f} MiB" in line and f"{num_looked} validation rows" in line
    assert ("24 training and" in line) == (rows in held) == ("none is held" not in line)
    assert ("in a temporary file" in line) == (validation.contexts.num_bytes_in_file > 0) == (num_looked == 150)


def test_validation_rows_whose_contexts_fit_nowhere_are_planned_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptune.recipe.keeping.shutil.disk_usage", lambda place: SimpleNamespace(free=0))
    planned = plan_recipe(recipe(validation=rows_of(150, start=1), context_memory=1))
    assert planned.contexts.place == "memory"
    assert planned.validation_contexts is not None and planned.validation_contexts.place == "nowhere"
    held, _, not_held = _contexts(planned).partition("; those of 150 validation rows are not kept: ")
    assert held.endswith("tokens of 24 rows, in memory (1 MiB of context_memory)") and "fit neither" in not_held


def test_folds_hold_no_contexts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are judged on training rows."""
    given = recipe(folds=2)
    seen = watch_training(monkeypatch, "ptune.recipe.fit")
    run(given)
    rows, validation = seen[0]
    assert validation is None and planned_bytes(given)[0] == bytes_of(rows)


def test_a_pass_over_rows_that_are_not_held_reads_them_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows fit into a batch by what is computed of them; their contexts together would not fit into memory."""
    given = recipe()
    model = build_model(given, given.backbone, read_splits(given))
    rows = model.prepare(read_splits(given).train)
    once = replace(rows, contexts=model.kept_contexts((), memory=0))
    monkeypatch.delattr(KeptContexts, "context")
    assert torch.equal(model.scores(once), model.scores(rows)) and model.mean_loss(once) == model.mean_loss(rows)


def test_a_resumed_run_that_reads_rows_once_has_the_same_bytes(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: Any) -> None:
        if event.step == 4:
            raise Stop

    given = recipe(steps=6, save_every=1)
    whole = run(given, out=tmp_path / "whole")
    with pytest.raises(Stop):
        run(given, out=tmp_path / "cut", listeners=[stop])
    resumed = run(given, out=tmp_path / "cut", resume=True)
    first, second = ([event["loss"] for event in RunFolder(tmp_path / name).events()] for name in ("whole", "cut"))
    assert first == second
    assert torch.equal(whole.model.prompt().rows, resumed.model.prompt().rows)


@pytest.mark.parametrize(
    ("words", "is_kept"), [({}, True), ({"keep_context": False}, False), ({"context_memory": 1}, True)], ids=str
)
def test_a_student_keeps_what_its_recipe_says(words: dict[str, Any], is_kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_training(monkeypatch, "ptune.strategy.teaching")
    given = recipe(**words)
    examples = read_splits(given).train
    teach(given, given.backbone, examples, torch.full((len(examples), 2), 0.5), temperature=2.0)
    assert (seen[0][0].contexts is not None) == is_kept
    monkeypatch.setattr("ptune.recipe.contexts.memory_for_contexts", lambda recipe: 1)
    teach(given, given.backbone, examples, torch.full((len(examples), 2), 0.5), temperature=2.0)
    assert not is_kept or seen[1][0].contexts.num_bytes_in_file > 0


def mixed(monkeypatch: pytest.MonkeyPatch, limit: int | None = None, **words: Any) -> tuple[MixtureRows, MixtureRows]:
    seen = watch_training(monkeypatch, "ptune.strategy.mixture")
    one = recipe(validation=rows_of(4, start=1), **words)
    two = recipe(train=rows_of(8, start=2), validation=rows_of(4, start=3), **words)
    run_mixture({"one": one, "two": two}, settings=MixtureSettings(limit=limit))
    return seen[0]


def test_a_mixture_keeps_what_its_first_recipe_says(budget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, validation = mixed(monkeypatch, keep_context=False)
    assert all(one.contexts is None for one in (*rows.prepared, *validation.prepared))
    budget(bytes_of(rows.prepared[0]) + 1)
    rows, validation = mixed(monkeypatch)
    assert [one.contexts.num_bytes_in_file > 0 for one in (*rows.prepared, *validation.prepared)] == [False, True, True, True]
    rows, validation = mixed(monkeypatch, steps=8)  # 32 rows, of both tasks together
    assert all(one.contexts.holds_nothing for one in rows.prepared)


def test_a_mixture_keeps_no_rows_that_its_limit_leaves_out(budget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = mixed(monkeypatch, limit=3)
    assert [len(one.contexts._stored) for one in rows.prepared] == [3, 3]


def test_a_budget_is_spent_once(budget: Any) -> None:
    given = recipe()
    model = build_model(given, given.backbone, read_splits(given))
    rows = model.prepare(read_splits(given).train)
    budget(2 * bytes_of(rows))
    keeper = ContextKeeper(given)
    keeper.training(model, rows)
    assert keeper.memory_left == bytes_of(rows)
    keeper.training(model, replace(rows))
    assert keeper.memory_left == 0
