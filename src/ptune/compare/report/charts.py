"""Charts as SVG text: intervals, learning curves, accuracy against cost, steps, confusion matrices, reliability diagrams.

In: rows of a `Summary`. Out: strings to be put into the page. Every mark of a row carries its number (`data-row`), so that the
page can make picked rows stand out and all others grey; nothing depends on scripts to be seen.
"""

from collections.abc import Callable, Sequence
from html import escape
from math import floor, log10

from ptune.compare.results import Row
from ptune.compare.wording import file_size, row_name

__all__ = ["confusion_chart", "cost_chart", "curve_chart", "interval_mark", "reliability_chart", "steps_chart"]

Numbered = tuple[int, Row]
_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 12, 34
_MOST_CLASSES = 20


def interval_mark(row: Row, best: float, floor_accuracy: float, axis: tuple[float, float]) -> str:
    """A row's interval and mean on one line, with the best and the majority label as guides.

    Args:
        row: with figures.
        best: accuracy of the best row.
        floor_accuracy: of the majority label.
        axis: accuracies at the left and right end.
    """
    assert row.accuracy is not None
    width, height = 150, 18
    at = _scale(axis, (2, width - 2))
    found = row.accuracy
    return (
        f'<svg class="interval" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f'<line class="guide" x1="{at(floor_accuracy):.1f}" x2="{at(floor_accuracy):.1f}" y1="0" y2="{height}"/>'
        f'<line class="guide best" x1="{at(best):.1f}" x2="{at(best):.1f}" y1="0" y2="{height}"/>'
        f'<line class="span" x1="{at(found.low):.1f}" x2="{at(found.high):.1f}" y1="9" y2="9"/>'
        f'<circle cx="{at(found.mean):.1f}" cy="9" r="4"/></svg>'
    )


def curve_chart(lines: Sequence[Sequence[Numbered]], shots: Sequence[int], title: str) -> str:
    """Accuracy against shots: one line for a method on a model.

    Args:
        lines: rows of one method and model, by shots; the number is that of its row in the table.
        shots: on the axis.
        title: for those who cannot see it.
    """
    rows = [row for line in lines for _, row in line]
    axis = _axis([value for row in rows if row.accuracy for value in (row.accuracy.low, row.accuracy.high)])
    x = {shot: _LEFT + (at + 0.5) * (_WIDTH - _LEFT - _RIGHT) / len(shots) for at, shot in enumerate(shots)}
    y = _scale(axis, (_HEIGHT - _BOTTOM, _TOP))
    parts = [_grid(axis, y), *(_tick(x[shot], str(shot)) for shot in shots)]
    for line in lines:
        number, name = line[-1][0], row_name(line[-1][1])
        points = [(x[row.shots], y(row.mean)) for _, row in line]
        marks = "".join(
            f'<line class="bar" x1="{x[row.shots]:.1f}" x2="{x[row.shots]:.1f}" y1="{y(row.accuracy.low):.1f}" '
            f'y2="{y(row.accuracy.high):.1f}"/><circle cx="{x[row.shots]:.1f}" cy="{y(row.mean):.1f}" r="3.5"/>'
            for _, row in line
            if row.accuracy
        )
        last = f"{name}: {line[-1][1].mean:.3f}"
        parts.append(f'<g class="mark" data-row="{number}"><title>{escape(last)}</title>{_polyline(points)}{marks}</g>')
    return _chart(title, parts)


