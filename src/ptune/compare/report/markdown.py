"""The report as Markdown in one language: the recommendation, a table for each number of shots, and how it was done."""

from ptune.compare.recommendation import Recommendation, rules
from ptune.compare.report.words import in_markdown
from ptune.compare.results import Row, Summary
from ptune.compare.wording import file_size, points, title_in_chinese

__all__ = ["markdown"]

_COLUMNS = ("method", "model", "accuracy", "interval", "from_best", "macro_f1", "calibration", "train_seconds")
_LAST_COLUMNS = ("predict_seconds", "trained", "stored", "memory")


def markdown(summary: Summary, advice: Recommendation, language: str) -> str:
    """The whole report.

    Args:
        summary: of the comparison.
        advice: what follows from it.
        language: `en` or `zh`.
    """
    parts = [f"# {summary.name}: {in_markdown('report', language)}", f"## {in_markdown('recommendation', language)}"]
    parts.append("\n".join(f"- {one.chinese if language == 'zh' else one.english}" for one in advice.findings))
    for shots in sorted(summary.shots, key=lambda number: (number != summary.main_shots, -number)):
        parts += [f"## {shots} {in_markdown('shots', language)}", _table(summary, shots, language)]
        if reasons := _reasons(summary, shots, language):
            parts.append(reasons)
    parts += [f"## {in_markdown('about', language)}", _about(summary, language), f"### {in_markdown('rules', language)}"]
    parts.append("\n".join(f"- {text[language == 'zh']}" for text in rules().values()))
    return "\n\n".join(parts) + "\n"


def _table(summary: Summary, shots: int, language: str) -> str:
    heads = [in_markdown(name, language) for name in (*_COLUMNS, *_LAST_COLUMNS)]
    tests = list(summary.data["test_rows"])[1:]
    heads += tests
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * 2 + ['---:'] * (len(heads) - 2))} |"]
    lines += [f"| {' | '.join(_cells(row, language, len(tests)))} |" for row in summary.of_shots(shots)]
    return "\n".join(lines)


def _cells(row: Row, language: str, num_tests: int) -> list[str]:
    assert row.accuracy is not None
    spread = "" if row.accuracy.deviation is None else f" ± {row.accuracy.deviation:.3f}"
    others = [f"{one.mean:.3f}" for _, one in row.others]
    title = title_in_chinese(row) if language == "zh" else row.title
    return [
        title.replace("|", "\\|"),
        row.backbone,
        f"**{row.mean:.3f}**{spread}",
        f"{row.accuracy.low:.3f} – {row.accuracy.high:.3f}",
        _difference(row, language),
        f"{row.macro_f1:.3f}",
        f"{row.calibration_error:.3f}",
        f"{row.train_seconds:,.1f}",
        f"{row.predict_seconds:,.2f}",
        f"{row.num_trained:,}",
        file_size(row.num_bytes),
        f"{row.memory_mb:,}",
        *(others or [""] * num_tests),
    ]


def _difference(row: Row, language: str) -> str:
    if row.is_best:
        return in_markdown("best", language)
    if row.from_best is None:  # no seed in common
        return "–"
    return f"{points(row.from_best.mean)} ({in_markdown(row.from_best.verdict, language)})"


def _reasons(summary: Summary, shots: int, language: str) -> str:
    """Rows that lack figures, or seeds."""
    rows = [row for row in summary.rows if row.shots == shots and row.reason]
    lines = [f"- {title_in_chinese(row) if language == 'zh' else row.title} {row.backbone}: {row.reason}" for row in rows]
    return "\n".join([f"{in_markdown('reason', language)}:\n", *lines]) if lines else ""


def _about(summary: Summary, language: str) -> str:
    tests = ", ".join(f"{name} {number}" for name, number in summary.data["test_rows"].items())
    facts = {
        "seed": ", ".join(map(str, summary.spec["seeds"])),
        "test_rows": tests,
        "train_rows": str(summary.data["train_rows"]),
        "tuned_on": in_markdown(f"tuned_{summary.spec['tune_on']}", language) + f" ({summary.spec['trials']})",
        "computing": f"{summary.seconds / 60:,.1f} min",
        "machine": ", ".join(f"{key} {value}" for key, value in summary.machine.items()),
    }
    lines = [f"- {in_markdown(key, language)}: {value}" for key, value in facts.items()]
    lines += [f"- {remark}" for remark in summary.remarks]
    notes = [in_markdown(note, language) for note in ("interval_note", "fair_note")]
    return "\n".join([notes[0], "", notes[1], "", *lines])
