"""The documentation's pages and the fenced blocks in them.

Run as a program, it copies every snippet file into the blocks that name it: python tests/docs/pages.py
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "PAGES", "READMES", "ROOT", "STRATEGIES", "Block", "blocks"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_OTHERS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md")
STRATEGIES = sorted((DOCS / "strategies").glob("*.md"))
PAGES = sorted([*DOCS.glob("*.md"), *STRATEGIES, *(ROOT / name for name in _OTHERS)])
READMES = sorted(ROOT.glob("README*.md"))

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"file=(\S+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, the file it is a copy of (or None), text."""

    page: Path
    language: str
    file: str | None
    text: str


def blocks(language: str, pages: Sequence[Path] = PAGES) -> list[Block]:
    """All blocks of a language, page by page."""
    found = []
    for page in pages:
        for info, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
            file = _FILE.search(info)
            if info.split(" ")[0] == language:
                found.append(Block(page, language, file[1] if file else None, text))
    return found


def refresh(page: Path) -> None:
    """Puts the current text of each snippet into the blocks that name it."""

    def current(match: re.Match[str]) -> str:
        file = _FILE.search(match[1])
        return f"```{match[1]}\n{(DOCS / file[1]).read_text(encoding='utf-8')}```" if file else match[0]

    page.write_text(_BLOCK.sub(current, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for page in PAGES:
        refresh(page)
