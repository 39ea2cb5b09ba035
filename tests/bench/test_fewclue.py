"""bench/fewclue.py from spec to JSON on a tiny model: the way is chosen on dev files, and test scores are the task's own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("scipy")

import fewclue

import ptune
from ptune.task import Task
from tiny import EXAMPLES

LABELS = {"yes": ["good"], "no": ["bad"]}
WAYS = {
    "words": {"method": "hard", "template": "{text} It was{mask}"},
    "prompt": {"template": "{text}{soft:2} It was{mask}", "learning_rate": 0.5},
    "prompt, stopped": {"template": "{text}{soft:2} It was{mask}", "learning_rate": 0.5, "stops_on_dev": True},
    "layers": {"template": "{text} It was{mask}", "method": {"name": "p-tuning-v2", "num_tokens": 2, "placement": "behind"}},
}


@pytest.mark.parametrize("way", list(WAYS))
def test_prompts_that_share_contexts_score_as_each_alone(
    way: str, tiny_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fewclue, "ROWS_AT_ONCE", 3)
    backbone = ptune.load_backbone(tiny_folder("llama"))
    rows = tuple(EXAMPLES)
    keys = {key: value for key, value in WAYS[way].items() if key != "stops_on_dev"}
    tasks: list[Task] = [ptune.fit(train=rows, labels=LABELS, backbone=backbone, steps=6, seed=seed, **keys) for seed in (1, 2)]
    monkeypatch.setattr(Task, "evaluate", lambda *_, **__: pytest.fail("contexts are not shared"))
    scores = fewclue.test_scores(tasks, rows)
    monkeypatch.undo()
    assert scores == [task.evaluate(rows).score for task in tasks]


def test_candidates_that_nothing_learned_for_are_judged_once(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], str]
) -> None:
    rows = [{"text": "The film was", "choices": ["great", "bad"], "answer": at} for at in (0, 1)]
    keys = {"task": "choice", "template": "{text} It was{mask}", "method": "hard", "train": rows}
    backbone, asked = ptune.load_backbone(tiny_folder("llama")), []
    tasks = [ptune.fit(**keys, backbone=backbone, seed=seed) for seed in (1, 2)]
    plain = Task.evaluate
    monkeypatch.setattr(Task, "evaluate", lambda task, data: (asked.append(task), plain(task, data))[1])
    examples = ptune.data.read_examples(rows, label=None)
    scores = fewclue.test_scores(tasks, examples)
    assert len(asked) == 1 and scores == [plain(task, examples).score for task in tasks]


def test_a_spec_is_run_and_only_the_chosen_way_is_tested(
    tiny_folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fewclue_one"
    folder.mkdir()
    text = "\n".join(json.dumps({"text": row.fields["text"], "label": row.label}) for row in EXAMPLES) + "\n"
    for name in ("train_0", "train_1", "dev_0", "dev_1", "test"):
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    task = {"labels": LABELS, "published": {}, "ways": WAYS}
    spec = {"backbone": tiny_folder("llama"), "splits": [0, 1], "common": {"steps": 2}, "tasks": {"one": task}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    out = tmp_path / "out.json"
    words = ["f", str(tmp_path / "spec.yaml"), "--data", str(tmp_path), "--out", str(out), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", words)
    fewclue.main()
    content = json.loads(out.read_text(encoding="utf-8"))
    way = fewclue.chosen(content["runs"], "one")
    judged = [ptune.load(folder, backbone=tiny_folder("llama")).facts["judged_on"] for folder in (tmp_path / "work").iterdir()]
    assert judged.count("validation") == 2 and judged.count(None) == 6
    assert {(run["way"], run["split"]) for run in content["runs"]} == {(name, split) for name in WAYS for split in (0, 1)}
    assert all(("test" in run) == (run["way"] == way) for run in content["runs"])
    tested = [run["test"] for run in content["runs"] if "test" in run]
    assert content["summary"]["tasks"]["one"]["test"] == pytest.approx(100 * sum(tested) / 2, abs=0.05)
    monkeypatch.setattr(ptune, "fit", lambda **_: pytest.fail("it was done already"))
    fewclue.main()
