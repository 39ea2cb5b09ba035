"""A task in memory and on disk: predictions, reports, bundles that hold no more than they must."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ptune
from ptune.bundle import read_bundle
from ptune.errors import BundleError, DataError
from ptune.task import inspect_task
from tiny import build_backbone, tiny_backbone


@pytest.fixture(scope="module")
def task() -> ptune.Task:
    rows = [{"text": f"the film was {word} {n}", "label": word} for n in range(4) for word in ("good", "bad")]
    return ptune.fit(
        train=rows,
        template="{text}{soft:3} It was{mask}",
        labels={"good": ["good"], "bad": ["bad"]},
        backbone=tiny_backbone("llama"),
        steps=8,
        seed=1,
    )


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "gemma3", "t5"])
@pytest.mark.parametrize("method", ["hard", "prompt-tuning", "p-tuning", "mlp", "lstm", "head"])
def test_saved_and_loaded_scores_are_equal(kind: str, method: str, tmp_path: Path) -> None:
    rows = [{"text": f"the film was {word} {n}", "label": word} for n in range(2) for word in ("good", "bad")]
    words: dict = {
        "hard": {"method": "hard", "template": "{text} It was{mask}"},
        "prompt-tuning": {"method": {"name": "prompt-tuning", "num_tokens": 3}, "template": "{text} It was{mask}"},
        "p-tuning": {"template": "{text}{soft:2 id=a} It{soft id=a} was{mask}"},
        "mlp": {"method": {"name": "p-tuning", "encoder": "mlp"}, "template": "{text}{soft:3} It was{mask}"},
        "lstm": {"method": {"name": "p-tuning", "encoder": "lstm"}, "template": "{text}{soft:3} It was{mask}"},
        "head": {"template": "{text}{soft:3}", "head": "linear"},
    }[method]
    backbone = tiny_backbone(kind)
    task = ptune.fit(train=rows, labels={"good": ["good"], "bad": ["bad"]}, backbone=backbone, steps=3, **words)
    folder = task.save(tmp_path / "bundle")
    loaded = ptune.load(folder, backbone=backbone)
    examples = task.examples(["a great day", "", "It was bad " * 5])
    assert torch.equal(task.scores(examples), loaded.scores(examples))
    tensors = load_file(folder / "prompt.safetensors")
    assert max(tensor.numel() for tensor in tensors.values()) < backbone.spec.vocab_size * backbone.spec.embedding_size / 4
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "bundle.json", "prompt.safetensors"]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")]
    words: dict = {"train": rows, "template": "{text}{soft:3} It was{mask}", "labels": {"good": ["good"], "bad": ["bad"]}}
    for name in ("one", "two"):
        ptune.fit(**words, backbone=tiny_backbone("gemma3"), steps=4, seed=5).save(tmp_path / name)
    ptune.fit(**words, backbone=tiny_backbone("gemma3"), steps=4, seed=6).save(tmp_path / "three")
    one, two, three = ((tmp_path / name / "prompt.safetensors").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_a_bundle_for_another_backbone_is_refused_with_both_names(task: ptune.Task, tmp_path: Path) -> None:
    task.save(tmp_path / "bundle")
    other = tiny_backbone("gpt2")
    with pytest.raises(BundleError) as caught:
        ptune.load(tmp_path / "bundle", backbone=other)
    assert task.model.backbone.spec.name in str(caught.value) and other.spec.name in str(caught.value)


@pytest.mark.parametrize("tune", ["frozen", "lm"])
def test_a_loaded_task_keeps_the_token_that_its_texts_start_with(tmp_path: Path, tune: str) -> None:
    plain = build_backbone("gpt2")
    other = plain.tokens.tokenizer.convert_ids_to_tokens(plain.tokens.ids("good")[0])
    marked = ptune.Backbone(plain.model, plain.tokens.tokenizer, name=plain.spec.name, text_start=other)
    rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")]
    words: dict = {"train": rows, "template": "{text}{soft:3} It was{mask}", "labels": {"good": ["good"], "bad": ["bad"]}}
    task = ptune.fit(**words, backbone=marked, steps=2, tune=tune)
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=plain)
    examples = task.examples(["a great day", "It was bad"])
    assert torch.allclose(task.scores(examples), loaded.scores(examples), atol=1e-5)


def test_loading_onto_a_loaded_backbone_is_quick(task: ptune.Task, tmp_path: Path) -> None:
    task.save(tmp_path / "bundle")
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        ptune.load(tmp_path / "bundle", backbone=task.model.backbone)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05


def test_saving_over_a_folder_of_something_else_is_refused(task: ptune.Task, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="not empty"):
        task.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(BundleError, match="a file of that name"):
        task.save(tmp_path / "mine" / "thesis.txt")
    task.save(tmp_path / "bundle")
    task.save(tmp_path / "bundle")  # a bundle may be replaced
    (tmp_path / "bundle" / "notes.md").write_text("what we tried")
    with pytest.raises(BundleError, match=r"holds 'notes\.md', which would be lost"):
        task.save(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "notes.md").read_text() == "what we tried"


def test_saving_to_a_linked_folder_and_to_the_working_folder(
    task: ptune.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        task.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and read_bundle(tmp_path / "real").card["task"]["labels"] == ["good", "bad"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    task.save(".")
    assert (tmp_path / "here" / "bundle.json").is_file()


@pytest.mark.parametrize("damage", ["card", "keys", "task", "format", "tensors", "prior", "gone"])
def test_damaged_bundles_are_named(task: ptune.Task, tmp_path: Path, damage: str) -> None:
    folder = task.save(tmp_path / "bundle")
    card = folder / "bundle.json"
    if damage == "card":
        card.write_text("{not json")
    elif damage == "keys":
        card.write_text("{}")
    elif damage == "task":
        card.write_text(json.dumps({**json.loads(card.read_text()), "task": {}}))
    elif damage == "prior":
        save_file({"rows": torch.zeros(3, 4)}, folder / "prompt.safetensors")
    elif damage == "format":
        card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))
    elif damage == "tensors":
        (folder / "prompt.safetensors").write_bytes(b"\x00" * 20)
    else:
        card.unlink()
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    assert str(folder) in str(caught.value)


def test_predictions_and_reports(task: ptune.Task) -> None:
    texts = ["the film was good", {"text": "the film was bad", "id": 7}]
    predictions = task.predict(texts)
    assert [sum(p.probabilities.values()) for p in predictions] == pytest.approx([1, 1], abs=1e-5)
    assert all(p.label == max(p.probabilities, key=p.probabilities.get) for p in predictions)
    assert task.predict([]) == []
    report = task.evaluate([{"text": "the film was good", "label": "good"}, {"text": "the film was bad", "label": "bad"}])
    assert report.num_rows == 2 and 0 <= report.accuracy <= 1 and report.to_dict()["labels"] == ("good", "bad")
    with pytest.raises(DataError, match="list of texts"):
        task.predict("one text")
    with pytest.raises(DataError, match="not one row"):
        task.predict({"text": "one row"})
    with pytest.raises(DataError, match="not one string"):
        next(task.stream("one text"))
    with pytest.raises(DataError, match="no rows to judge"):
        task.judge([])
    with pytest.raises(DataError, match="neither a text nor a row"):
        task.predict([3])
    with pytest.raises(DataError, match="row 2"):
        task.evaluate([{"text": "x", "label": "good"}, {"text": "y", "label": "ugly"}])


@pytest.mark.parametrize("judge", [ptune.Task.judge, inspect_task])
def test_rows_that_cannot_be_judged_are_named(task: ptune.Task, judge: Callable[[ptune.Task, list], object]) -> None:
    for row, words in (({"text": "x"}, "no label"), ({"text": "x", "label": "ugly"}, "unknown label 'ugly'")):
        with pytest.raises(DataError, match=f"row 2: .*{words}"):
            judge(task, ptune.read_examples([{"text": "y", "label": "good"}, row]))


def test_streaming_gives_the_same_as_predicting(task: ptune.Task) -> None:
    texts = [f"the film was {n}" for n in range(30)]
    for one, other in zip(task.stream(iter(texts)), task.predict(texts), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_predictions_do_not_depend_on_the_size_of_batches(task: ptune.Task) -> None:
    texts = [f"the film was {n}" for n in range(30)]
    for one, other in zip(task.predict(texts), task.predict(texts, batch_size=1), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_inspection_finds_the_words_that_a_prompt_starts_from() -> None:
    rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")]
    task = ptune.fit(
        train=rows,
        template='{text}{soft:"the story"} It was{mask}',
        labels={"good": ["good"], "bad": ["bad"]},
        backbone=build_backbone("gpt2"),
        steps=1,
        learning_rate=1e-6,
    )
    found = inspect_task(task, ptune.read_examples(rows, require_label=True))
    ids = task.model.backbone.tokens.ids("the story")
    assert [token.nearest[0][0] for token in found.tokens] == task.model.backbone.tokens.show(ids)
    assert all(token.nearest[0][1] == pytest.approx(1, abs=1e-3) and token.drop is not None for token in found.tokens)
    assert "It was{mask}" in found.drawing


def test_initialising_from_another_task(task: ptune.Task, tmp_path: Path) -> None:
    task.save(tmp_path / "source")
    method = {"name": "p-tuning", "init": "bundle", "init_bundle": str(tmp_path / "source")}
    rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")]
    words: dict = {"train": rows, "labels": {"good": ["good"], "bad": ["bad"]}, "method": method, "steps": 1}
    heir = ptune.fit(
        **words, template="{text}{soft:3} All in all it was{mask}", backbone=task.model.backbone, learning_rate=1e-9
    )
    assert torch.allclose(heir.model.prompt().rows, task.model.prompt().rows, atol=1e-6)
    with pytest.raises(ptune.PtuneError, match="3 rows"):
        ptune.fit(**words, template="{text}{soft:4} It was{mask}", backbone=task.model.backbone)
    with pytest.raises(ptune.PtuneError, match="learned on"):
        ptune.fit(**words, template="{text}{soft:3} It was{mask}", backbone=tiny_backbone("gpt2"))


ENSEMBLE = """
import sys, torch, ptune
from ptune.task import inspect_task
folder, model = sys.argv[1:]
backbone = ptune.load_backbone(model)
rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")]
words = {"train": rows, "template": "{text}{soft:3} It was{mask}", "labels": {"good": ["good"], "bad": ["bad"]}, "steps": 2}
task = ptune.fit(**words, backbone=backbone, candidates=2)
loaded = ptune.load(task.save(folder), backbone=backbone)
examples = task.examples(["a great day", "It was bad"])
assert torch.equal(task.scores(examples), loaded.scores(examples))
found = inspect_task(loaded, ptune.read_examples(rows))
assert [token.row for token in found.tokens] == list(range(6)) and all(token.drop is not None for token in found.tokens)
try:
    ptune.fit(**words, backbone=backbone, method={"name": "p-tuning", "init": "bundle", "init_bundle": folder})
except ptune.PtuneError as error:
    assert "an ensemble of 2 prompts" in str(error), error
else:
    raise AssertionError("an ensemble was taken for one prompt")
"""


def test_an_ensemble_is_saved_loaded_and_inspected(tmp_path: Path, gpt2_folder: Path) -> None:
    subprocess.run([sys.executable, "-c", ENSEMBLE, str(tmp_path / "bundle"), str(gpt2_folder)], check=True)