def cost_chart(rows: Sequence[Numbered], value: Callable[[Row], float], title: str, unit: str) -> str:
    """Accuracy against a cost on a logarithmic axis.

    Args:
        rows: with figures.
        value: the cost of a row.
        title: for those who cannot see it.
        unit: `s`, or `B` for sizes.
    """
    least = 0.001 if unit == "s" else 1.0
    costs = [max(least, value(row)) for _, row in rows]
    low, high = floor(log10(min(costs))), floor(log10(max(costs))) + 1
    axis = _axis([bound for _, row in rows if row.accuracy for bound in (row.accuracy.low, row.accuracy.high)])
    x, y = _scale((low, high), (_LEFT + 8, _WIDTH - _RIGHT)), _scale(axis, (_HEIGHT - _BOTTOM, _TOP))
    parts = [_grid(axis, y)]
    step = max(1, (high - low) // 6)
    parts += [_tick(x(power), _cost_text(10.0**power, unit)) for power in range(low, high + 1, step)]
    for (number, row), cost in zip(rows, costs, strict=True):
        assert row.accuracy is not None
        at, text = x(log10(cost)), f"{row_name(row)}: {row.mean:.3f}, {_cost_text(cost, unit)}"
        parts.append(
            f'<g class="mark" data-row="{number}"><title>{escape(text)}</title>'
            f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{y(row.accuracy.low):.1f}" y2="{y(row.accuracy.high):.1f}"/>'
            f'<circle cx="{at:.1f}" cy="{y(row.mean):.1f}" r="4.5"/></g>'
        )
    return _chart(title, parts)


def steps_chart(rows: Sequence[Numbered], title: str) -> str:
    """Accuracy on validation against training steps, mean over seeds."""
    steps = [step for _, row in rows for step, _ in row.curve]
    axis = _axis([value for _, row in rows for _, value in row.curve])
    x, y = _scale((0, max(steps)), (_LEFT + 8, _WIDTH - _RIGHT)), _scale(axis, (_HEIGHT - _BOTTOM, _TOP))
    parts = [_grid(axis, y), *(_tick(x(share * max(steps)), f"{share * max(steps):.0f}") for share in (0, 0.25, 0.5, 0.75, 1))]
    for number, row in rows:
        points = [(x(step), y(value)) for step, value in row.curve]
        parts.append(f'<g class="mark" data-row="{number}"><title>{escape(row_name(row))}</title>{_polyline(points)}</g>')
    return _chart(title, parts)


def confusion_chart(row: Row, labels: Sequence[str], title: str) -> str:
    """Counts by true and predicted label, the shade by the share of the true label; empty where there are too many labels."""
    if len(labels) > _MOST_CLASSES:
        return ""
    size, margin = max(22, min(56, 220 // len(labels))), 92
    side = size * len(labels)
    parts = []
    for down, counts in enumerate(row.confusion):
        total = max(1, sum(counts))
        for across, count in enumerate(counts):
            share = count / total
            at = f'x="{margin + across * size}" y="{20 + down * size}"'
            kind = "hit" if across == down else "miss"
            parts.append(f'<rect class="{kind}" {at} width="{size}" height="{size}" fill-opacity="{share:.2f}"/>')
            middle = f'x="{margin + (across + 0.5) * size:.0f}" y="{24 + (down + 0.5) * size:.0f}"'
            parts.append(f'<text class="count{" dark" if share > 0.6 else ""}" {middle}>{count}</text>')
    for number, label in enumerate(labels):
        short = escape(label if len(label) <= 13 else label[:12] + "…")
        parts.append(f'<text class="side" x="{margin - 6}" y="{24 + (number + 0.5) * size:.0f}">{short}</text>')
        if size >= 40:
            parts.append(f'<text class="top" x="{margin + (number + 0.5) * size:.0f}" y="14">{short}</text>')
    width, height = margin + side + 2, side + 24
    inner = f"<title>{escape(title)}</title>{''.join(parts)}"
    return f'<svg class="confusion" viewBox="0 0 {width} {height}" width="{width}" role="img">{inner}</svg>'


def reliability_chart(row: Row, title: str) -> str:
    """Share of right answers against the top probability; the area of a dot is its number of rows."""
    side, margin = 190, 34
    at = _scale((0.0, 1.0), (0, side))
    total = max(1, sum(one.num_rows for one in row.bins))
    parts = [f'<line class="guide" x1="{margin}" y1="{side + 6}" x2="{margin + side}" y2="6"/>']
    for value in (0, 0.5, 1):
        parts.append(f'<text class="top" x="{margin + at(value):.0f}" y="{side + 22}">{value:g}</text>')
        parts.append(f'<text class="side" x="{margin - 5}" y="{side + 10 - at(value):.0f}">{value:g}</text>')
    for one in row.bins:
        across, up = margin + at(one.confidence), side + 6 - at(one.accuracy)
        size = 3 + 12 * (one.num_rows / total) ** 0.5
        gap = f'<line class="gap" x1="{across:.1f}" x2="{across:.1f}" y1="{up:.1f}" y2="{side + 6 - at(one.confidence):.1f}"/>'
        parts.append(f'{gap}<circle cx="{across:.1f}" cy="{up:.1f}" r="{size:.1f}"/>')
    frame = f'<rect class="frame" x="{margin}" y="6" width="{side}" height="{side}"/>'
    box = f"0 0 {margin + side + 16} {side + 28}"
    return (
        f'<svg class="reliability" viewBox="{box}" width="{margin + side + 16}" role="img">'
        f"<title>{escape(title)}</title>{frame}{''.join(parts)}</svg>"
    )


# -- parts -----------------------------------------------------------------------------------------------------------


def _scale(domain: tuple[float, float], places: tuple[float, float]) -> Callable[[float], float]:
    """A straight line from values to places."""
    span = (domain[1] - domain[0]) or 1.0
    return lambda value: places[0] + (value - domain[0]) / span * (places[1] - places[0])


def _axis(values: Sequence[float]) -> tuple[float, float]:
    """Tenths around the values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return max(0.0, floor(low * 10) / 10), min(1.0, -floor(-high * 10) / 10)


def _grid(axis: tuple[float, float], y: Callable[[float], float]) -> str:
    steps = round((axis[1] - axis[0]) * 10)
    values = [axis[0] + at / 10 for at in range(steps + 1)]
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text class="side" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">{value:.1f}</text>'
        for value in values
    )


def _tick(x: float, text: str) -> str:
    return f'<text class="top" x="{x:.1f}" y="{_HEIGHT - 12}">{escape(text)}</text>'


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _cost_text(value: float, unit: str) -> str:
    if unit == "B":
        return file_size(int(value))
    return f"{value:,.0f} s" if value >= 1 else f"{value:g} s"


def _chart(title: str, parts: Sequence[str]) -> str:
    inner = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(title)}</title>{inner}</svg>'
