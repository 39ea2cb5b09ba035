"""What the pages say is so: snippets run, recipes are valid, keys, defaults, commands and links exist."""

import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pages import DOCS, PAGES, READMES, ROOT, STRATEGIES, Block, blocks
from ptune.backbone import catalogue
from ptune.model import task_class
from ptune.prompt import method_names, parse_method
from ptune.prompt.rate import EMBEDDING_SHARE, ENCODER_RATE
from ptune.recipe import Recipe

SNIPPETS = sorted((DOCS / "snippets").glob("*.py"))
KIND_OF_SNIPPET = {"linear_head": "bert"}  # as its own default is an encoder; all others run on the causal model
SECTIONS = ["When it helps", "When it does not", "Recipe", "Details", "Figures", "Source"]
"""Of a strategy's page; there may be no details."""
TABLE_ROW = re.compile(r"^\| `([\w.-]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_snippet_runs(path: Path, tiny_folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTUNE_SNIPPET_BACKBONE", tiny_folder(KIND_OF_SNIPPET.get(path.stem, "gemma3")))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
def test_snippet_stands_in_a_page(path: Path) -> None:
    assert any(block.file == f"snippets/{path.name}" for block in blocks("python"))


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"{block.page.stem}-{block.file}")
def test_python_block_is_its_file(block: Block) -> None:
    assert block.file is not None, "write the snippet as a file: ```python file=snippets/NAME.py"
    assert block.text == (DOCS / block.file).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.page.stem)
def test_yaml_block_is_a_recipe(block: Block) -> None:
    """A block that shows only some keys is completed by the demo's."""
    values = yaml.safe_load(block.text)
    needed = {"train": "x.csv", "template": "{text}{soft:4} It was{mask}", "backbone": "smollm2-135m-q4"}
    if "labels" not in values and task_class(values.get("task", "classification")).labels_are == "required":
        needed["labels"] = {"a": ["great"], "b": ["terrible"]}  # type: ignore[assignment]
    if any(name in str(values.get("method")) for name in ("hard", "prompt-tuning", "p-tuning-v2", "prefix-tuning")):
        needed["template"] = "{text} It was{mask}"
    Recipe.of({**needed, **values})


def test_every_key_of_the_recipe_is_explained_with_its_default() -> None:
    rows = {key: default for key, default, _ in TABLE_ROW.findall((DOCS / "recipe.md").read_text(encoding="utf-8"))}
    for key, field in Recipe.model_fields.items():
        assert key in rows, f"docs/recipe.md lacks {key}"
        assert rows[key] == ("required" if field.is_required() else f"`{_written(field.default)}`"), key


def test_every_method_and_key_of_a_method_is_explained() -> None:
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    for name in method_names():
        assert f"## {name}" in text
        for key in type(parse_method(name)).model_fields:
            assert f"`{key}`" in text, f"docs/methods.md lacks {name}'s {key}"
    assert all(f"{share:g}" in text for share in EMBEDDING_SHARE.values())
    assert f"{ENCODER_RATE:g}" in text


def test_every_model_of_the_catalogue_is_listed() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    for name, model in catalogue().items():
        assert f"`{name}`" in text
        assert model.licence in text


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", _prose(page)):
        if "://" not in target:
            to = page.parent / target if target else page
            assert to.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in _anchors(to), f"{page.name} links to {target}#{anchor}"


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings in an address."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_on_the_map() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in text


def test_every_strategy_is_reached_from_their_table() -> None:
    linked = re.findall(r"\]\(strategies/([\w-]+\.md)\)", (DOCS / "strategies.md").read_text(encoding="utf-8"))
    assert sorted(linked) == [page.name for page in STRATEGIES]


@pytest.mark.parametrize("page", STRATEGIES, ids=lambda page: page.stem)
def test_a_strategy_has_its_sections(page: Path) -> None:
    title, *sections = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    texts = dict(section.split("\n", 1) for section in sections)
    assert re.fullmatch(r"# [^\n]+\n\n\S.*", title, re.DOTALL), "a title, then what it does"
    assert list(texts) == [name for name in SECTIONS if name in texts or name != "Details"]
    assert all(text.strip() for text in texts.values())
    assert "```" in texts["Recipe"]


@pytest.mark.parametrize("page", STRATEGIES, ids=lambda page: page.stem)
def test_figures_of_a_strategy_are_of_ways_that_are_run(page: Path) -> None:
    """What stands in backquotes is a file of the benchmarks, or a way of the specs that are named."""
    if not (ROOT / "bench").is_dir():
        pytest.skip("an sdist has no benchmarks")
    text = page.read_text(encoding="utf-8").split("\n## Figures\n")[1].split("\n## ")[0]
    quoted = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", text)]
    files = [ROOT / words for words in quoted if words.startswith("bench/")]
    assert files and all(file.exists() for file in files)
    specs = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files if file.suffix == ".yaml"]
    ways = {way for spec in specs for way in spec.get("ways", {})}
    assert not specs or {words for words in quoted if not words.startswith("bench/")} <= ways


def test_commands_exist_with_their_options() -> None:
    typer = pytest.importorskip("typer")
    from ptune.cli import app

    root = typer.main.get_command(app)
    for block in [*blocks("bash"), *blocks("console", READMES)]:
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s[|]\s|&&", line.removeprefix("$ ")):
                words = shlex.split(part, comments=True)
                if words and words[0] == "ptune":
                    _check_command(root, words[1:], line)


def _check_command(command: Any, words: list[str], line: str) -> None:
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, line
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in known, line


def _written(value: object) -> str:
    """A default as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def test_the_chinese_tutorial_links_to_the_english_one_and_back() -> None:
    assert "(tutorial.md)" in (DOCS / "tutorial.zh-CN.md").read_text(encoding="utf-8")
    assert "(tutorial.zh-CN.md)" in (DOCS / "tutorial.md").read_text(encoding="utf-8")
