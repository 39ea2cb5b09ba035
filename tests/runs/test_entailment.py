"""Labels that are asked for one by one: odds against binary tasks, the pairs of a training step, learning, files, bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ptune
from ptune.cli import main
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.model import Prediction, PromptModel
from ptune.model.entailment_model import EntailmentModel
from ptune.train import RunFolder, TrainEvent
from tiny import tiny_backbone

TEXTS = {"film": "a good film", "food": "the food", "day": "what a day", "place": "this place"}
TEMPLATE = "{text}{soft:2} : {choice}{mask}"
ROWS = [{"text": f"The {name} was {word}", "label": name} for word in ("good", "bad", "great") for name in TEXTS]
WORDS: dict[str, Any] = {
    "task": "entailment",
    "train": ROWS,
    "template": TEMPLATE,
    "labels": TEXTS,
    "yes_no": ["good", "bad"],
    "negatives": 2,
    "steps": 6,
    "batch_size": 4,
}
EXAMPLES = [Example({"text": row["text"]}, row["label"]) for row in ROWS]


def built(kind: str, **more: Any) -> EntailmentModel:
    words = {"template": TEMPLATE, "labels": list(TEXTS), "label_texts": TEXTS, "yes_no": ["good", "bad"], "seed": 3}
    method = {"name": "p-tuning", "init": "random"}
    return EntailmentModel.build(**{**words, "method": method, "backbone": tiny_backbone(kind), **more})


def binary_odds(kind: str, method: Any = None) -> torch.Tensor:
    """[N, C] of a binary classification with each label's text written into the template, one label at a time."""
    single = PromptModel.build(
        backbone=tiny_backbone(kind),
        template=TEMPLATE.replace("{choice}", "{topic}"),
        labels={"yes": "good", "no": "bad"},
        method=method or {"name": "p-tuning", "init": "random"},
        seed=3,
    )
    columns = []
    for text in TEXTS.values():
        scores = single.scores(single.prepare([Example({**one.fields, "topic": text}) for one in EXAMPLES]))
        columns.append(scores[:, 0] - scores[:, 1])
    return torch.stack(columns, 1)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_scores_are_the_odds_of_a_binary_task(kind: str) -> None:
    model, odds = built(kind), binary_odds(kind)
    torch.testing.assert_close(model.scores(model.prepare(EXAMPLES)), odds, rtol=1e-4, atol=1e-4)
    found = model.predict(EXAMPLES)
    assert all(isinstance(one, Prediction) for one in found)
    assert [one.label for one in found] == [list(TEXTS)[at] for at in odds.argmax(1).tolist()]
    expected = (odds.exp() / odds.exp().sum(1, keepdim=True)).tolist()
    for one, row in zip(found, expected, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(row, abs=1e-4)
    judged = model.judge(EXAMPLES)
    right = [one.label == row["label"] for one, row in zip(found, ROWS, strict=True)]
    assert judged.accuracy == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_training_step_asks_a_rows_own_label_and_some_others(kind: str) -> None:
    """The loss is binary cross-entropy over just these pairs, by hand from the odds of the binary task."""
    model, odds = built(kind, negatives=2), binary_odds(kind)
    prepared, index, seen = model.prepare(EXAMPLES), [5, 0, 7], set()
    torch.manual_seed(4)
    batch = model.batch(prepared, index)
    torch.manual_seed(4)
    again = model.batch(prepared, index)
    assert batch.counts == (3, 3, 3) and torch.equal(batch.targets, again.targets)  # type: ignore[attr-defined, arg-type]
    outcome = model(batch)
    assert outcome.scores.shape == (3, 3) and torch.equal(outcome.scores, model(again).scores)
    terms = []
    for row, number in enumerate(index):
        own = list(TEXTS).index(ROWS[number]["label"])
        assert batch.targets[row].sum() == 1  # type: ignore[attr-defined]
        for column, is_own in enumerate(batch.targets[row].tolist()):  # type: ignore[attr-defined]
            label = int((odds[number] - outcome.scores[row, column].item()).abs().argmin())
            assert (label == own) == is_own
            value = torch.sigmoid(odds[number, label].double()).item()
            terms.append(-torch.tensor(value if is_own else 1 - value).log().item())
    assert outcome.loss is not None and outcome.loss.item() == pytest.approx(sum(terms) / 9, abs=1e-4)
    for seed in range(12):  # other steps draw other labels, also for one row by itself
        torch.manual_seed(seed)
        scores = model(model.batch(prepared, [0])).scores[0]
        seen.add(frozenset(int((odds[0] - score.item()).abs().argmin()) for score in scores))
    own = list(TEXTS).index(ROWS[0]["label"])
    assert len(seen) == 3 and all(own in labels and len(labels) == 3 for labels in seen)  # two of three others: three ways
    with torch.no_grad():
        assert model(model.batch(prepared, index)).scores.shape == (3, 4)


def test_all_labels_are_asked_where_nothing_else_is_said() -> None:
    for negatives in (None, 3, 9):
        model = built("gpt2", negatives=negatives)
        assert model(model.batch(model.prepare(EXAMPLES), [0, 1])).scores.shape == (2, 4)
        assert model.facts() == {"negatives": 3}


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_question_is_learned_kept_and_asked_of_new_labels(kind: str, tmp_path: Path) -> None:
    few = [row for row in ROWS if row["label"] != "place"]
    task = ptune.fit(**{**WORDS, "train": few, "steps": 40}, backbone=tiny_backbone(kind), test=ROWS)
    assert task.facts["training"]["last_loss"] < task.facts["training"]["first_loss"]
    assert "macro_f1" in task.facts["tuned"] and "zero_shot" in task.facts and task.facts["negatives"] == 2
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    texts = ["a great day", "", "The food was bad"]
    assert [one.to_dict() for one in loaded.predict(texts)] == [one.to_dict() for one in task.predict(texts)]
    assert set(loaded.predict(texts)[0].probabilities) == set(TEXTS)
    assert loaded.evaluate(ROWS).accuracy == task.facts["tuned"]["accuracy"]


def test_kept_contexts_change_nothing() -> None:
    model = built("gpt2", negatives=1)
    kept, plain = model.prepare(EXAMPLES, keep_context=True), model.prepare(EXAMPLES)
    outcomes = []
    for rows in (kept, plain):
        torch.manual_seed(1)
        outcomes.append(model(model.batch(rows, [3, 1])))
    torch.testing.assert_close(outcomes[0].scores, outcomes[1].scores, rtol=1e-5, atol=1e-5)


class Stop(Exception):
    """Ends a run in the middle."""


def test_an_interrupted_run_asks_the_same_labels_again(tmp_path: Path) -> None:
    def stop(event: TrainEvent) -> None:
        if event.step == 4:
            raise Stop

    words = {**WORDS, "backbone": tiny_backbone("gpt2"), "save_every": 2}
    ptune.fit(**words, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ptune.fit(**words, out=tmp_path / "broken", listeners=[stop])
    ptune.fit(**words, out=tmp_path / "broken", resume=True)
    one, other = (
        [event["loss"] for event in RunFolder(tmp_path / name).events() if event["event"] == "step"]
        for name in ("whole", "broken")
    )
    assert one == other and len(one) == 6


def test_from_the_command_line_with_two_texts_and_a_head(tmp_path: Path, tiny_folder: Any, capsys: Any) -> None:
    rows = [{"first": row["text"], "second": "good", "label": row["label"]} for row in ROWS]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = {
        **WORDS,
        "train": "train.jsonl",
        "template": "{first} , {second}{soft:2} {choice}",
        "head": "linear",
        "hold_out": 1,
    }
    del words["yes_no"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**words, "backbone": tiny_folder("bert")}), encoding="utf-8")
    assert main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run" / "bundle"), str(tmp_path / "train.jsonl"), "--json"]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"template": "{text}{soft:2}{mask}"}, r"does not say where a label is asked for \(write \{choice\}"),
        ({"yes_no": None}, "nothing says how labels are judged"),
        ({"yes_no": ["good"]}, "give the word for yes and that for no"),
        ({"labels": ["film"]}, "fewer than two labels"),
        ({"labels": {**TEXTS, "day": ""}}, r"labels\.day: '' is no text"),
        ({"labels": {**TEXTS, "day": None}}, r"labels\.day: None is no text"),
        ({"labels": {**TEXTS, "day": []}}, r"labels\.day: '' is no text"),
        ({"labels": {**TEXTS, "day": [[]]}}, r"labels\.day: \[\] is no text"),
        ({"negatives": 0}, "negatives"),
        ({"task": "classification", "labels": {"film": "film", "food": "food"}}, "for task: .*entailment"),
        ({"train": [{"text": "a", "label": "sea"}]}, "unknown label 'sea'"),
        ({"calibration": "batch"}, "calibration is for task: classification"),
        ({"candidates": 2}, "trains one prompt at a time"),
        ({"head": "vectors"}, "head: vectors is not for task: entailment"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(keys: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(PtuneError, match=fault):
        ptune.fit(**{**WORDS, **keys}, backbone=tiny_backbone("gpt2"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
