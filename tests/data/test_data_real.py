"""The real data sets of the workshop: every file reads, official shapes hold, and the findings are the known ones."""

import pytest

from ptune.data import describe, hold_out, label_set, load_splits, read_examples, sample_shots

# Rows as the README beside the data states them.
SHAPES = [
    ("sst2", ("text",), {"train": 2000, "validation": 872, "test": 1821}, 2),
    ("trec", ("text", "fine_label"), {"train": 2000, "validation": 500, "test": 500}, 6),
    ("banking77", ("text",), {"train": 2002, "validation": 462, "test": 2002}, 77),
    ("chnsenticorp_htl", ("text",), {"train": 1000, "validation": 200, "test": 1000}, 2),
    ("fewclue_ocnli", ("text_a", "text_b"), {"train": 160, "validation": 160, "test": 2520}, 3),
    ("fewglue_cb", ("text_a", "text_b"), {"train": 32, "validation": 32, "test": 56}, 3),
]


@pytest.mark.parametrize("name, fields, shape, num_labels", SHAPES, ids=[shape[0] for shape in SHAPES])
def test_shapes(shared_data, name, fields, shape, num_labels):
    splits = load_splits(shared_data / name, fields=fields, require_label=True)
    assert {split: len(rows) for split, rows in splits.items()} == shape
    assert len(label_set(splits["test"], label_set(splits["train"]).names)) == num_labels


def test_every_file_reads(shared_data):
    files = sorted(shared_data.glob("*/*.jsonl"))
    assert len(files) > 100
    for path in files:
        examples = read_examples(path, label=None)
        assert examples[-1].where.startswith(f"{path.name}:")


def test_official_few_shot_splits(shared_data):
    folder = shared_data / "fewclue_tnews"
    assert len(read_examples(folder, split="train_3")) == 240
    assert list(load_splits(folder)) == ["train", "validation", "test"]


def test_lists_and_nested_values(shared_data):
    example = read_examples(shared_data / "fewclue_chid", split="test")[0]
    assert isinstance(example.fields["choices"], tuple) and len(example.fields["choices"]) == 7
    answers = read_examples(shared_data / "cmrc2018", split="test")[0].fields["answers"]
    assert isinstance(answers, str) and answers.startswith('{"text": ["')


def test_shots_and_held_out_rows(shared_data):
    train = read_examples(shared_data / "banking77", split="train")
    labels = label_set(train)
    shots = sample_shots(train, 5, seed=0, labels=labels)
    assert len(shots) == 5 * 77
    rest, held = hold_out(shots, per_class=1, seed=0)
    assert (len(rest), len(held)) == (4 * 77, 77)


def test_no_test_text_is_in_training(shared_data):
    description = describe(load_splits(shared_data / "chnsenticorp_htl"), fields=["text"])
    assert not [overlap for overlap in description.overlaps if "test" in (overlap.first, overlap.second)]
    assert description.labels_not_in_train == {}


def test_chinese_reviews_as_gb18030(shared_data, tmp_path, caplog):
    raw = (shared_data / "chnsenticorp_htl" / "validation.jsonl").read_bytes()
    (tmp_path / "reviews.jsonl").write_bytes(raw.decode().encode("gb18030"))
    expected = read_examples(shared_data / "chnsenticorp_htl", split="validation")
    assert read_examples(tmp_path / "reviews.jsonl") == expected
    assert "read as GB18030" in caplog.text


def test_every_chinese_set_reads_as_chinese(shared_data):
    from ptune.data.encoding import _reads_like_chinese

    for path in shared_data.glob("fewclue_*/test.jsonl"):
        assert _reads_like_chinese(path.read_text(encoding="utf-8")), path
    for name in ("sst2", "e2e_nlg", "xquad_en"):
        assert not _reads_like_chinese((shared_data / name / "test.jsonl").read_text(encoding="utf-8")), name
