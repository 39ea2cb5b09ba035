"""Templates near a given one: words taken out, exchanged, put back elsewhere, or said otherwise; the best is edited again.

In: a template and what each is worth on some rows. Out: all templates that were tried. Source: Prasad et al. 2023 (GrIPS:
delete, swap, add, paraphrase, greedily). Deviations: pieces are words (or, without spaces, what stands between marks) rather
than phrases of a parser; paraphrases come from the short list below rather than from a model.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from ptune.errors import TemplateError
from ptune.template import Field, Template, Text, dominant_script

__all__ = ["REWORDINGS", "edit_templates", "neighbours"]

REWORDINGS: tuple[tuple[str, ...], ...] = (
    ("It was", "It is", "This was", "All in all, it was", "In short, it was", "I found it", "Overall:"),
    ("Review:", "Text:", "Comment:", "Opinion:", "A customer writes:"),
    ("Article:", "News:", "Report:", "Text:"),
    ("Sentiment:", "Mood:", "Feeling:", "The sentiment is", "The tone is"),
    ("Topic:", "Subject:", "Category:", "The topic is", "This is about", "It is about"),
    ("Question:", "Q:", "Problem:"),
    ("Answer:", "A:", "The answer is", "Reply:"),
    ("Does it follow that", "Is it true that", "Can we say that"),
    ("Intent:", "Request:", "The customer wants", "This is a request about"),
    ("总的来说", "总之", "整体而言", "一句话"),
    ("评论：", "评价：", "文本：", "用户说："),
    ("感觉", "觉得", "认为"),
    ("这是一条", "下面是一条", "这是"),
    ("情感：", "态度：", "情绪："),
    ("主题：", "类别：", "话题：", "这是关于"),
)
"""Ways to say the same, written for this search; any of a line may stand for any other."""

_LONGEST_CUT = 3
_MARKS = "，。：；！？、"

Value = tuple[float, float]


def edit_templates(
    template: Template, value: Callable[[Template], Value | None], *, rounds: int, tried: int, seed: int
) -> list[Template]:
    """Edits a template, keeps the best, edits that; ends where nothing gets better.

    Args:
        template: hard words only.
        value: what a template is worth, more is better; None for one that cannot be used.
        rounds: how often at most.
        tried: edits that are looked at in each round, drawn by the seed.
        seed: of what is drawn.
    """
    rng = random.Random(seed)
    best, best_value = template, value(template)
    found: dict[str, Template] = {}
    removed: list[str] = []
    for _ in range(rounds):
        near = [pair for pair in neighbours(best, removed) if str(pair[0]) not in found and pair[0] != template]
        better = None
        for trial, cut in rng.sample(near, min(tried, len(near))):
            worth = value(trial)
            if worth is None:
                continue
            found[str(trial)] = trial
            if best_value is None or worth > best_value:
                better, best_value = (trial, cut), worth
        if better is None:
            break
        best = better[0]
        removed += [better[1]] if better[1] else []
    return list(found.values())


def neighbours(template: Template, removed: Sequence[str] = ()) -> list[tuple[Template, str]]:
    """All templates that one edit leads to, each once, with the words that a deletion took out (else nothing).

    Args:
        template: hard words only.
        removed: words that earlier deletions took out, to be put back elsewhere.
    """
    found: dict[str, tuple[Template, str]] = {}
    for index, node in enumerate(template.nodes):
        if not isinstance(node, Text):
            continue
        for text, cut in _edited(node.text, removed):
            changed = _with_text(template, index, text)
            if changed is not None and changed != template:
                found.setdefault(str(changed), (changed, cut))
    return list(found.values())


def _edited(text: str, removed: Sequence[str]) -> Iterator[tuple[str, str]]:
    """One text after each edit, with what was taken out."""
    pieces, tail = _pieces(text)
    spaces, words = [space for space, _ in pieces], [word for _, word in pieces]
    for first in range(len(pieces)):
        for size in range(1, min(_LONGEST_CUT, len(pieces) - first) + 1):
            rest = pieces[:first] + pieces[first + size :]
            yield _joined(rest, tail), "".join(s + w for s, w in pieces[first : first + size]).strip()
        for second in range(first + 1, len(pieces)):
            order = list(words)
            order[first], order[second] = order[second], order[first]
            yield _joined(list(zip(spaces, order, strict=True)), tail), ""
    space = "" if dominant_script(text) == "unspaced" else " "
    for cut in removed:
        for at in range(len(pieces) + 1):
            yield (
                _joined([*pieces[:at], (spaces[at] if at < len(spaces) else space, cut), *_spaced(pieces[at:], space)], tail),
                "",
            )
    for group in REWORDINGS:
        for said in group:
            for start in _places(text, said):
                yield from ((text[:start] + other + text[start + len(said) :], "") for other in group if other != said)


def _spaced(pieces: list[tuple[str, str]], space: str) -> list[tuple[str, str]]:
    """The pieces, the first of them apart from what was put in front of it."""
    return [(pieces[0][0] or space, pieces[0][1]), *pieces[1:]] if pieces else []


def _pieces(text: str) -> tuple[list[tuple[str, str]], str]:
    """(white space, word) in order, and the white space at the end."""
    word = rf"[^\s{_MARKS}]+[{_MARKS}]?|[{_MARKS}]" if dominant_script(text) == "unspaced" else r"\S+"
    pieces = re.findall(rf"(\s*)({word})", text)
    return pieces, text[len(text.rstrip()) :]


def _joined(pieces: Sequence[tuple[str, str]], tail: str) -> str:
    return "".join(space + word for space, word in pieces) + tail


def _places(text: str, said: str) -> list[int]:
    """Where a text says these words, not inside of longer ones."""
    edge = r"(?<!\w)" if said[0].isascii() else ""
    end = r"(?!\w)" if said[-1].isascii() else ""
    return [match.start() for match in re.finditer(edge + re.escape(said) + end, text)]


def _with_text(template: Template, index: int, text: str) -> Template | None:
    """The template with another text in one place; None where that is none."""
    nodes = list(template.nodes)
    between = all(0 <= at < len(nodes) and isinstance(nodes[at], Field) for at in (index - 1, index + 1))
    if not text.strip() and between:
        text = text or " "  # two texts stay apart
    nodes[index] = Text(text.lstrip() if index == 0 else text)
    try:
        return Template(tuple(node for node in nodes if node != Text("")))
    except TemplateError:
        return None
