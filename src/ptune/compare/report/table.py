"""The table of all rows as HTML: sorted by accuracy, each cell with the value that it is sorted by.

In: a `Summary`, and the rows that stand out in the charts. Out: a string. Rows without figures stand at the end with the
reason.
"""

from collections.abc import Mapping
from html import escape

from ptune.compare.report.charts import interval_mark
from ptune.compare.report.words import both, html_of
from ptune.compare.results import Row, Summary
from ptune.compare.wording import PARADIGMS, file_size, points, title_in_chinese

__all__ = ["COLUMNS", "table"]

COLUMNS = (
    "method",
    "paradigm",
    "shots",
    "accuracy",
    "interval",
    "from_best",
    "macro_f1",
    "calibration",
    "train_seconds",
    "predict_seconds",
    "trained",
    "stored",
    "memory",
)
_TEXT_COLUMNS = ("method", "paradigm")


def table(summary: Summary, picks: Mapping[int, int]) -> str:
    """All rows.

    Args:
        summary: of the comparison.
        picks: row number -> colour, of those that stand out.
    """
    numbered = list(enumerate(summary.rows))
    done = sorted((one for one in numbered if one[1].accuracy), key=lambda one: (-one[1].shots, -one[1].mean))
    done.sort(key=lambda one: one[1].shots != summary.main_shots)  # what all methods have comes first
    rest = [one for one in numbered if not one[1].accuracy]
    lows = [row.accuracy.low for _, row in done if row.accuracy]
    axis = (max(0.0, min(lows, default=0.0) - 0.02), 1.0)
    lines = [_line(number, row, summary, picks, axis) for number, row in done]
    lines += [_reason_line(number, row) for number, row in rest]
    return f'<table id="rows"><thead><tr>{_head()}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _head() -> str:
    cells = ['<th scope="col" class="pick"></th>']
    for name in COLUMNS:
        if name == "interval":
            cells.append(f'<th scope="col" class="wide">{both(name)}</th>')
            continue
        kind = "text" if name in _TEXT_COLUMNS else "number"
        order = ' aria-sort="descending"' if name == "accuracy" else ""
        cells.append(
            f'<th scope="col" class="{kind}"{order}><button type="button" data-sort="{kind}">{both(name)}</button></th>'
        )
    return "".join(cells)


def _line(number: int, row: Row, summary: Summary, picks: Mapping[int, int], axis: tuple[float, float]) -> str:
    assert row.accuracy is not None
    rows = summary.of_shots(row.shots)
    best = rows[0].mean
    floor = next((other.mean for other in rows if other.method == "majority"), axis[0])
    spread = "" if row.accuracy.deviation is None else f" <small>± {row.accuracy.deviation:.3f}</small>"
    span = f"{row.accuracy.low:.3f} – {row.accuracy.high:.3f}"
    cells = [
        _cell("paradigm", html_of(PARADIGMS[row.paradigm]), list(PARADIGMS).index(row.paradigm)),
        _cell("shots", str(row.shots), row.shots),
        _cell("accuracy", f"<b>{row.mean:.3f}</b>{spread}", row.mean),
        f'<td class="wide" data-name="interval">{interval_mark(row, best, floor, axis)}<small>{span}</small></td>',
        _cell("from_best", _difference(row), 0.0 if row.from_best is None else row.from_best.mean),
        _cell("macro_f1", f"{row.macro_f1:.3f}", row.macro_f1),
        _cell("calibration", f"{row.calibration_error:.3f}", row.calibration_error),
        _cell("train_seconds", _seconds(row.train_seconds), row.train_seconds),
        _cell("predict_seconds", _seconds(row.predict_seconds), row.predict_seconds),
        _cell("trained", f"{row.num_trained:,}", row.num_trained),
        _cell("stored", file_size(row.num_bytes), row.num_bytes),
        _cell("memory", f"{row.memory_mb:,}", row.memory_mb),
    ]
    return f"<tr{_attributes(number, row)}>{_pick(number, row, picks)}{_name(row)}{''.join(cells)}</tr>"


def _reason_line(number: int, row: Row) -> str:
    cells = [
        _cell("paradigm", html_of(PARADIGMS[row.paradigm]), list(PARADIGMS).index(row.paradigm)),
        _cell("shots", str(row.shots), row.shots),
    ]
    reason = f'<td class="reason" colspan="{len(COLUMNS) - 3}" data-v=""><i>{both("reason")}:</i> {escape(row.reason)}</td>'
    return f'<tr class="none"{_attributes(number, row)}><td class="pick"></td>{_name(row)}{"".join(cells)}{reason}</tr>'


def _attributes(number: int, row: Row) -> str:
    model = escape(row.backbone, quote=True)
    return f' data-row="{number}" data-shots="{row.shots}" data-paradigm="{row.paradigm}" data-model="{model}"'


def _pick(number: int, row: Row, picks: Mapping[int, int]) -> str:
    """A box that makes the row stand out in the charts; its colour is that of its marks."""
    colour = f' style="--mark: var(--c{picks[number]})"' if number in picks else ""
    checked = " checked" if number in picks else ""
    label = escape(f"{row.title} {row.backbone} {row.shots}", quote=True)
    return f'<td class="pick"{colour}><input type="checkbox" data-pick="{number}" aria-label="{label}"{checked}></td>'


def _name(row: Row) -> str:
    note = f' <small class="note" title="{escape(row.reason, quote=True)}">*</small>' if row.reason and row.accuracy else ""
    model = f'<small class="model">{escape(row.backbone)}</small>' if row.backbone else ""
    title = html_of((row.title, title_in_chinese(row)))
    sort = escape(f"{row.title} {row.backbone}", quote=True)
    return f'<th scope="row" data-v="{sort}">{title}{note}{model}</th>'


def _cell(name: str, text: str, value: float) -> str:
    return f'<td data-name="{name}" data-v="{value:.6g}">{text}</td>'


def _difference(row: Row) -> str:
    if row.is_best:
        return f'<span class="verdict best">{both("best")}</span>'
    if row.from_best is None:  # no seed in common
        return "–"
    verdict = row.from_best.verdict
    span = f"{points(row.from_best.low)} – {points(row.from_best.high)}"
    kind = verdict.replace(" ", "-")
    return f'<span class="verdict {kind}" title="{span}">{100 * row.from_best.mean:+.1f} <small>{both(verdict)}</small></span>'


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
