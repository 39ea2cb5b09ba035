"""Writes a comparison's report into its folder: `report.html`, `report.md`, `report.zh-CN.md` and `results.json`."""

import json
from pathlib import Path

from ptune.compare.recommendation import Recommendation
from ptune.compare.report.markdown import markdown
from ptune.compare.report.page import page
from ptune.compare.results import Summary
from ptune.train import replace

__all__ = ["write_report"]


def write_report(summary: Summary, advice: Recommendation, folder: Path) -> Path:
    """Writes all forms and returns the page's path.

    Args:
        summary: of the comparison.
        advice: what follows from it.
        folder: of the comparison.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {**summary.to_dict(), "recommendation": advice.to_dict()}
    replace(folder / "results.json", (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())
    replace(folder / "report.md", markdown(summary, advice, "en").encode())
    replace(folder / "report.zh-CN.md", markdown(summary, advice, "zh").encode())
    replace(folder / "report.html", page(summary, advice).encode())
    return folder / "report.html"
