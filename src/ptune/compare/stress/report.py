"""Stress reports as Markdown in one language: what was lost to what, with examples, and the slices; how varied texts are."""

from ptune.compare.stress.diversity import DiversityReport, Variety
from ptune.compare.stress.run import StressReport, Trial
from ptune.compare.wording import Both, points

__all__ = ["diversity_markdown", "diversity_table", "stress_markdown"]

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
    "diversity": ("How varied the texts are", "生成文本的多样性"),
    "texts": ("texts", "文本"),
    "each": ("a row", "每行"),
    "distinct_1": ("distinct-1", "distinct-1"),
    "distinct_2": ("distinct-2", "distinct-2"),
    "different": ("different", "互不相同"),
    "alike": ("alike", "彼此相似"),
    "score": ("ROUGE-L", "ROUGE-L"),
    "lost": ("lost points", "下降百分点"),
    "right": ("right answer", "参考答案"),
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


def diversity_markdown(report: DiversityReport, language: str) -> str:
    """The whole report.

    Args:
        report: of a task that writes texts.
        language: `en` or `zh`.
    """
    at = int(language == "zh")
    word = {key: pair[at] for key, pair in _WORDS.items()}
    head, *rows = diversity_table(report, language)
    lines = [f"# {word['diversity']}", "", f"n = {report.num_rows}", "", f"| {' | '.join(head)} |"]
    lines += [f"| --- |{' ---: |' * (len(head) - 1)}", *(f"| {' | '.join(row)} |" for row in rows)]
    for variety in report.varieties:
        if variety.examples:
            lines += ["", f"## {variety.title[at]}"]
        for one in variety.examples:
            lines += ["", f"{word['right']}: {_cell(one.reference)}", "", *(f"- {_cell(text)}" for text in one.texts)]
    lines += ["", f"## {word['not_tried']}", "", *(f"- {reason}" for reason in report.not_tried)]
    return "\n".join(lines) + "\n"


def diversity_table(report: DiversityReport, language: str) -> list[list[str]]:
    """A head and a row for each variety, as text."""
    at = int(language == "zh")
    keys = ("texts", "each", "distinct_1", "distinct_2", "different", "alike", "score", "lost")
    return [[_WORDS[key][at] for key in keys], *(_figures(variety, at) for variety in report.varieties)]


def _figures(variety: Variety, at: int) -> list[str]:
    shares = (variety.distinct_1, variety.distinct_2, variety.different, variety.alike, variety.score)
    lost = "-" if variety.drop is None else points(variety.drop)
    return [variety.title[at], str(variety.num_texts), *("-" if one is None else f"{one:.3f}" for one in shares), lost]


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
