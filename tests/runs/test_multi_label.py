"""Any number of labels for each text: log-odds against the plain model, learning, thresholds, files, the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ptune
from ptune.cli import main
from ptune.data import Example
from ptune.errors import DataError, PtuneError
from ptune.model.multi_label_model import MultiLabelModel
from tiny import EXAMPLES, tiny_backbone

KINDS = ["bert", "gpt2", "t5"]
NAMES = ["film", "food", "bad"]
WAYS: dict[str, dict[str, Any]] = {
    "head": {"template": "{text}{soft:3}", "head": "linear"},
    "read": {"template": "{text}{soft:2} {choice}", "head": "linear"},
    "words": {"template": "{text}{soft:2} : {choice}{mask}", "yes_no": ["good", "terrible"]},
}


def rows(number: int = 12) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for at in range(number):
        labels = [name for bit, name in enumerate(NAMES) if at >> bit & 1]
        made.append({"text": " ".join(["The", *labels, "day", str(at)]), "label": labels if at % 2 else "|".join(labels)})
    return made


def words(way: str, kind: str, **more: Any) -> dict[str, Any]:
    given = {"task": "multi-label", "train": rows(), "test": rows(), "labels": NAMES, "backbone": tiny_backbone(kind)}
    return {**given, "steps": 3, **WAYS[way], **more}


def build(way: str, kind: str, **more: Any) -> MultiLabelModel:
    settings = {key: value for key, value in WAYS[way].items() if key != "head"}
    pool = {"bert": "cls", "gpt2": "last", "t5": "mean"}[kind] if way != "words" else None
    method = {"name": "p-tuning", "init": "random"}
    return MultiLabelModel.build(
        backbone=tiny_backbone(kind), labels=NAMES, pool=pool, method=method, seed=3, **settings, **more
    )


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "t5"])
def test_words_give_each_label_the_odds_of_a_binary_task(kind: str) -> None:
    """The log-odds of a label are those of classification with the label written into the template."""
    template = WAYS["words"]["template"]
    settings: dict[str, Any] = {"backbone": tiny_backbone(kind), "method": {"name": "p-tuning", "init": "random"}, "seed": 3}
    texts = {"food": "the service", "bad": "bad"}
    ours = MultiLabelModel.build(template=template, labels=NAMES, label_texts=texts, yes_no=["good", "terrible"], **settings)
    scores = ours.scores(ours.prepare([Example(example.fields) for example in EXAMPLES]))
    for number, text in enumerate(("film", "the service", "bad")):
        single = ptune.PromptModel.build(
            template=template.replace("{choice}", "{topic}"), labels={"yes": "good", "no": "terrible"}, **settings
        )
        examples = [Example({**example.fields, "topic": text}) for example in EXAMPLES]
        binary = single.scores(single.prepare(examples))
        torch.testing.assert_close(scores[:, number], binary[:, 0] - binary[:, 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_gives_each_label_an_output(kind: str) -> None:
    """The same scores as a classification head with the same weights; the loss is binary cross-entropy by hand."""
    ours = build("head", kind)
    classes = ptune.PromptModel.build(
        backbone=tiny_backbone(kind),
        template=WAYS["head"]["template"],
        labels=NAMES,
        pool=ours.pool,
        method=ours.method,
        seed=3,
    )
    with torch.no_grad():
        ours.head.linear.weight.copy_(torch.randn(ours.head.linear.weight.shape, generator=torch.Generator().manual_seed(1)))
    classes.head.load_state_dict(ours.head.state_dict())
    examples = ptune.read_examples(rows(4), label=None)
    prepared = ours.prepare(examples)
    outcome = ours(ours.batch(prepared, range(4)))
    torch.testing.assert_close(outcome.scores, classes.scores(classes.prepare(examples)), rtol=1e-4, atol=1e-5)
    probabilities = torch.sigmoid(outcome.scores.double())
    targets = torch.tensor([[name in row["text"].split() for name in NAMES] for row in rows(4)])
    by_hand = -torch.where(targets, probabilities.log(), (1 - probabilities).log()).mean()
    assert outcome.loss.item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_sets_are_learned(kind: str, way: str) -> None:
    task = ptune.fit(**words(way, kind, steps=30, learning_rate=0.1))
    training = task.facts["training"]
    assert training["last_loss"] < training["first_loss"] - 0.02
    assert task.facts["tuned"]["metric"] == "micro_f1" and ("zero_shot" in task.facts) == (way == "words")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_predictions_are_equal(kind: str, way: str, tmp_path: Path) -> None:
    task = ptune.fit(**words(way, kind, validation=rows(6)))
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    texts = [row["text"] for row in rows()]
    ours = task.predict(texts)
    assert ours == loaded.predict(texts) and loaded.labels == tuple(NAMES)
    assert task.facts["threshold"] == pytest.approx(loaded.model.facts()["threshold"])
    for one in ours:
        assert one.labels == tuple(name for name in NAMES if one.probabilities[name] > task.facts["threshold"])
    assert task.evaluate(rows()).to_dict() == loaded.evaluate(rows()).to_dict()


def test_the_threshold_is_that_of_the_validation_rows_unless_it_is_given() -> None:
    learned = ptune.fit(**words("head", "gpt2", validation=rows(6)))
    examples = ptune.read_examples(rows(6), label=None)
    scores = learned.model.scores(learned.model.prepare(examples, keep_context=True))  # as the run reads them, to the bit
    from ptune.readout import best_log_odds

    targets = torch.tensor([[name in row["text"].split() for name in NAMES] for row in rows(6)])
    assert learned.model.threshold == best_log_odds(scores, targets)[0]
    given = ptune.fit(**words("head", "gpt2", validation=rows(6), threshold=0.8))
    assert given.facts["threshold"] == pytest.approx(0.8)
    assert ptune.fit(**words("head", "gpt2")).facts["threshold"] == 0.5


def test_kept_contexts_give_the_same_scores() -> None:
    model = build("head", "gpt2")
    examples = ptune.read_examples(rows(), label=None)
    torch.testing.assert_close(
        model.scores(model.prepare(examples, keep_context=True)), model.scores(model.prepare(examples)), rtol=1e-4, atol=1e-5
    )


def test_a_label_that_no_row_has_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="ptune"):
        ptune.fit(**words("head", "gpt2", labels=[*NAMES, "music"]))
    assert "no training row has the label 'music'" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": [{"text": "a", "label": ["fod"]}]}, "row 1.*unknown label 'fod'.*did you mean 'food'"),
        ({"train": [{"text": "a"}]}, "'label' is missing"),
        ({"head": None}, "nothing says how labels are judged"),
        ({"labels": None}, "the key 'labels' is missing"),
        ({"labels": ["film"]}, "fewer than two labels"),
        ({"candidates": 2}, "trains one prompt at a time"),
        ({"aggregate": "max"}, "aggregate is for task: classification"),
        ({"yes_no": ["good"], "head": None, "template": "{text}{soft} {choice}{mask}"}, "yes_no is"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PtuneError, match=message):
        ptune.fit(**words("head", "gpt2", **change))


def test_rows_that_cannot_be_judged_are_named() -> None:
    task = ptune.fit(**words("head", "gpt2"))
    with pytest.raises(DataError, match="no 'label'"):
        task.judge([Example({"text": "a"})])
    with pytest.raises(DataError, match="unknown label 'x'"):
        task.evaluate([{"text": "a", "label": "x"}])


def test_the_command_line_shows_sets(
    tmp_path: Path, tiny_folder: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    renamed = [{"text": row["text"], "topics": row["label"]} for row in rows()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed), encoding="utf-8")
    recipe = {"task": "multi-label", "train": "rows.jsonl", "test": "rows.jsonl", "label": "topics", "hold_out": 4, "steps": 2}
    recipe |= {"backbone": tiny_folder("gpt2"), "labels": NAMES}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **WAYS["head"]}), encoding="utf-8")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert "judged on           test, 12 rows (micro f1)" in run("train", "recipe.yaml", "--out", "run", "--quiet")
    assert "micro-F1" in run("evaluate", "run/bundle", "rows.jsonl")
    assert run("predict", "run/bundle", "The film").rstrip().endswith("The film")
    results = [json.loads(line) for line in run("predict", "run/bundle", "rows.jsonl").splitlines()]
    assert all(set(result["labels"]) <= set(NAMES) and set(result["probabilities"]) == set(NAMES) for result in results)
    other = [{"text": row["text"], "kinds": row["label"]} for row in rows()]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other), encoding="utf-8")
    same = [run("evaluate", "run/bundle", "rows.jsonl"), run("evaluate", "run/bundle", "other.jsonl", "--label", "kinds")]
    assert same[0] == same[1]
