"""The report as one HTML page: no network, no library; readable without scripts, which add sorting, filtering and picking.

In: a `Summary` and its `Recommendation`. Out: the page as text. Both languages stand in it, one is shown.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from ptune.compare.recommendation import Recommendation, rules
from ptune.compare.report.charts import confusion_chart, cost_chart, curve_chart, reliability_chart, steps_chart
from ptune.compare.report.table import table
from ptune.compare.report.words import WORDS, both, html_of
from ptune.compare.results import Row, Summary, TextRow
from ptune.compare.wording import PARADIGMS, file_size, row_name, title_in_chinese

__all__ = ["NUM_COLOURS", "page", "picks_of"]

NUM_COLOURS = 8


def page(summary: Summary, advice: Recommendation, *, language: str | None = None) -> str:
    """The whole page.

    Args:
        summary: of the comparison.
        advice: what follows from it.
        language: shown first, `en` or `zh`; None takes the texts' own.
    """
    shown = language or ("zh" if summary.language == "zh" else "en")
    picks = picks_of(summary, advice)
    folder = files("ptune.compare.report")
    style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    title = escape(f"{summary.name}: {WORDS['report'][shown == 'zh']}")
    body = "".join(
        [
            _header(summary),
            _recommendation(advice),
            _section("table", _filters(summary) + f'<div class="scroll">{table(summary, picks)}</div>'),
            _charts(summary, picks),
            _details(summary, picks),
            _texts(summary),
            _about(summary),
        ]
    )
    return (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if shown == "zh" else "en"}" data-language="{shown}">\n<head>'
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>{title}</title>'
        f"<style>\n{style}</style></head>\n<body>\n{body}\n<script>\n{script}</script>\n</body></html>\n"
    )


def picks_of(summary: Summary, advice: Recommendation) -> dict[int, int]:
    """Rows that stand out at first, each with a colour: recommended, best, and the best of each paradigm."""
    rows = summary.of_shots(summary.main_shots)
    firsts = (next((row for row in rows if row.paradigm == paradigm), None) for paradigm in reversed(PARADIGMS))
    chosen = list(dict.fromkeys(summary.rows.index(row) for row in (advice.row, advice.best, *firsts) if row is not None))
    return {number: colour for colour, number in enumerate(chosen[:NUM_COLOURS])}


def _section(key: str, inner: str) -> str:
    return f'<section id="{key}"><h2>{both(key)}</h2>{inner}</section>'


def _header(summary: Summary) -> str:
    test = next(iter(summary.data["test_rows"].values()))
    facts = [
        f"{len(summary.rows)} {both('methods')}",
        f"{', '.join(map(str, summary.shots))} {both('shots')}",
        f"{len(summary.spec['seeds'])} {both('seed')}",
        f"{test} {both('test_rows')}",
    ]
    switch = f'<button type="button" id="language">{html_of(WORDS["language"])}</button>'
    return f"<header><h1>{escape(summary.name)}</h1><p>{' · '.join(facts)}</p>{switch}</header>"


def _recommendation(advice: Recommendation) -> str:
    first, *rest = advice.findings
    more = "".join(f"<li>{html_of((one.english, one.chinese))}</li>" for one in rest)
    stated = "".join(f"<li>{html_of(text)}</li>" for text in rules().values())
    lead = f'<p class="lead">{html_of((first.english, first.chinese))}</p>'
    folded = f"<details><summary>{both('rules')}</summary><ul>{stated}</ul></details>"
    return _section("recommendation", f"{lead}<ul>{more}</ul>{folded}")


def _filters(summary: Summary) -> str:
    models = list(dict.fromkeys(row.backbone for row in summary.rows if row.backbone))
    paradigms = [name for name in PARADIGMS if any(row.paradigm == name for row in summary.rows)]
    boxes = [
        f'<input type="search" id="name-filter" data-en="{WORDS["filter"][0]}" data-zh="{WORDS["filter"][1]}" '
        f'aria-label="{WORDS["filter"][0]}">',
        _select("shots", [(str(shots), (str(shots), str(shots))) for shots in summary.shots], default=str(summary.main_shots)),
        _select("paradigm", [(name, PARADIGMS[name]) for name in paradigms]),
        _select("model", [(name, (name, name)) for name in models]),
        f'<button type="button" id="show-all">{both("reset")}</button>',
        f'<small class="hint">{both("sort")}</small>',
    ]
    return f'<form class="filters" id="filters">{"".join(boxes)}</form>'


def _select(key: str, values: Sequence[tuple[str, tuple[str, str]]], default: str = "") -> str:
    options = [f'<option value="" data-en="{WORDS["all"][0]}" data-zh="{WORDS["all"][1]}">{WORDS["all"][0]}</option>']
    for value, (english, chinese) in values:
        chosen = f' data-default="{value == default}"'
        pair = f'data-en="{escape(english, quote=True)}" data-zh="{escape(chinese, quote=True)}"'
        options.append(f'<option value="{escape(value, quote=True)}" {pair}{chosen}>{escape(english)}</option>')
    return f'<label>{both(key)} <select data-filter="{key}">{"".join(options)}</select></label>'


def _charts(summary: Summary, picks: Mapping[int, int]) -> str:
    numbered = [(number, row) for number, row in enumerate(summary.rows) if row.accuracy is not None]
    last = [one for one in numbered if one[1].shots == summary.main_shots]
    if not last:
        return ""
    charts = []
    if len(summary.shots) > 1:
        lines = [line for line in _lines(numbered) if len(line) > 1] or _lines(numbered)
        charts.append(_figure("curve", "shots", curve_chart(lines, summary.shots, WORDS["curve"][0]), "accuracy"))
    with_steps = [one for one in last if len(one[1].curve) > 1]
    if with_steps:
        charts.append(_figure("steps", "steps", steps_chart(with_steps, WORDS["steps"][0]), "accuracy", shows_axis=False))
    for key, value, unit in (
        ("train_seconds", lambda row: row.train_seconds, "s"),
        ("predict_seconds", lambda row: row.predict_seconds, "s"),
        ("stored", lambda row: float(row.num_bytes), "B"),
    ):
        charts.append(_figure("cost", key, cost_chart(last, value, f"{WORDS['cost'][0]}: {WORDS[key][0]}", unit), "accuracy"))
    legend = "".join(
        f'<li data-row="{number}" style="--mark: var(--c{colour})">{_both_names(summary.rows[number])}</li>'
        for number, colour in picks.items()
    )
    inner = f'<ul class="legend" id="legend">{legend}</ul><div class="charts">{"".join(charts)}</div>'
    return f'<section id="charts"><h2>{both("charts")}</h2>{inner}</section>'


def _figure(title: str, across: str, chart: str, up: str, *, shows_axis: bool = True) -> str:
    axis = f" · → {both(across)}" if shows_axis else ""
    return f"<figure><figcaption>{both(title)}<small> · ↑ {both(up)}{axis}</small></figcaption>{chart}</figure>"


def _lines(numbered: Sequence[tuple[int, Row]]) -> list[list[tuple[int, Row]]]:
    """Rows of a method on a model, by shots."""
    lines: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for number, row in numbered:
        lines.setdefault((row.method, row.backbone), []).append((number, row))
    return [sorted(line, key=lambda one: one[1].shots) for line in lines.values()]


def _both_names(row: Row) -> str:
    model = f" · {row.backbone}" if row.backbone else ""
    return html_of((f"{row.title}{model}", f"{title_in_chinese(row)}{model}"))


def _details(summary: Summary, picks: Mapping[int, int]) -> str:
    rows = summary.of_shots(summary.main_shots)
    numbers = [summary.rows.index(row) for row in rows]
    cards = [_card(number, row, summary, is_open=number in picks) for number, row in zip(numbers, rows, strict=True)]
    return _section("details", f'<div class="cards">{"".join(cards)}</div>') if cards else ""


def _card(number: int, row: Row, summary: Summary, *, is_open: bool) -> str:
    name = row_name(row)
    confusion = confusion_chart(row, summary.labels, f"{name}: {WORDS['true'][0]} × {WORDS['predicted'][0]}")
    reliability = reliability_chart(row, f"{name}: {WORDS['right'][0]}, {WORDS['confidence'][0]}")
    facts = {
        "macro_f1": f"{row.macro_f1:.3f}",
        "calibration": f"{row.calibration_error:.3f}",
        "trained": f"{row.num_trained:,}",
        "stored": file_size(row.num_bytes),
        "memory": f"{row.memory_mb:,}",
        "trials": f"{row.num_trials}",
    }
    if row.num_unlabelled:
        facts["unlabelled"] = str(row.num_unlabelled)
    listed = "".join(f"<div><dt>{both(key)}</dt><dd>{value}</dd></div>" for key, value in facts.items())
    chosen = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.settings)
    others = "".join(
        f"<div><dt>{escape(test)}</dt><dd>{one.mean:.3f} <small>({one.low:.3f} – {one.high:.3f})</small></dd></div>"
        for test, one in row.others
    )
    more = "".join(f"<div><dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd></div>" for key, value in row.facts)
    settings = f"<div><dt>{both('tuned_on')}</dt><dd>{escape(chosen)}</dd></div>" if chosen else ""
    marker = " open" if is_open else ""
    captions = (
        f"<small>{both('true')} ↓ {both('predicted')} →</small>",
        f"<small>{both('right')} ↑ {both('confidence')} →</small>",
    )
    figures = f"<div>{captions[0]}{confusion}</div>" * bool(confusion) + f"<div>{captions[1]}{reliability}</div>"
    return (
        f'<details class="card" data-row="{number}"{marker}><summary>{_both_names(row)} <b>{row.mean:.3f}</b></summary>'
        f'<div class="pair">{figures}</div><dl>{listed}{others}{settings}{more}</dl></details>'
    )


def _texts(summary: Summary) -> str:
    if not summary.texts:
        return ""
    head = "".join(f"<th scope='col'>{both(key)}</th>" for key in ("text", "label", "right_of", "more"))
    rows = "".join(_text_line(text, summary) for text in summary.texts)
    return _section(
        "texts", f'<div class="scroll"><table class="texts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _text_line(text: TextRow, summary: Summary) -> str:
    groups: dict[str, list[Row]] = {}
    for number, answer in text.answers:
        groups.setdefault(answer, []).append(summary.rows[number])
    num_right = len(groups.get(text.label, ()))
    share = 100 * num_right / len(text.answers)
    who = "".join(
        f'<dt class="{"hit" if answer == text.label else "miss"}">{escape(answer)}</dt>'
        f"<dd>{'; '.join(_both_names(row) for row in rows)}</dd>"
        for answer, rows in sorted(groups.items(), key=lambda one: -len(one[1]))
    )
    bar = f'<span class="share" style="--share: {share:.0f}%"></span>'
    return (
        f'<tr><td class="quote">{escape(text.text)}</td><td>{escape(text.label)}</td>'
        f"<td>{bar}<small>{num_right} / {len(text.answers)}</small></td>"
        f"<td><details><summary>{both('more')}</summary><dl>{who}</dl></details></td></tr>"
    )


def _about(summary: Summary) -> str:
    tests = ", ".join(f"{name}: {number}" for name, number in summary.data["test_rows"].items())
    labels = ", ".join(f"{name} {number}" for name, number in summary.data["test_labels"].items())
    facts = {
        "train_rows": str(summary.data["train_rows"]),
        "test_rows": escape(f"{tests} ({labels})"),
        "tuned_on": both(f"tuned_{summary.spec['tune_on']}") + f" ({summary.spec['trials']} {both('trials')})",
        "computing": f"{summary.seconds / 60:,.1f} min",
        "machine": escape(json.dumps(summary.machine, ensure_ascii=False)[1:-1].replace('"', "")),
        "fingerprint": f"<code>{summary.data['test_fingerprint'][:16]}</code>",
    }
    if summary.remarks:
        facts["remarks"] = "<br>".join(map(escape, summary.remarks))
    listed = "".join(f"<div><dt>{both(key)}</dt><dd>{value}</dd></div>" for key, value in facts.items())
    return _section("about", f"<p>{both('interval_note')}</p><p>{both('fair_note')}</p><dl>{listed}</dl>")
