"""Words that lead from a text to a label word, mined from texts that say a label word themselves.

In: texts without labels, label words, and a template. Out: templates whose words in front of the answer are those that stand
in texts between the beginning of a clause and a label word: of "Slow. The food was great!" and *great* that is "The food was".
Source: Jiang et al. 2020 (How can we know what language models know?), section 4.1, middle words: what stands between subject
and object in texts that hold both. Deviations: the text itself is the subject, so that the phrase begins where a clause does;
phrases that lead to words of more labels come first, and only then more frequent ones, as a phrase for one label says which.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ptune.data import Example
from ptune.inputs import split_words
from ptune.strategy.infill import around_gap
from ptune.template import Template, Text, dominant_script, written_with_spaces

__all__ = ["mined_phrases", "mined_templates", "texts_of"]

_INSIDE = "'’-"
"""Marks that do not end a clause."""
_LETTERS_PER_WORD = 2
"""Letters of a script without spaces that count as a word."""


def mined_templates(
    template: Template, texts: Sequence[str], words: Mapping[str, Sequence[str]], *, longest: int, count: int
) -> list[Template]:
    """The template with mined phrases in front of the answer, the best first.

    Args:
        template: its own words in that place are left out.
        texts, words, longest: see `mined_phrases`.
        count: templates at most.
    """
    front, mask, behind = around_gap(template)
    found = []
    for phrase in mined_phrases(texts, words, longest=longest)[:count]:
        space = " " if front and dominant_script(phrase) != "unspaced" else ""
        found.append(Template((*front, Text(space + phrase), mask, *behind)))
    return found


def mined_phrases(texts: Sequence[str], words: Mapping[str, Sequence[str]], *, longest: int) -> list[str]:
    """What stands between the beginning of a clause and a label word, the best first.

    Args:
        texts: whose labels are not known; a phrase counts once in each.
        words: label -> its words; capitals make no difference.
        longest: words of a phrase at most.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    places = {name: [_place(word) for word in listed] for name, listed in words.items()}
    everywhere = [place for listed in places.values() for place in listed]
    for text in texts:
        said: dict[str, str] = {}
        for name, listed in places.items():
            for match in (found for place in listed for found in place.finditer(text)):
                phrase = _clause(text[: match.start()], longest)
                if phrase and not any(place.search(phrase) for place in everywhere):
                    labels[phrase.casefold()].add(name)
                    said.setdefault(phrase.casefold(), phrase)
        for key, phrase in said.items():
            forms[key][phrase] += 1
    order = sorted(forms, key=lambda key: (-len(labels[key]), -forms[key].total(), len(key), key))
    return [forms[key].most_common(1)[0][0] for key in order]


def texts_of(examples: Sequence[Example], fields: Sequence[str]) -> list[str]:
    """The texts of rows that a template reads."""
    values = (example.fields[name] for example in examples for name in fields)
    return [value if isinstance(value, str) else " ".join(value) for value in values]


def _place(word: str) -> re.Pattern[str]:
    """Where a text says a word, not inside of a longer one where words stand apart."""
    word = word.strip()
    left, right = (r"(?<!\w)" if written_with_spaces(word[0]) else ""), (r"(?!\w)" if written_with_spaces(word[-1]) else "")
    return re.compile(left + re.escape(word) + right, re.IGNORECASE)


def _clause(head: str, longest: int) -> str:
    """The last clause of a text that goes on; nothing where it is longer."""
    head = head.rsplit("\n", 1)[-1]
    first, length = len(head), 0.0
    for start, end in reversed(split_words(head).spans):
        piece = head[start:end]
        if piece not in _INSIDE and unicodedata.category(piece[0])[0] not in "LMN":
            break
        first = start
        length += 1 / _LETTERS_PER_WORD if written_with_spaces(piece[0]) is False else piece not in _INSIDE
        if length > longest:
            return ""
    return head[first:].strip().strip(_INSIDE)
