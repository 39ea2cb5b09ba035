"""Whatever is wrong with the input, one line says what, where and how to mend it; exit code 2; nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from command_line import RECIPE, Run

TRAIN = ("train", "recipe.yaml")


@dataclass(frozen=True)
class Case:
    """One mistake.

    Args:
        words: what the error line must say (what is wrong, where, what to do).
        command: what the user types.
        settings: keys given with --set.
        files: files that are written first; bytes, or text.
        swaps: texts of the recipe that are replaced first.
    """

    words: tuple[str, ...]
    command: tuple[str, ...] = TRAIN
    settings: tuple[str, ...] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    swaps: tuple[tuple[str, str], ...] = ()


def setting(text: str, *words: str) -> Case:
    return Case(words, settings=(text,))


def recipe(old: str, new: str, *words: str) -> Case:
    return Case(words, swaps=((old, new),))


def rows(text: str | bytes, *words: str) -> Case:
    return Case(words, settings=("train=rows.jsonl",), files={"rows.jsonl": text})


TEMPLATE = "template: '{text}{soft:3} It was{mask}'"
LABELS = "labels:\n  positive: [great]\n  negative: [bad]\n"
ROW = '{"text": "good", "label": "positive"}\n'

CASES = {
    # the recipe itself
    "missing recipe": Case(("no such recipe", "other.yaml", "ptune init"), ("train", "other.yaml")),
    "empty recipe": Case(("empty", "empty.yaml", "ptune init"), ("train", "empty.yaml"), files={"empty.yaml": ""}),
    "recipe that is a list": Case(("no mapping", "list.yaml"), ("train", "list.yaml"), files={"list.yaml": "- a\n"}),
    "recipe that is not text": Case(("cannot be read", "raw.yaml"), ("train", "raw.yaml"), files={"raw.yaml": b"\xff\xfe\x00"}),
    "broken YAML": recipe("steps: 4", "steps: [4", "no YAML", "recipe.yaml:", "check quotes"),
    "unquoted template": recipe(
        TEMPLATE, "template: {text}{soft:3} It was{mask}", "not quoted", "recipe.yaml:3", "template: '{text}"
    ),
    "template that YAML reads as a mapping": recipe(
        TEMPLATE, "template: {text}", "a mapping, not text", "template", "in quotes"
    ),
    "unknown key": recipe("steps: 4", "stepps: 4", "no key 'stepps'", "recipe.yaml", "did you mean 'steps'"),
    "missing key": recipe(TEMPLATE, "", "'template' is missing", "recipe.yaml", "ptune init"),
    "wrong type": setting("steps=many", "valid integer", "steps", "'many'"),
    "value out of range": setting("batch_size=0", "greater than or equal to 1", "batch_size"),
    "steps and epochs": setting("epochs=2", "steps and epochs exclude each other", "recipe.yaml", "give one"),
    "hold_out not below shots": Case(("hold_out (4) must be smaller than shots (4)",), settings=("shots=4", "hold_out=4")),
    "patience without validation": setting("patience=2", "patience needs validation rows", "hold_out"),
    "a key that stands twice": recipe("steps: 4", "steps: 4\nsteps: 5", "no YAML", "'steps' stands twice", "recipe.yaml:10"),
    "a key inside a number": setting("steps.x=3", "steps is 4, so no steps.x", "--set", "--set steps="),
    "required key set to null": setting("train=", "'train' is missing", "recipe.yaml"),
    "backbone set to null": setting("backbone=", "'backbone' is missing", "recipe.yaml"),
    "class weight below zero": setting("class_weights={positive: -1}", "greater than 0", "class_weights"),
    "--set without equals sign": setting("steps", "'steps' is not key=value", "--set", "seed=2"),
    # method
    "unknown method": setting("method=p-tunning", "no prompt method 'p-tunning'", "method", "did you mean p-tuning"),
    "unknown method option": setting("method.encodr=lstm", "method.encodr", "p-tuning has", "encoder"),
    "bad method option": setting("method.encoder=gru", "method.encoder", "'gru'"),
    "p-tuning without learned tokens": setting("template={text}{mask}", "no learned tokens, which p-tuning needs", "{soft:8}"),
    "learned tokens without a place": Case(
        ("no learned tokens, which p-tuning needs", "{soft:8}"), settings=("template={text} It was{mask}", "learn=tokens")
    ),
    "hard with learned tokens": setting("method=hard", "which hard does not take", "template", "take them out"),
    "prompt-tuning with learned tokens": setting("method=prompt-tuning", "which prompt-tuning does not take", "template"),
    # template
    "no answer slot": setting("template={text}{soft:3} It was", "no mask", "template", "add {mask}"),
    "another tool's mask": setting("template={text}{soft:3} It was [MASK]", "[MASK]", "template", "write {mask}"),
    "brace never closed": setting("template={text}{soft:3} It was{mask", "never closed", "template", "}"),
    "more learned tokens than positions": setting(
        "template={text}{soft:90} It was{mask}", "90 learned", "64 positions", "fewer soft"
    ),
    "max_length beyond positions": setting("max_length=512", "max_length is 512", "64 positions", "use at most 64"),
    "no field": setting("template=Hello{soft:3} It was{mask}", "no field", "template", "{text}"),
    "unknown library template": setting(
        "template=library:en/sentiment/itwas", "en/sentiment/itwas", "template", "did you mean"
    ),
    # label words
    "labels missing": recipe(LABELS, "", "'labels' is missing", "recipe.yaml"),
    "labels without words": recipe(LABELS, "labels: [positive, negative]\n", "labels is list", "labels", "head: linear"),
    "label with no words": recipe("[great]", "[]", "'positive' has no words", "labels.positive", "at least one"),
    "word that YAML reads as a truth value": recipe("[great]", "[true]", "True is no label word", "labels.positive", "quotes"),
    "a word given twice": recipe("[great]", "[bad]", "speaks for both 'positive' and 'negative'", "labels.negative", "once"),
    "one word begins another": recipe("[great]", "[bad day]", "is the beginning of", "labels", "terminator"),
    "one label name twice": recipe("  negative:", "  1: [bad]\n  '1':", "'1' stands twice", "recipe.yaml:7"),
    "a head with words in place of names": Case(
        ("labels is str, not a list of label names", "labels: ["), settings=("head=linear", "labels=positive")
    ),
    "a head with a name given twice": Case(
        ("label 'positive' is named twice", "labels"), settings=("head=linear", "labels=[positive, positive]")
    ),
    "a head with one name": Case(("fewer than two labels", "labels"), settings=("head=linear", "labels=[positive]")),
    "one label": recipe("  negative: [bad]\n", "", "at least two", "labels"),
    # data
    "data file missing": setting("train=data/trian.jsonl", "no such file", "trian.jsonl", "did you mean 'train.jsonl'"),
    "empty data file": rows("", "empty", "rows.jsonl", "add rows"),
    "field missing": rows(ROW + '{"txt": "bad", "label": "negative"}\n', "field 'text' is missing", "rows.jsonl:2", "txt"),
    "unknown label": rows(
        ROW + '{"text": "bad", "label": "negativ"}\n', "unknown label 'negativ'", "rows.jsonl:2", "'negative'"
    ),
    "label missing": rows(ROW + '{"text": "bad"}\n', "no label", "rows.jsonl:2", "label:"),
    "label that no row has": rows(ROW, "no row has the label 'negative'", "add rows"),
    "bytes that are no text": rows(
        ROW.encode() + b'{"text": "caf\xe9", "label": "positive"}\n', "0xE9", "rows.jsonl:2", "encoding:"
    ),
    "broken JSON": rows(ROW + '{"text": bad}\n', "invalid JSON", "rows.jsonl:2"),
    "too few rows for the shots": setting("shots=6", "fewer rows (5) than the shots asked for (6)", "lower shots to 5"),
    "test rows with an unknown label": Case(
        ("unknown label 'so-so'", "judged.jsonl:1"),
        settings=("test=judged.jsonl",),
        files={"judged.jsonl": '{"text": "good", "label": "so-so"}\n'},
    ),
    # backbone
    "unknown backbone": setting("backbone=smollm2-135m", "no model 'smollm2-135m'", "did you mean 'smollm2-135m-q4'"),
    "folder that is no model": setting("backbone=./data", "no config.json", "backbone"),
    "unknown device": setting("device=tpu9", "'tpu9'", "device", "use auto or cpu"),
    # where the run goes, and other verbs
    "run folder not empty": Case(("not empty", "data", "--resume"), ("train", "recipe.yaml", "--out", "data")),
    "run folder that is a file": Case(
        ("a file of that name", "recipe.yaml", "--out"), ("train", "recipe.yaml", "--out", "recipe.yaml")
    ),
    "nothing to resume": Case(("no run of recipe", "runs", "--resume"), ("train", "recipe.yaml", "--resume")),
    "bundle that is none": Case(("no bundle in data", "ptune train"), ("predict", "data", "good")),
    "broken bundle": Case(("cannot be read", "bundle.json"), ("inspect", "b"), files={"b/bundle.json": "{"}),
    "output of an unknown kind": Case(("out.xlsx", "--out", ".csv"), ("predict", "data", "good", "-o", "out.xlsx")),
    "file to predict that is missing": Case(("no such file", "tests.jsonl"), ("predict", "{bundle}", "tests.jsonl")),
    "columns without equals sign": Case(
        ("'review' is not OLD=NEW", "--columns"), ("data", "describe", "data", "--columns", "review")
    ),
    "data to describe that is missing": Case(
        ("no such file", "did you mean 'train.jsonl'"), ("data", "describe", "data/trian.jsonl")
    ),
    "recipe exists": Case(("exists already", "recipe.yaml", "--force"), ("init", "data")),
    "recipe that is a folder": Case(("a folder of that name", "data", "data/recipe.yaml"), ("init", "data", "-o", "data")),
    "label column that is not there": Case(
        ("no column 'labl'", "'text', 'label'", "did you mean 'label'"), ("init", "data", "-o", "new.yaml", "--label", "labl")
    ),
    "data without labels": Case(
        ("no column looks like a label", "--label"),
        ("init", "plain.jsonl", "-o", "new.yaml"),
        files={"plain.jsonl": '{"text": "a good day"}\n' * 3},
    ),
    "unknown model": Case(("no model 'minilm'", "did you mean 'minilm-l6'"), ("models", "show", "minilm")),
    "unknown template": Case(("no template", "did you mean"), ("template", "show", "en/sentiment/it-wass")),
    "unknown run": Case(("no run 'x'", "ptune runs list"), ("runs", "show", "x")),
    "unknown verb": Case(("No such command 'trian'", "--help"), ("trian", "recipe.yaml")),
    "unknown option": Case(("--stepps", "ptune train --help"), ("train", "recipe.yaml", "--stepps", "3")),
}


@pytest.fixture(scope="session")
def bundle(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained task on the tiny GPT-2."""
    from command_line import BAD, GOOD, rows_of
    from ptune import fit

    folder = tmp_path_factory.mktemp("run")
    task = fit(
        train=[*rows_of(GOOD, "positive"), *rows_of(BAD, "negative")],
        template="{text}{soft:3} It was{mask}",
        labels={"positive": ["great"], "negative": ["bad"]},
        backbone=str(models / "gpt2"),
        steps=1,
    )
    return task.save(folder / "bundle")


def listing(folder: Path) -> dict[str, float]:
    return {str(path.relative_to(folder)): path.stat().st_mtime for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(case: Case, desk: Path, ptune: Run, bundle: Path) -> None:
    text = RECIPE
    for old, new in case.swaps:
        assert old in text
        text = text.replace(old, new)
    (desk / "recipe.yaml").write_text(text, encoding="utf-8")
    for name, content in case.files.items():
        (desk / name).parent.mkdir(exist_ok=True)
        (desk / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = listing(desk)
    command = [word.format(bundle=bundle) for word in case.command]
    ran = ptune(*command, *(word for setting in case.settings for word in ("--set", setting)))
    assert ran.code == 2, ran
    assert len(ran.error_lines) == 1, ran.err
    for words in case.words:
        assert words in ran.error_lines[0]
    assert "parameters (" not in ran.err, "training had begun"
    assert listing(desk) == before
    assert not ran.out


def test_bundle_made_for_another_backbone_names_both(desk: Path, ptune: Run, bundle: Path, models: Path) -> None:
    ran = ptune("predict", bundle, "good", "--backbone", models / "llama")
    assert ran.code == 2 and len(ran.error_lines) == 1
    assert str(models / "gpt2") in ran.error_lines[0] and str(models / "llama") in ran.error_lines[0]


def test_the_place_in_a_template_is_drawn_below_the_error(desk: Path, ptune: Run) -> None:
    ran = ptune(*TRAIN, "--set", "template={text}{soft:3} It was{mask")
    error, line, caret = ran.err.splitlines()
    assert error.startswith("error: ") and line == "{text}{soft:3} It was{mask" and caret.index("^") == line.index("{mask")


def test_a_fault_of_ptune_is_one_line_and_a_hint(desk: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_, **__) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("ptune.recipe.run", fails)
    ran = ptune(*TRAIN)
    assert ran.code == 1 and ran.err.splitlines() == [
        "error: ptune failed: RuntimeError: two lines; `ptune --debug train ...` shows where"
    ]
    assert "Traceback" in ptune(*TRAIN, "--debug").err
