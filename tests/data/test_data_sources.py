"""Where rows come from: files, folders of splits, memory, and the hub (a local stand-in)."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import ptune.data
from ptune.data import Example, load_splits, nearest, read_examples
from ptune.data.hub import is_hub_id
from ptune.data.names import did_you_mean, listed

ROW = '{"text": "x", "label": "a"}\n'


# ---- files


def test_no_such_file(write, fails):
    path = write("train.jsonl", ROW)
    assert fails(read_examples, path.parent / "trian.jsonl") == (
        f"{path.parent / 'trian.jsonl'}: no such file (did you mean 'train.jsonl'?)"
    )
    assert "no such file (check the path" in fails(read_examples, path.parent / "zzz.parquet")
    missing = path.parent / "nowhere" / "a.csv"
    assert fails(read_examples, str(missing)).startswith(f"{missing}: no such file: the folder '{missing.parent}'")


def test_no_such_file_in_the_working_folder(write, fails, monkeypatch):
    monkeypatch.chdir(write("data/train.csv", "text\nx\n").parent.parent)
    assert fails(read_examples, "data/trian.csv") == "data/trian.csv: no such file (did you mean 'train.csv'?)"
    assert fails(read_examples, "data/train") == "data/train: no such file (did you mean 'train.csv'?)"
    assert fails(read_examples, "dta.csv").startswith("dta.csv: no such file")


def test_a_text_is_not_a_path(fails):
    assert "no such file" in fails(read_examples, "a great film, " * 500)
    assert "no such file" in fails(read_examples, "nul \0 byte")


def test_unsupported_suffix(write, fails):
    assert fails(read_examples, write("a.xlsx", b"PK")) == (
        "a.xlsx: '.xlsx' files cannot be read (save it as one of .csv, .tsv, .jsonl, .json, .parquet, .conll, .bio, .iob)"
    )
    assert "README: files without a suffix cannot be read" in fails(read_examples, write("README", "x"))


def test_suffix_in_capitals_and_tilde(write, monkeypatch):
    path = write("A.CSV", "text,label\nx,a\n")
    monkeypatch.setenv("HOME", str(path.parent))
    assert read_examples("~/A.CSV") == (Example({"text": "x"}, "a"),)


def test_split_of_a_single_file(write, fails):
    path = write("a.jsonl", ROW)
    assert fails(read_examples, path, split="train").startswith(f"{path}: there are no splits to choose 'train' from")
    assert fails(read_examples, ["x"], split="train").startswith("rows: there are no splits")


# ---- folders


@pytest.fixture
def folder(write) -> Path:
    for name in ("train", "dev", "test", "train_0"):
        write(f"set/{name}.jsonl", f'{{"text": "{name}", "label": "a"}}\n')
    write("set/labels.json", '["a"]')
    return write("set/README.md", "about").parent


@pytest.mark.parametrize(
    "split, text",
    [("train", "train"), ("validation", "dev"), ("dev", "dev"), ("VAL", "dev"), ("test", "test"), ("train_0",) * 2],
)
def test_a_split_of_a_folder(folder, split, text):
    assert read_examples(folder, split=split)[0].fields["text"] == text


def test_folder_without_split(folder, fails):
    assert fails(read_examples, folder) == (
        f"{folder}: a source with splits: 'train', 'validation', 'test', 'train_0' "
        "(say which one of them, for example split: train)"
    )


def test_unknown_split(folder, fails):
    assert fails(read_examples, folder, split="tset") == (
        f"{folder}: there is no split 'tset'; there are 'train', 'validation', 'test', 'train_0' (did you mean 'test'?)"
    )


def test_split_in_two_files(folder, write, fails):
    write("set/valid.csv", "text,label\nx,a\n")
    assert "split 'validation' stands in more than one file" in fails(read_examples, folder, split="dev")
    assert "split 'validation' stands in more than one file" in fails(load_splits, folder)
    assert read_examples(folder, split="train")


def test_folder_without_splits(write, fails):
    folder = write("set/reviews.csv", "text\nx\n").parent
    assert fails(read_examples, folder, split="train").startswith(
        f"{folder}: the folder has no splits: it holds 'reviews.csv' (name a file itself"
    )
    assert "it holds no data file" in fails(read_examples, write("none/readme.txt", "x").parent)


def test_load_splits(folder, write):
    splits = load_splits(folder, fields=["text"], require_label=True)
    assert list(splits) == ["train", "validation", "test"]
    assert splits["validation"][0].where == "dev.jsonl:1"
    assert load_splits(write("a.jsonl", ROW)) == {"data": (Example({"text": "x"}, "a"),)}
    assert load_splits(["x"]) == {"data": (Example({"text": "x"}),)}
    assert list(load_splits(write("folds/train_1.jsonl", ROW).parent)) == ["train_1"]


# ---- memory


def test_rows_in_memory():
    assert read_examples(["one", "two"])[1] == Example({"text": "two"})
    assert read_examples([{"text": "one", "label": 1}])[0].where == "row 1"
    assert len(read_examples({"text": str(number)} for number in range(3))) == 3


def test_examples_pass_through():
    example = Example({"text": "x"}, "a", "train.csv:9")
    for label in ("label", "sentiment"):
        again = read_examples([example], label=label)[0]
        assert again == example and again.where == "train.csv:9"


def test_what_is_not_rows(fails):
    assert fails(read_examples, []) == "there are no rows: the list is empty (pass at least one row)"
    assert "row 2: the row is a int" in fails(read_examples, ["x", 3])
    assert "a dict is not a source of rows" in fails(read_examples, {"text": ["x"]})
    assert "a int is not a source of rows" in fails(read_examples, 3)
    frame = type("Frame", (list,), {"to_dict": None, "columns": ["text"]})(["text"])
    assert 'pass frame.to_dict("records")' in fails(read_examples, frame)


# ---- hub


class StandInSplit:
    """As much of `datasets.Dataset` as is used: column names, features, iteration."""

    def __init__(self, rows, class_names=None):
        self.rows = rows
        self.column_names = list(rows[0]) if rows else []
        self.features = {name: SimpleNamespace() for name in self.column_names}
        if class_names:
            self.features["label"] = SimpleNamespace(names=class_names)

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture
def hub(monkeypatch):
    """Replaces the package `datasets`; records what was asked for."""
    asked = []
    splits = {
        "train": StandInSplit([{"text": "x", "label": 1}, {"text": "y", "label": 0}], ["bad", "good"]),
        "dev": StandInSplit([{"text": "z", "label": -1}], ["bad", "good"]),
        "none": StandInSplit([]),
    }

    def load_dataset(path, name=None):
        asked.append((path, name))
        if path == "owner/none":
            raise FileNotFoundError("Dataset 'owner/none' doesn't exist on the Hub\nsecond line")
        return splits

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


@pytest.mark.parametrize(
    "source, asked",
    [
        ("owner/name", ("owner/name", None)),
        ("name", ("name", None)),
        ("hub:owner/name", ("owner/name", None)),
        ("owner/name-v1.1", ("owner/name-v1.1", None)),
        ("nyu-mll/glue:sst2", ("nyu-mll/glue", "sst2")),
        ("hub:data.csv", ("data.csv", None)),
    ],
)
def test_hub_ids(hub, monkeypatch, tmp_path, source, asked):
    monkeypatch.chdir(tmp_path)
    examples = read_examples(source, split="train", fields=["text"])
    assert hub == [asked]
    assert examples == (Example({"text": "x"}, "good"), Example({"text": "y"}, "bad"))
    assert examples[1].where == f"{source.removeprefix('hub:')}[train] row 2"


def test_hub_splits(hub, monkeypatch, tmp_path, fails):
    monkeypatch.chdir(tmp_path)
    assert read_examples("owner/name", split="validation")[0].label is None
    assert list(load_splits("owner/name")) == ["train", "validation"]
    assert "owner/name: a source with splits: 'train', 'validation', 'none'" in fails(read_examples, "owner/name")
    assert "owner/name[none]: the split is empty" in fails(read_examples, "owner/name", split="none")
    assert "owner/name[train]: the header lacks column 'review'" in fails(
        read_examples, "owner/name", split="train", fields=["review"]
    )


def test_hub_failures(hub, monkeypatch, tmp_path, fails):
    monkeypatch.chdir(tmp_path)
    assert fails(read_examples, "owner/none", split="train") == (
        "there is no file or folder 'owner/none', and data set 'owner/none' cannot "
        "be loaded from the hub: Dataset 'owner/none' doesn't exist on the Hub "
        "(check the name (owner/name, or owner/name:config), the network and HF_ENDPOINT)"
    )
    assert "'a b' is not the id of a data set" in fails(read_examples, "hub:a b", split="train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert fails(read_examples, "owner/name") == (
        "there is no file or folder 'owner/name', and loading 'owner/name' from the hub needs the package datasets "
        "(check the path, or pip install ptune[hub])"
    )
    assert fails(read_examples, "hub:owner/name") == (
        "loading 'owner/name' from the hub needs the package datasets (pip install ptune[hub])"
    )


def test_an_existing_path_wins_over_a_hub_id(hub, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert read_examples("set", split="test")[0].fields["text"] == "test"
    assert not hub


def test_what_looks_like_a_hub_id():
    assert all(map(is_hub_id, ["imdb", "a/b", "a/b:c", "squad_v1.1", "hub:x.csv"]))
    assert not any(map(is_hub_id, ["a.csv", "a/b.txt", "./a", "~/a", "/a/b", "a/b/c", "a b", "C:\\x", ""]))


def test_the_real_datasets_package_fits_the_stand_in(monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_list([{"text": "x", "label": 1}], features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None: datasets.DatasetDict({"train": rows}))
    monkeypatch.chdir(tmp_path)
    assert read_examples("owner/name", split="train") == (Example({"text": "x"}, "yes"),)
    assert read_examples(rows)[0].label == "1"


# ---- names, front door


def test_nearest():
    assert nearest("positve", ["negative", "positive"]) == "positive"
    assert nearest("TEXT", ["text", "label"]) == "text"
    assert nearest("text", []) is None
    assert nearest("zebra", ["text"]) is None
    assert did_you_mean("zebra", ["text"], "check it") == "check it"


def test_listed():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed(map(str, range(10))).endswith("'7' and 2 more")


def test_every_public_name_exists_and_is_sorted():
    assert sorted(ptune.data.__all__) == ptune.data.__all__
    assert all(hasattr(ptune.data, name) for name in ptune.data.__all__)


def test_no_heavy_imports():
    import subprocess

    heavy = "{'torch', 'transformers', 'pyarrow', 'datasets', 'numpy'}"
    code = f"import sys, ptune.data; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
