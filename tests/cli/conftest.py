"""A tiny model on disk, a data set and a recipe for it, and a way to run the command line as a user does."""

from pathlib import Path

import pytest

from command_line import BAD, GOOD, RECIPE, Ran, Run, rows_of, write_rows
from ptune.cli import main
from tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the saved tiny models `gpt2` and `llama`."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("gpt2", "llama"):
        model = tiny_model(kind)
        model.set_attn_implementation("eager")
        model.save_pretrained(folder / kind)
        tiny_tokenizer(kind).save_pretrained(folder / kind)
    return folder


@pytest.fixture
def ptune(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def desk(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a user with data, a model and a recipe."""
    folder = tmp_path / "desk"
    (folder / "data").mkdir(parents=True)
    rows = [row for pair in zip(rows_of(GOOD, "positive"), rows_of(BAD, "negative"), strict=True) for row in pair]
    write_rows(folder / "data" / "train.jsonl", rows)
    write_rows(folder / "data" / "test.jsonl", rows[:4])
    (folder / "model").symlink_to(models / "gpt2")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder
