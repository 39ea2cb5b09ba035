"""What the tests of the command line share: texts, a recipe, and what a command leaves behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
