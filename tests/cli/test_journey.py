"""Whole journeys through the command line, on tiny models: what a user types, in the order of the handbook."""

import csv
import io
import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from command_line import Ran, Run
from ptune.data.tables import read_table

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def trained(desk: Path, ptune: Run) -> Path:
    assert ptune("train", "recipe.yaml", "--quiet").code == 0
    return desk / "runs" / "recipe" / "bundle"


def test_init_train_evaluate_predict_inspect(desk: Path, ptune: Run) -> None:
    made = ptune("init", "data", "--out", "mine.yaml", "--backbone", "model")
    assert made.code == 0 and "10 training rows, 2 labels" in made.out
    ran = ptune("train", "mine.yaml", "--set", "steps=5", "--set", "template={text}{soft:2} It was {mask}")
    assert ran.code == 0, ran.err
    for words in (
        "zero-shot",
        "prior corrected",
        "tuned",
        "judged on           test, 4 rows",
        "trained parameters",
        "5 steps",
        "peak memory",
    ):
        assert words in ran.out
    assert "runs/mine/bundle" in ran.out and "step 5/5" in ran.err
    judged = ptune("evaluate", "runs/mine/bundle", "data")
    assert judged.code == 0 and "accuracy" in judged.out and "true \\ predicted" in judged.out
    said = ptune("predict", "runs/mine/bundle", "The film was great", "a bad day")
    assert said.code == 0 and [line.split("  ")[2] for line in said.out.splitlines()] == ["The film was great", "a bad day"]
    seen = ptune("inspect", "runs/mine/bundle", "--data", "data")
    assert seen.code == 0 and "accuracy lost without" in seen.out and "[0~" in seen.out


def test_train_json_is_all_of_standard_output(desk: Path, ptune: Run) -> None:
    facts = ptune("train", "recipe.yaml", "--json").json
    assert facts["run"] == "runs/recipe" and facts["judged_on"] == "test" and facts["training"]["steps"] == 4
    assert facts["bundle_bytes"] == sum(file.stat().st_size for file in (desk / facts["bundle"]).iterdir())


def test_quiet_says_nothing_while_it_trains(desk: Path, ptune: Run) -> None:
    ran = ptune("train", "recipe.yaml", "--quiet")
    assert ran.code == 0 and "step" not in ran.err and "training" not in ran.err


def test_runs_get_the_next_free_folder_and_resume_takes_the_newest(desk: Path, ptune: Run) -> None:
    for name in ("runs/recipe", "runs/recipe-2"):
        assert ptune("train", "recipe.yaml", "--json", "--quiet").json["run"] == name
    assert ptune("train", "recipe.yaml", "--json", "--quiet", "--resume").json["run"] == "runs/recipe-2"


def test_ctrl_c_says_how_to_go_on_and_resuming_does(desk: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ptune("train", "recipe.yaml", "--json", "--out", "whole").json

    def stops(*, enabled: bool = True):
        def listen(event) -> None:
            if event.step == 3:
                raise KeyboardInterrupt

        return listen

    with monkeypatch.context() as patch:
        patch.setattr("ptune.train.progress", stops)
        ran = ptune("train", "recipe.yaml", "--set", "save_every=1", "--out", "cut")
    assert ran.code == 130
    assert "go on with: ptune train recipe.yaml --set save_every=1 --out cut --resume" in ran.err
    assert ptune("runs", "list", ".", "--json").json[0]["state"] == "stopped"
    resumed = ptune("train", "recipe.yaml", "--set", "save_every=1", "--out", "cut", "--resume", "--json").json
    assert resumed["training"]["last_loss"] == whole["training"]["last_loss"]
    assert resumed["tuned"] == whole["tuned"]


def test_ctrl_c_before_training_leaves_nothing(desk: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_, **__) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ptune.recipe.run", stops)
    ran = ptune("train", "recipe.yaml")
    assert ran.code == 130 and "nothing was written" in ran.err and not (desk / "runs").exists()


# -- predict ---------------------------------------------------------------------------------------------------------


def lines(ran: Ran) -> list[dict]:
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.removesuffix("\n").split("\n")]


def test_predict_reads_every_source_alike(trained: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["The film was great", 'a bad day, "quoted"', ""]
    Path("texts.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{text}\n" for text in texts)))
    from_file = lines(ptune("predict", trained, "texts.txt"))
    assert [row["text"] for row in from_file] == texts
    assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-5 for row in from_file)
    assert lines(ptune("predict", trained, "-", "--json")) == from_file
    assert lines(ptune("predict", trained, *texts, "--json")) == from_file


def test_a_line_of_text_ends_at_a_line_break_only(trained: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["page one\x0cpage two", "a film\u2028and more", "good"]
    Path("texts.txt").write_bytes("\r\n".join(texts).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode()), encoding="utf-8"))
    assert [row["text"] for row in lines(ptune("predict", trained, "texts.txt"))] == texts
    assert [row["text"] for row in lines(ptune("predict", trained, "-", "--json"))] == texts


def test_standard_input_is_read_in_the_encoding_that_is_named(
    trained: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def standard_input(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    standard_input("很好\n不好\n".encode("gb18030"))
    assert [row["text"] for row in lines(ptune("predict", trained, "-", "--json", "--encoding", "gb18030"))] == ["很好", "不好"]
    standard_input(b"\xef\xbb\xbfgood\n")
    assert [row["text"] for row in lines(ptune("predict", trained, "-", "--json"))] == ["good"]
    for options, words in (((), "standard input: byte 0xBA is not UTF-8"), (("--encoding", "gb19"), "unknown encoding 'gb19'")):
        standard_input("很好\n".encode("gb18030"))
        ran = ptune("predict", trained, "-", *options)
        assert ran.code == 2 and words in ran.error_lines[0]


def test_predict_never_writes_over_its_input(trained: Path, ptune: Run) -> None:
    before = Path("data/test.jsonl").read_bytes()
    for given in (Path("data/test.jsonl").resolve(), "data/../data/test.jsonl"):
        ran = ptune("predict", trained, given, "-o", "data/test.jsonl")
        assert ran.code == 2 and "the output is the input file" in ran.error_lines[0]
    assert Path("data/test.jsonl").read_bytes() == before


def test_predict_keeps_fields_and_the_label_that_was_given(trained: Path, ptune: Run) -> None:
    Path("rows.csv").write_text("id,review,label\n7,The film was great,negative\n8,bad,positive\n", encoding="utf-8")
    rows = lines(ptune("predict", trained, "rows.csv", "--columns", "review=text"))
    assert [(row["id"], row["text"], row["given_label"]) for row in rows] == [
        ("7", "The film was great", "negative"),
        ("8", "bad", "positive"),
    ]
    assert {row["label"] for row in rows} <= {"positive", "negative"}


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.tsv"])
def test_predict_writes_a_file(trained: Path, ptune: Run, name: str) -> None:
    facts = ptune("predict", trained, "data/test.jsonl", "-o", name, "--json").json
    expected = lines(ptune("predict", trained, "data/test.jsonl"))
    assert facts["rows"] == 4 and sum(facts["labels"].values()) == 4
    text = Path(name).read_text(encoding="utf-8")
    if name.endswith("jsonl"):
        assert [json.loads(line) for line in text.splitlines()] == expected
        return
    table = list(csv.DictReader(io.StringIO(text), delimiter="\t" if name.endswith("tsv") else ","))
    assert [row["label"] for row in table] == [row["label"] for row in expected]
    assert [row["given_label"] for row in table] == [row["given_label"] for row in expected]
    assert float(table[0]["probability of positive"]) == pytest.approx(expected[0]["probabilities"]["positive"], abs=1e-6)


def test_predict_leaves_the_old_file_when_it_fails(trained: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out.jsonl").write_text("old", encoding="utf-8")

    def cut_off():
        yield "good\n"
        raise OSError("the pipe broke")

    monkeypatch.setattr("sys.stdin", cut_off())
    assert ptune("predict", trained, "-", "-o", "out.jsonl").code == 1
    assert Path("out.jsonl").read_text() == "old" and not list(Path().glob(".out*"))


def test_predict_with_several_fields_takes_json(desk: Path, ptune: Run) -> None:
    rows = [{"first": "good", "second": "great", "label": "same"}, {"first": "good", "second": "bad", "label": "other"}] * 2
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = {"train": "pairs.jsonl", "template": "{first} {second}{soft} {mask}", "labels": {"same": "good", "other": "bad"}}
    Path("pairs.yaml").write_text(yaml.safe_dump({**recipe, "backbone": "model", "steps": 1}), encoding="utf-8")
    ran = ptune("train", "pairs.yaml")
    assert ran.code == 0 and "judged on           none" in ran.out
    given = '{"first": "a good day", "second": "a bad day"}'
    assert "a good day | a bad day" in ptune("predict", "runs/pairs/bundle", given).out
    refused = ptune("predict", "runs/pairs/bundle", "a good day")
    assert refused.code == 2 and '"second": "..."' in refused.err


# -- the rest --------------------------------------------------------------------------------------------------------


def test_evaluate_names_what_it_read_and_speaks_json(trained: Path, ptune: Run) -> None:
    facts = ptune("evaluate", trained, "data", "--split", "train", "--json").json
    assert facts["num_rows"] == 10 and set(facts["classes"]) == {"positive", "negative"}


@pytest.mark.parametrize("verb", [("evaluate",), ("inspect", "--data")])
def test_the_test_split_of_a_hub_data_set_is_judged(
    trained: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    tables = {name: partial(read_table, Path("data", f"{name}.jsonl")) for name in ("train", "test")}
    monkeypatch.setattr("ptune.data.readers.hub_tables", lambda source: tables)
    ran = ptune(verb[0], trained, *verb[1:], "hub:owner/reviews")
    assert ran.code == 0, ran.err
    assert verb[0] == "inspect" or ", 4 rows" in ran.out


def test_inspect_json_holds_card_and_tokens(trained: Path, ptune: Run) -> None:
    facts = ptune("inspect", trained, "--json").json
    assert facts["card"]["task"]["template"] == "{text}{soft:3} It was{mask}"
    assert len(facts["inspection"]["tokens"]) == 3 and facts["inspection"]["accuracy"] is None
    text = ptune("inspect", trained).out
    assert "positive (great)" in text and "p-tuning" in text and "accuracy lost without" not in text


def test_runs_list_show_diff(desk: Path, ptune: Run) -> None:
    assert ptune("train", "recipe.yaml", "--quiet").code == 0
    assert ptune("train", "recipe.yaml", "--quiet", "--set", "method.encoder=mlp", "--set", "steps=3").code == 0
    listed = ptune("runs", "list", "--json").json
    assert [(run["run"], run["steps"], run["state"]) for run in listed] == [
        ("recipe-2", 3, "finished"),
        ("recipe", 4, "finished"),
    ]
    assert "p-tuning" in ptune("runs", "list").out
    shown = ptune("runs", "show", "recipe-2").out
    assert "3 steps done, finished" in shown and "method.encoder" in shown and "tuned" in shown
    facts = ptune("runs", "diff", "recipe", "runs/recipe-2", "--json").json
    assert facts["recipe"] == {"method.encoder": [None, "mlp"], "steps": [4, 3]}
    assert facts["figures"]["steps"] == [4, 3]
    assert "method.encoder" in ptune("runs", "diff", "recipe", "recipe-2").out
    assert "the recipes are the same" in ptune("runs", "diff", "recipe", "recipe").out


def test_data_describe(desk: Path, ptune: Run) -> None:
    assert "train" in ptune("data", "describe", "data").out
    facts = ptune("data", "describe", "data/train.jsonl", "--backbone", "model", "--json").json
    assert facts["splits"]["data"]["num_rows"] == 10 and facts["splits"]["data"]["fields"]["text"]["tokens"]["max"] > 0


def test_models_and_library(ptune: Run) -> None:
    assert "smollm2-135m-q4" in ptune("models", "list").out
    assert ptune("models", "show", "minilm-l6", "--json").json["kind"] == "encoder"
    assert "Apache-2.0" in ptune("models", "show", "minilm-l6").out
    assert {entry["language"] for entry in ptune("template", "list", "--language", "zh", "--json").json} == {"zh"}
    assert "sentiment" in ptune("template", "list", "--task", "sentiment").out
    assert "great" in ptune("template", "show", "en/sentiment/it-was").out


def test_doctor(ptune: Run) -> None:
    facts = ptune("doctor", "--json").json
    assert facts["self_test_passed"] is True and facts["packages"]["torch"]
    assert "self test passed  yes" in ptune("doctor").out
