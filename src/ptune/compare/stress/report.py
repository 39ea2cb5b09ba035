"""A stress report as Markdown in one language: what was lost to what, with examples, and the slices."""

from ptune.compare.stress.run import StressReport, Trial
from ptune.compare.wording import Both, points

__all__ = ["stress_markdown"]

_WORDS: dict[str, Both] = {
    "title": ("What the task stands", "鲁棒性测试"),
    "accuracy": ("accuracy on the rows as they are", "原文准确率"),
    "change": ("change", "改动"),
    "rows": ("rows changed", "改动行数"),
    "before": ("before", "之前"),
    "after": ("after", "之后"),
    "drop": ("lost points (95 %)", "下降百分点（95 %）"),
    "turned": ("answers turned", "答案改变"),
    "slices": ("Slices", "切片"),
    "examples": ("Answers that turned", "改变的答案"),
    "by": ("by", "按"),
    "value": ("value", "取值"),
    "interval": ("95 % interval", "95 % 区间"),
    "not_tried": ("Not tried", "未测试"),
    "may_turn": ("the right answer may change", "正确答案可能改变"),
}


def stress_markdown(report: StressReport, language: str) -> str:
    """The whole report.

    Args:
        report: of a task.
        language: `en` or `zh`.
    """
    at = int(language == "zh")
    word = {key: pair[at] for key, pair in _WORDS.items()}
    found = report.accuracy
    lines = [
        f"# {word['title']}",
        "",
        f"{word['accuracy']}: {found.mean:.3f} ({found.low:.3f} – {found.high:.3f}), n = {found.num_rows}",
        "",
    ]
    lines += [f"| {' | '.join(word[key] for key in ('change', 'rows', 'before', 'after', 'drop', 'turned'))} |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(_cells(trial, at, word['may_turn']))} |" for trial in report.trials]
    lines += ["", f"## {word['slices']}", "", f"| {word['by']} | {word['value']} | n | {word['before']} | {word['interval']} |"]
    lines += ["| --- | --- | ---: | ---: | ---: |"]
    for one in report.slices:
        share = one.accuracy
        lines.append(
            f"| {one.by} | {_cell(one.value)} | {share.num_rows} | {share.mean:.3f} | {share.low:.3f} – {share.high:.3f} |"
        )
    lines += ["", f"## {word['examples']}"]
    for trial in report.trials:
        if trial.examples:
            lines += ["", f"### {trial.title[at]}", ""]
            lines += [f"- {one.label}: {one.answers[0]} → {one.answers[1]}: {_cell(one.after)}" for one in trial.examples]
    if report.not_tried:
        lines += ["", f"## {word['not_tried']}", "", *(f"- {reason}" for reason in report.not_tried)]
    return "\n".join(lines) + "\n"


def _cells(trial: Trial, at: int, may_turn: str) -> list[str]:
    turned = "" if trial.turned is None else f"{100 * trial.turned:.0f} %"
    if not trial.keeps_label:
        return [f"{_cell(trial.title[at])} ({may_turn})", str(trial.num_changed), "", "", "", turned]
    lost = points(trial.drop)
    if trial.difference is not None:
        lost += f" ({points(-trial.difference.high)} – {points(-trial.difference.low)})"
    return [_cell(trial.title[at]), str(trial.num_changed), f"{trial.before:.3f}", f"{trial.after:.3f}", lost, turned]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
