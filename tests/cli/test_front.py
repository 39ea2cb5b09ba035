"""The front of the command line: help without torch, exit codes of the real program, notices, `ptune init`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from command_line import Run, write_rows
from ptune import __version__
from ptune.cli.draft import _FEW_ROWS, draft
from ptune.errors import RecipeError
from ptune.recipe import Recipe, read_recipe
from ptune.recipe.folds import _MOST_ROWS
from ptune.recipe.task_keys import kinds_with
from ptune.template import Template

HEAVY = ("torch", "transformers", "accelerate", "datasets", "pyarrow")
LIGHT_COMMANDS = (
    ["--help"],
    ["train", "--help"],
    ["plan", "--help"],
    ["models", "list"],
    ["runs", "list", "."],
    ["template", "list"],
    ["--version"],
)


@pytest.mark.parametrize("words", LIGHT_COMMANDS, ids=" ".join)
def test_light_commands_load_no_torch(words: list[str], tmp_path: Path) -> None:
    lines = (
        "import sys",
        "from ptune.cli import main",
        f"code = main({words!r})",
        f"print([m for m in {HEAVY!r} if m in sys.modules], code)",
    )
    code = "\n".join(lines)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert ran.stdout.splitlines()[-1] == "[] 0", ran


def test_data_init_loads_no_torch(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"text": "good", "label": "x"}, {"text": "bad", "label": "y"}])
    code = "import sys; from ptune.cli import main; main(['init', 'a.jsonl']); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert ran.stdout.splitlines()[-1] == "False", ran


def test_the_program_ends_with_the_exit_code(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "ptune", "train", "no.yaml"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.returncode == 2 and ran.stderr.startswith("error: no.yaml: there is no such recipe") and not ran.stdout


def test_help_names_every_verb(ptune: Run) -> None:
    ran = ptune("--help")
    assert ran.code == 0 and not ran.err
    verbs = "init plan train evaluate predict inspect export import data template models runs doctor"
    for verb in verbs.split():
        assert f"\n  {verb} " in ran.out
    assert ptune().out == ran.out


def test_version(ptune: Run) -> None:
    assert ptune("--version").out == f"ptune {__version__}\n"


def test_notices_go_to_standard_error(desk: Path, ptune: Run) -> None:
    text = '{"text": "很好", "label": "好"}\n{"text": "很不好", "label": "坏"}\n'
    Path("gbk.jsonl").write_bytes(text.encode("gb18030"))
    ran = ptune("data", "describe", "gbk.jsonl", "--json")
    assert ran.json["splits"] and ran.err.startswith("note: gbk.jsonl is not UTF-8")


def test_a_notice_is_given_once(tmp_path: Path, ptune: Run) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(["好评", "差评"], CHINESE))
    (tmp_path / "gbk.jsonl").write_bytes(text.encode("gb18030"))
    ran = ptune("init", tmp_path / "gbk.jsonl", "-o", tmp_path / "new.yaml")
    assert ran.code == 0 and ran.err.count("is not UTF-8") == 1


def test_data_without_the_label_column_is_noticed(desk: Path, ptune: Run) -> None:
    ran = ptune("data", "describe", "data", "--label", "sentiment")
    assert ran.code == 0 and ran.err.startswith("note: no row has a label in column 'sentiment'")
    assert "note" not in ptune("data", "describe", "data").err


# -- init ------------------------------------------------------------------------------------------------------------


def rows(labels: list[str], texts: list[str], number: int = 3) -> list[dict[str, object]]:
    return [{"text": f"{text} {i}", "label": label} for i in range(number) for label, text in zip(labels, texts, strict=True)]


ENGLISH = ["a good film", "a bad film"]
CHINESE = ["这部电影很好看", "这部电影很难看"]
INTENTS = ["AddToPlaylist", "book_flight", "cancel", "refund", "card", "card lost"]
PAIR = [
    {"text_a": f"the cat went {word}", "text_b": f"the dog sat {word}", "label": label}
    for word in ("down", "up", "there")
    for label in ("yes", "no")
]

DRAFTS = {
    "English reviews": (
        rows(["positive", "negative"], ENGLISH),
        "{text} It was {mask}",
        {"positive": ["great"], "negative": ["terrible"]},
    ),
    "English, pos and neg": (
        rows(["pos", "neg"], ENGLISH),
        "{text} It was {mask}",
        {"pos": ["great"], "neg": ["terrible"]},
    ),
    "English, 1 and 0": (rows(["1", "0"], ENGLISH), "{text} It was {mask}", {"1": ["great"], "0": ["terrible"]}),
    "Chinese reviews": (
        rows(["好评", "差评"], CHINESE),
        "{text}\n总体来说，很{mask}",
        {"好评": ["好"], "差评": ["差"]},
    ),
    "Chinese topics": (rows(["体育", "财经"], CHINESE), "{text} 类别：{mask}", {"体育": ["体育"], "财经": ["财经"]}),
    "a pair": (PAIR, "{text_a}\n{text_b} Relation:{mask}", {"yes": ["yes"], "no": ["no"]}),
    "six intents": (
        rows(INTENTS, [f"please {name} now" for name in INTENTS]),
        "{text} Category:{mask}",
        dict(
            zip(INTENTS, [["add to playlist"], ["book flight"], ["cancel"], ["refund"], ["card"], ["card lost"]], strict=True)
        ),
    ),
}


@pytest.mark.parametrize(("data", "template", "words"), DRAFTS.values(), ids=DRAFTS)
def test_init_writes_a_recipe_that_works(
    data: list[dict[str, object]], template: str, words: dict[str, list[str]], tmp_path: Path, ptune: Run
) -> None:
    write_rows(tmp_path / "rows.jsonl", data)
    (tmp_path / "sub").mkdir()
    ran = ptune("init", tmp_path / "rows.jsonl", "--out", tmp_path / "sub" / "new.yaml")
    assert ran.code == 0, ran.err
    recipe = read_recipe(tmp_path / "sub" / "new.yaml")
    assert str(Template.parse(recipe.template)) == str(Template.parse(template)) and recipe.learns_words
    assert {name: list(found) for name, found in recipe.verbalizer().words.items()} == words
    assert Path(recipe.train).resolve() == (tmp_path / "rows.jsonl").resolve() and recipe.test is None and recipe.shots is None
    assert recipe.backbone == (
        "gemma-3-270m-q4" if "电影" in str(data[0]["text" if "text" in data[0] else "text_a"]) else "smollm2-135m-q4"
    )
    assert recipe.terminator == ("." if "card lost" in words else "")


def test_init_lets_new_tokens_learn_from_many_rows(tmp_path: Path, ptune: Run) -> None:
    """Up to as many rows as `folds: auto` takes, the words in front of {mask} learn."""
    assert _FEW_ROWS == _MOST_ROWS
    for num_labels, template in ((39, "{text} Category:{mask}"), (40, "{text}{soft:8} Category:{mask}")):
        labels = [f"topic {number + 100}" for number in range(num_labels)]
        write_rows(tmp_path / "rows.jsonl", rows(labels, [f"a text on {label}" for label in labels], number=13))
        ran = ptune("init", tmp_path / "rows.jsonl", "-o", tmp_path / "new.yaml", "--force")
        assert ran.code == 0 and repr(template) in ran.out
        assert read_recipe(tmp_path / "new.yaml").learns_words == ("soft" not in template)


def test_words_learn_where_folds_can_say_how_far(tmp_path: Path) -> None:
    """Shots count, not all rows of the file; a label's only row, or no words in front of {mask}, leave it to new tokens."""
    write_rows(tmp_path / "train.jsonl", rows(["positive", "negative"], ENGLISH, number=300))
    drafted = draft(str(tmp_path))
    assert drafted.num_rows > _FEW_ROWS and drafted.shots == 16 and drafted.template == drafted.hard_template
    for changes in ({"fewest": 1}, {"hard_template": "{text}{mask}"}, {"shots": 257}):
        other = replace(drafted, **changes)
        assert other.template == drafted.soft_template and not other.learns_words


