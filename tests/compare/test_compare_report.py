"""The report: whole, without network, in both languages, safe against its texts; opened in a browser where there is one."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ptune.compare import recommend, write_report
from ptune.compare.calibration import calibration_error, reliability
from ptune.compare.report.charts import cost_chart, curve_chart
from ptune.compare.report.page import NUM_COLOURS, page, picks_of
from ptune.compare.report.words import WORDS, html_of
from ptune.compare.results import Row, Summary
from summaries import make_row, make_summary

VOID = {"meta", "link", "br", "input"}


class Checker(HTMLParser):
    """Every tag is closed, no address points outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[key]) for key in ("src", "href") if values.get(key)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def many() -> Summary:
    """Forty methods with two numbers of shots, one without figures."""
    rows: list[Row] = []
    for shots in (4, 16):
        rows += [
            make_row(
                f"m{at}",
                0.9 - at / 100,
                shots=shots,
                is_best=at == 0,
                from_best=None if at == 0 else make_row("", 0.5).from_best,
            )
            for at in range(40)
        ]
        rows.append(Row("broken", "broken <one>", "fine-tuning", "small-model", shots, reason='it "failed" & stopped'))
    return make_summary(*rows)


def test_the_page_is_whole_and_needs_no_network(many: Summary) -> None:
    text = page(many, recommend(many))
    checker = Checker()
    checker.feed(text)
    assert not checker.open and len(set(checker.ids)) == len(checker.ids)
    assert checker.links == ["data:,"] and not re.search(r"https?://", text)
    for number in range(len(many.rows)):
        none = ' class="none"' if many.rows[number].accuracy is None else ""
        assert f'<tr{none} data-row="{number}"' in text
    assert text.count('<svg class="chart"') == 5 and text.count('<details class="card"') == 40


def test_texts_and_names_are_escaped(many: Summary) -> None:
    text = page(many, recommend(many))
    assert "a &lt;b&gt;bold&lt;/b&gt; text" in text and "<b>bold" not in text
    assert "it &quot;failed&quot; &amp; stopped" in text and "broken &lt;one&gt;" in text


def test_both_languages_stand_in_the_page(many: Summary) -> None:
    english, chinese = page(many, recommend(many)), page(many, recommend(many), language="zh")
    assert 'data-language="en"' in english and 'data-language="zh"' in chinese and '<html lang="zh-CN"' in chinese
    assert all(text for pair in WORDS.values() for text in pair)
    assert html_of(("a < b", "甲")) == '<span class="en" lang="en">a &lt; b</span><span class="zh" lang="zh-CN">甲</span>'
    assert html_of(("same", "same")) == "same"


def test_few_rows_stand_out(many: Summary) -> None:
    advice = recommend(many)
    picks = picks_of(many, advice)
    assert advice.row is not None and len(picks) <= NUM_COLOURS and len(set(picks.values())) == len(picks)
    assert many.rows[next(iter(picks))] is advice.row


def test_marks_lie_where_their_numbers_are() -> None:
    rows = [(0, make_row("a", 0.5, train_seconds=1.0)), (1, make_row("b", 0.9, train_seconds=100.0))]
    chart = cost_chart(rows, lambda row: row.train_seconds, "cost", "s")
    (x0, y0), (x1, y1) = (tuple(map(float, one)) for one in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart))
    assert x1 > x0 and y1 < y0
    grid = {float(value): float(y) for y, value in re.findall(r'y2="([\d.]+)"/><text class="side"[^>]*>([\d.]+)', chart)}
    assert y0 == pytest.approx(grid[0.5], abs=0.1) and y1 == pytest.approx(grid[0.9], abs=0.1)
    curve = curve_chart([[(0, make_row("a", 0.5, shots=4)), (1, make_row("a", 0.7))]], (4, 16), "curve")
    assert curve.count("<circle") == 2 and 'data-row="1"' in curve


def test_all_forms_are_written(many: Summary, tmp_path: Path) -> None:
    path = write_report(many, recommend(many), tmp_path / "new")
    assert path.name == "report.html"
    assert {one.name for one in path.parent.iterdir()} == {"report.html", "report.md", "report.zh-CN.md", "results.json"}
    english, chinese = ((path.parent / name).read_text(encoding="utf-8") for name in ("report.md", "report.zh-CN.md"))
    assert english.startswith("# reviews: Comparison") and chinese.startswith("# reviews: 方法比较")
    for text in (english, chinese):
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 2 * 42 and len({line.count("|") for line in lines}) == 1
    assert 'it "failed" & stopped' in english


def test_a_report_without_any_figures(tmp_path: Path) -> None:
    empty = make_summary(Row("x", "x", "prompting", "m", 16, reason="no time left"), texts=())
    path = write_report(empty, recommend(empty), tmp_path)
    assert "no time left" in path.read_text(encoding="utf-8")


def test_reliability_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.45, 0.55], [0.4, 0.6]])
    bins = reliability(probabilities, np.array([0, 1, 1, 1]))
    assert [(one.num_rows, round(one.confidence, 3), one.accuracy) for one in bins] == [
        (1, 0.55, 1.0),
        (1, 0.6, 1.0),
        (2, 0.935, 0.5),
    ]
    assert calibration_error(bins) == pytest.approx((0.45 + 0.4 + 2 * 0.435) / 4)
    assert reliability(np.array([[1.0, 0.0]]), np.array([0]))[0].high == 1.0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no browser here")
def test_a_browser_finds_no_fault(many: Summary, tmp_path: Path) -> None:
    """Headless Chromium runs the page's script: other shots are hidden, marks picked, no complaints."""
    path = write_report(many, recommend(many), tmp_path)
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=3000",
    ]
    ran = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in ran.stderr and "Uncaught" not in ran.stderr
    assert ran.stdout.count('hidden=""') == 41 and 'class="mark on"' in ran.stdout
