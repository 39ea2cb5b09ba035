"""What the description says of rows of other kinds than classification: counts by hand, and the rows that cannot be used."""

import json

from ptune.data import describe, read_examples


def contents(rows):
    return describe({"train": read_examples(rows, label=None)}).contents.get("train")


def test_tagging():
    held = contents(
        [
            {"tokens": ["Anna", "met", "Bo"], "tags": ["B-PER", "O", "B-PER"]},
            {"tokens": ["in", "Oslo"], "tags": ["O", "B-LOC"]},
            {"tokens": ["yes"], "tags": ["O"]},
            {"tokens": ["no", "no"], "tags": ["O", "I-LOC"]},
            {"tokens": ["a", "b"], "tags": ["O"]},
        ]
    )
    assert (held.kind, held.counts) == ("tagging", {"tokens": 10, "spans": 4, "rows without spans": 2})
    assert list(held.spans.items()) == [("PER", 2), ("LOC", 2)]
    assert held.lines("train") == [
        "train looks like tagging: tokens 10, spans 4, rows without spans 2",
        "  spans by type: PER 2, LOC 2",
        "  rows with another number of tags than of tokens: 1 (row 5)",
        "  rows whose tags do not follow BIO: 1 (row 4)",
    ]
    assert contents([{"tokens": ["a"], "tags": ["NN"]}]).flaws == ()


def answer(text, start):
    return {"text": [text] if text else [], "answer_start": [start] if text else []}


def test_qa():
    rows = [
        {"context": "Anna met Bo.", "question": "Who?", "answers": answer("Bo", 9)},
        {"context": "Anna met Bo.", "question": "Who?", "answers": answer("Bo", 8)},
        {"context": "Anna met Bo.", "question": "When?", "answers": answer("", 0)},
        {"context": "Anna", "question": "Who?", "answers": {"text": ["Anna", "Ann"], "answer_start": [0, 0]}},
        {"context": "Anna", "question": "Who?", "answers": "Anna"},
        {"context": "Anna", "question": "Who?", "answers": {"text": ["Anna"], "answer_start": []}},
        {"context": "Anna", "question": "Who?", "answers": answer("na", -2)},
    ]
    held = contents(rows)
    assert (held.kind, held.counts) == ("qa", {"questions": 7, "without an answer": 1, "with several": 1})
    assert [(flaw.what[:40], flaw.places) for flaw in held.flaws] == [
        ("rows whose answers cannot be read", ("row 5", "row 6")),
        ("rows with an answer that does not stand ", ("row 2", "row 7")),
    ]


def test_choice():
    rows = [{"text": "x", "choices": ["a", "b", "c"][: 2 + number % 2], "answer": number} for number in range(4)]
    held = contents(rows)
    assert (held.kind, held.ranges) == ("choice", {"choices": (2, 2, 3)})
    assert held.counts == {"answer 0:": 1, "answer 1:": 1, "answer 2:": 1, "answer 3:": 1}
    assert [(flaw.num_rows, flaw.places) for flaw in held.flaws] == [(2, ("row 3", "row 4"))]
    assert held.lines("train")[0].endswith("answer 3: 1, choices 2 to 3 (median 2)")


def test_labels_of_choices_are_not_missed_in_training():
    splits = {name: read_examples([{"choices": [name, "x"], "answer": 0, "label": name}]) for name in ("train", "test")}
    assert describe(splits).labels_not_in_train == {}


def test_generation():
    held = contents([{"input": "a", "target": "four"}, {"input": "b", "target": " ", "references": ["x", "y"]}])
    assert (held.kind, held.ranges) == ("generation", {"characters of a target": (1, 1, 4), "references": (0, 0, 2)})
    assert [flaw.what for flaw in held.flaws] == ["rows with an empty target"]


def test_dialogue():
    good = {"prompt": "a", "response": "b"}
    held = contents([{**good, "history": [["c", "d"]]}, good, {"prompt": " ", "response": "b"}])
    assert (held.kind, held.ranges) == ("dialogue", {"replies": (1, 1, 2)})
    assert [(flaw.what, flaw.places) for flaw in held.flaws] == [("rows that are no dialogue", ("row 3",))]
    assert contents([{"messages": [{"role": "user", "content": "a"}]}]).ranges == {"replies": (0, 0, 0)}


def test_five_places_are_named_and_all_are_counted():
    (flaw,) = contents([{"target": ""}] * 7).flaws
    assert (flaw.num_rows, flaw.places) == (7, ("row 1", "row 2", "row 3", "row 4", "row 5"))


def test_it_is_part_of_the_description():
    description = describe({"train": read_examples([{"target": "x"}]), "test": read_examples([{"text": "x"}])})
    assert list(description.contents) == ["train"]
    assert "\n\ntrain looks like generation: characters of a target 1\n\n" in description.to_text()
    plain = description.to_dict()
    assert json.loads(json.dumps(plain))["contents"]["train"]["ranges"] == {"characters of a target": [1, 1, 1]}
    assert contents([{"text": "x"}]) is None
