"""The model card of a bundle, read back by huggingface_hub, from cards of every kind and from a task that was trained."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import ptune
from ptune.bundle import MODEL_CARD, model_card, read_bundle
from ptune.objective import label_set_report, ordinal_report, span_report, tag_report, text_report
from tiny import tiny_backbone

BACKBONE = {"name": "smollm2-135m-q4", "kind": "decoder", "fingerprint": "ab" * 32, "text_start": None}
VERSIONS = {"torch": "2.13.0"}


def card_of(kind=None, report=None, **task):
    kinds = {} if kind is None else {"kind": kind}
    task = {"template": "{text}{soft:3}{mask}", "labels": [], "method": {"name": "p-tuning"}, "tune": "frozen"} | kinds | task
    figures = {} if report is None else {"tuned": report.to_dict(), "judged_on": "test"}
    return {"task": task, "backbone": BACKBONE, "versions": VERSIONS, **figures}


def results_of(text):
    return [(result.task_type, result.metric_type, result.metric_value) for result in ModelCard(text).data.eval_results or ()]


REPORTS = {
    "tagging": (tag_report([["B-PER", "O"]], [["B-PER", "B-PER"]]), "token-classification", ("f1", 0.6667)),
    "qa": (span_report(["a", "b"], [["a"], ["c"]]), "question-answering", ("f1", 0.5)),
    "multi-label": (label_set_report([["a"]], [["a", "b"]], ["a", "b"]), "text-classification", ("f1", 0.6667)),
    "regression": (ordinal_report([1, 2, 3], [1, 3, 2]), "text-classification", ("spearmanr", 0.5)),
    "generation": (text_report(["a b"], [["a c"]]), "text-generation", ("rouge", 0.5)),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_kinds_and_their_main_figures(kind):
    report, pipeline, main = REPORTS[kind]
    data = ModelCard(model_card(card_of(kind, report))).data
    assert (data.library_name, data.pipeline_tag) == ("ptune", pipeline)
    assert {"ptune", "p-tuning", kind} <= set(data.tags)
    assert results_of(model_card(card_of(kind, report)))[0] == (pipeline, *main)
    assert data.metrics[0] == main[0]


def test_a_trained_task_has_its_card(tmp_path: Path):
    rows = [{"text": f"a {word} day", "label": word} for word in ("good", "bad")] * 2
    words = {"good": ["good"], "bad": ["bad"]}
    task = ptune.fit(
        train=rows, test=rows, template="{text}{soft:3} It was{mask}", labels=words, backbone=tiny_backbone("llama"), steps=2
    )
    folder = task.save(tmp_path / "bundle")
    text = (folder / MODEL_CARD).read_text(encoding="utf-8")
    card = read_bundle(folder).card
    assert text == model_card(card)
    accuracy = round(card["tuned"]["accuracy"], 4)
    assert ("text-classification", "accuracy", accuracy) in results_of(text)
    assert "base_model" not in ModelCard(text).data.to_dict()  # a model built in memory has no place on the hub
    for part in ("{text}{soft:3} It was{mask}", "| good | good |", "| steps | 2 in ", "| training rows | 4 (fingerprint "):
        assert part in text
    task.save(folder)  # its own files, the card among them, may be replaced
    (folder / MODEL_CARD).write_bytes(b"\xff not text")  # and nothing reads the card back
    assert ptune.load(folder, backbone=tiny_backbone("llama")).labels == ("good", "bad")


def test_the_base_model_is_the_one_on_the_hub():
    assert ModelCard(model_card(card_of())).data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    other = card_of() | {"backbone": BACKBONE | {"name": "google/gemma-3-270m"}}
    assert ModelCard(model_card(other)).data.base_model == "google/gemma-3-270m"
    local = card_of() | {"backbone": BACKBONE | {"name": "/home/anna/models/gemma"}}
    text = model_card(local)
    assert ModelCard(text).data.base_model is None and "anna" not in text and "on gemma" in text


def test_labels_words_and_examples():
    verbalizer = {"words": {"good|bad": ["`fine`", "<b>"], "x": ["y"]}}
    card = card_of(labels=["good|bad", "x"], verbalizer=verbalizer)
    card["data"] = {"examples": {"good|bad": ["# Title\n| cell | <script>", "two", "three", "four"], "x": ["long " * 50]}}
    text = model_card(card)
    table = text[text.index("## Labels") :].splitlines()
    assert table[2] == "| label | label words | training examples |"
    assert table[4].startswith(r"| good\|bad | \`fine\`, &lt;b&gt; | \# Title \| cell \| &lt;script&gt;<br>two<br>three |")
    assert table[5].endswith("long … |") and len(table[5]) < 140
    many = model_card(card_of(labels=[str(number) for number in range(50)]))
    assert "| 39 |" in many and "| 40 |" not in many and "and 10 more in `bundle.json`" in many
    assert "## Labels" not in model_card(card_of())


def test_the_snippet_loads_what_is_named():
    text = model_card(card_of(template="{text_a} {text_b}{mask}"), source="anna/reviews")
    assert 'ptune.load("anna/reviews")' in text and '{"text_a": "...", "text_b": "..."}' in text
    assert 'task.predict(["..."])' in model_card(card_of())
    assert "predict(" in model_card(card_of(template=None))


@pytest.mark.parametrize(
    ("kind", "template", "row"),
    [
        ("tagging", "{soft:2}{tokens}", '{"tokens": ["...", "..."]}'),
        ("choice", "{text}{choice}{mask}", '{"text": "...", "options": ["...", "..."]}'),
        ("qa", "{question}{sep}{context}", '{"question": "...", "context": "..."}'),
        ("generation", "{input}{soft:3}{mask}", '"..."'),
        ("dialogue", "{messages}{mask}", '{"messages": [{"role": "user", "content": "..."}]}'),
    ],
)
def test_the_snippet_shows_a_row_of_the_kind(kind, template, row):
    columns = {"choices": "options", "answer": "answer"} if kind == "choice" else {}
    assert f"task.predict([{row}])" in model_card(card_of(kind, template=template, columns=columns))


def test_the_template_stays_whole():
    text = model_card(card_of(template="a ``` {text}\n---\n{mask}"))
    assert "````text\na ``` {text}\n---\n{mask}\n````" in text
    assert ModelCard(text).data.library_name == "ptune"


def test_weights_that_were_trained_are_mentioned():
    assert "the frozen model itself is not in it" in model_card(card_of())
    assert "(`tune: lm`)" in model_card(card_of(tune="lm"))


def test_log_and_settings():
    card = card_of()
    card["training"] = {"steps": 20, "seconds": 1.5, "best_step": 10, "stopped_early": True, "log": [{"step": 10, "loss": 0.5}]}
    card["training"]["log"].append({"step": 20, "loss": 0.25, "validation": 1.0})
    card["recipe"] = {"train": "/home/anna/rows.csv", "steps": 20, "method": {"name": "p-tuning", "encoder": "lstm"}}
    text = model_card(card)
    assert "| step | loss | validation |\n| --- | --- | --- |\n| 10 | 0.5000 |  |\n| 20 | 0.2500 | 1.0000 |" in text
    assert "| steps | 20 in 1.5 s, stopped early, best at 10 |" in text and "anna" not in text
    assert "'encoder': 'lstm'" in text


def test_figures_before_and_after():
    card = card_of() | {"zero_shot": {"accuracy": 0.5}, "tuned": {"accuracy": 0.75, "interval": [0.6, 0.85], "num_rows": 40}}
    text = model_card(card)
    assert "| template without training | 0.500 |" in text and "| trained | 0.750 |" in text
    assert "Judged on 40 test rows. 95 % interval of the accuracy: 0.600 to 0.850." in text
    assert "## Figures" not in model_card(card_of())
    choice = card_of("choice") | {"tuned": {"metric": "accuracy", "score": 0.75, "interval": [0.6, 0.85], "num_rows": 40}}
    assert "95 % interval of the accuracy: 0.600 to 0.850." in model_card(choice)


@pytest.mark.parametrize(("chosen", "shown"), [(2, "2 of 3"), (None, "all of 3")])
def test_the_candidate_that_was_kept(chosen, shown):
    card = card_of()
    card["training"] = {"candidates": [{"number": number} for number in (1, 2, 3)], "chosen": chosen}
    assert f"| candidate kept | {shown} |" in model_card(card)
