"""A tiny model on disk, a data set and a recipe for it, and a way to run the command line as a user does."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ptune.cli import main
from tiny import tiny_model, tiny_tokenizer

GOOD = ("The film was great", "I like this place", "good food and a great day", "What a good story", "The cast was great")
BAD = ("The plot was bad", "not good at all", "What a bad day", "the end was bad", "bad service and bad food")

RECIPE = """\
train: data
test: data
template: '{text}{soft:3} It was{mask}'
labels:
  positive: [great]
  negative: [bad]
method: p-tuning
backbone: model
steps: 4
batch_size: 4
"""


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]


Run = Callable[..., Ran]


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def rows_of(texts: tuple[str, ...], label: str) -> list[dict[str, object]]:
    return [{"text": text, "label": label} for text in texts]


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