def test_init_takes_test_and_shots_from_a_folder(tmp_path: Path, ptune: Run) -> None:
    write_rows(tmp_path / "train.jsonl", rows(["positive", "negative"], ENGLISH, number=20))
    write_rows(tmp_path / "test.jsonl", rows(["positive", "negative"], ENGLISH))
    assert ptune("init", tmp_path, "-o", tmp_path / "new.yaml").code == 0
    recipe = read_recipe(tmp_path / "new.yaml")
    assert recipe.shots == 16 and Path(recipe.test) == tmp_path == Path(recipe.train)


def test_init_finds_label_and_text_by_other_names(tmp_path: Path, ptune: Run) -> None:
    data = [
        {"id": str(i), "my review": f"a {word} day {i}", "Sentiment": label}
        for i in range(3)
        for word, label in (("good", "pos"), ("bad", "neg"))
    ]
    write_rows(tmp_path / "rows.jsonl", data)
    assert ptune("init", tmp_path / "rows.jsonl", "-o", tmp_path / "new.yaml").code == 0
    recipe = read_recipe(tmp_path / "new.yaml")
    assert recipe.label == "Sentiment" and recipe.columns == {"my review": "text"}


def test_init_explains_every_key(tmp_path: Path, ptune: Run) -> None:
    write_rows(tmp_path / "rows.jsonl", rows(["positive", "negative"], ENGLISH))
    ptune("init", tmp_path / "rows.jsonl", "-o", tmp_path / "new.yaml")
    text = (tmp_path / "new.yaml").read_text(encoding="utf-8")
    missing = [key for key in Recipe.model_fields if f"{key}:" not in text]
    assert missing == []


def test_every_optional_key_can_be_uncommented(tmp_path: Path, ptune: Run) -> None:
    """A commented default is a value that the recipe takes (examples such as files and heads aside)."""
    write_rows(tmp_path / "rows.jsonl", rows(["positive", "negative"], ENGLISH))
    ptune("init", tmp_path / "rows.jsonl", "-o", tmp_path / "new.yaml")
    text = (tmp_path / "new.yaml").read_text(encoding="utf-8")
    keys = yaml.safe_load(text)
    for line in text.splitlines():
        name = line.removeprefix("# ").partition(":")[0]
        if (
            not line.startswith("# ")
            or name not in Recipe.model_fields
            or name in ("head", "pool", "patience", "keep_candidates", "out_of_scope", "temperature")
        ):
            continue
        values = {**keys, **yaml.safe_load(line.removeprefix("# "))}
        if "classification" in (kinds_with(name) or ("classification",)):
            Recipe.of(values)
        else:
            with pytest.raises(RecipeError, match=f"{name} is for task: "):
                Recipe.of(values)


def test_init_overwrites_only_with_force(desk: Path, ptune: Run) -> None:
    assert ptune("init", "data").code == 2
    assert ptune("init", "data", "--force").code == 0
    assert "drafted by" in Path("recipe.yaml").read_text()
