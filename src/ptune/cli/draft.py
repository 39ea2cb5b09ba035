"""From a data set to the words of a recipe: which columns are texts, which is the label, which language, which template.

In: a source. Out: a `Draft` that `ptune init` writes down. Guesses follow the names of columns and labels; what was guessed is
said in `remarks`, so that the user can put it right. No torch here.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ptune.data import Example, did_you_mean, listed, load_splits
from ptune.errors import DataError, PtuneError
from ptune.template import Entry, Field, Soft, Template, dominant_script, has_words_to_learn, template, templates

__all__ = ["Draft", "draft"]

_SHOTS = 16
_NUM_SOFT = 8
_FEW_ROWS = 512
"""Up to which the template's own words learn in folds; what `folds: auto` goes by."""
_MAX_LABELS = 200
_NUM_ROWS_READ = 300
_LABEL_NAMES = (
    *("label", "labels", "sentiment", "category", "class", "intent", "topic", "target", "stars"),
    *("标签", "类别", "情感", "意图"),
)
_TEXT_NAMES = (
    *("text", "sentence", "review", "content", "question", "query", "utterance", "comment", "body", "title"),
    *("文本", "内容", "评论", "句子"),
)
_PAIRS = (("premise", "hypothesis"), ("first", "second"), ("question", "sentence"), ("query", "document"))
_POLARITY = {
    "positive": ("positive", "pos", "good", "好评", "正面", "积极", "正向", "好", "满意"),
    "negative": ("negative", "neg", "bad", "差评", "负面", "消极", "负向", "差", "不满意"),
    "neutral": ("neutral", "neu", "中评", "中性", "中立", "一般"),
}
_NEUTRAL_WORD = {"en": "okay", "zh": "一般"}
_SAME_MEANING = {"en": ("en/paraphrase/same-meaning", "No", "Yes"), "zh": ("zh/paraphrase/tongyi", "否", "是")}
_GENERIC = {
    ("en", 1): "{%s} Category:{mask}",
    ("zh", 1): "{%s} 类别：{mask}",
    ("en", 2): "{%s}\n{%s} Relation:{mask}",
    ("zh", 2): "{%s}\n{%s} 关系：{mask}",
}
_TERMINATOR = {"en": ".", "zh": "。"}


@dataclass(frozen=True)
class Draft:
    """What a recipe for this data should say.

    Args:
        num_rows: training rows.
        splits: names of the splits, none where the source is one file.
        columns: columns to rename, old name to new.
        label: the label's column.
        language: `en` or `zh`.
        hard_template: in the short form, without learned tokens.
        soft_template: the same with learned tokens behind the last field.
        words: label words.
        terminator: scored behind each word where one word begins another; else empty.
        shots: rows per class, or None to take all.
        fewest: rows of the rarest label.
        remarks: what was guessed.
    """

    num_rows: int
    splits: tuple[str, ...]
    columns: Mapping[str, str]
    label: str
    language: str
    hard_template: str
    soft_template: str
    words: Mapping[str, tuple[str, ...]]
    terminator: str
    shots: int | None
    fewest: int
    remarks: tuple[str, ...]

    @property
    def learns_words(self) -> bool:
        """Whether the words in front of {mask} had better learn, from so few rows that `folds: auto` keeps them from harm."""
        num_rows = self.num_rows if self.shots is None else self.shots * len(self.words)
        return self.fewest > 1 and num_rows <= _FEW_ROWS and has_words_to_learn(Template.parse(self.hard_template))

    @property
    def template(self) -> str:
        """The one that suits so many rows."""
        return self.hard_template if self.learns_words else self.soft_template


def draft(source: str, *, label: str | None = None, encoding: str | None = None) -> Draft:
    """Looks at a data set and drafts a recipe for it.

    Args:
        source: a file, a folder of splits, or a hub id.
        label: the label's column; None finds it.
        encoding: of text files.

    Raises:
        DataError: nothing that could be a label or a text, or fewer than two labels.
    """
    splits = load_splits(source, label=None, encoding=encoding)
    rows = splits.get("train") or splits.get("data")
    if rows is None:
        raise DataError(f"there is no split train, only {listed(splits)}", where=source, fix="name the training file itself")
    label = _label_column(rows, label, source)
    rows = load_splits(source, label=label, encoding=encoding)["train" if "train" in splits else "data"]
    counts = Counter(row.label for row in rows if row.label is not None)
    if not 2 <= len(counts) <= _MAX_LABELS:
        what = f"column '{label}' has {len(counts)} different values"
        raise DataError(what, where=source, fix="name the label's column with --label")
    texts = _text_columns(rows, source)
    columns = _renamed(texts, rows)
    fields = tuple(columns.get(name, name) for name in texts)
    language = _language(rows, texts)
    labels = sorted(counts)
    hard, words, remarks = _wording(labels, fields, language)
    overlong = _begins_another([word for words_ in words.values() for word in words_])
    return Draft(
        num_rows=len(rows),
        splits=tuple(splits) if "train" in splits else (),
        columns=columns,
        label=label,
        language=language,
        hard_template=str(hard),
        soft_template=str(_with_soft(hard)),
        words=words,
        terminator=_TERMINATOR[language] if overlong else "",
        shots=_SHOTS if min(counts.values()) > _SHOTS else None,
        fewest=min(counts.values()),
        remarks=remarks,
    )


# -- columns ---------------------------------------------------------------------------------------------------------


def _label_column(rows: Sequence[Example], wanted: str | None, source: str) -> str:
    if wanted is not None:
        return _existing(wanted, rows, source)
    names = _names(rows)
    by_folded = {name.lower(): name for name in names}
    for candidate in _LABEL_NAMES:
        if candidate in by_folded:
            return by_folded[candidate]
    few = {name: len({str(row.fields.get(name)) for row in rows}) for name in names if _is_short(rows, name)}
    few = {name: number for name, number in few.items() if 2 <= number <= max(2, len(rows) // 4)}
    if not few:
        raise DataError(f"no column looks like a label; there are {listed(names)}", where=source, fix="name it with --label")
    return min(few, key=few.__getitem__)


def _existing(column: str, rows: Sequence[Example], source: str) -> str:
    names = dict.fromkeys(name for row in rows for name in row.fields)
    if column not in names:
        fix = did_you_mean(column, names, "name one of them")
        raise DataError(f"there is no column '{column}'; there are {listed(names)}", where=source, fix=fix)
    return column


def _text_columns(rows: Sequence[Example], source: str) -> tuple[str, ...]:
    """The one text column, or the two of a pair."""
    names = [name for name in _names(rows) if _is_text(rows, name)]
    if not names:
        raise DataError("no column looks like a text", where=source, fix="give each row a field text")
    for first, second in _PAIRS:
        if first in names and second in names:
            return first, second
    for first, second in pairwise(names):
        if first[:-1] == second[:-1] and (first[-1], second[-1]) in {("a", "b"), ("A", "B"), ("1", "2")}:
            return first, second
    known = [name for name in _TEXT_NAMES if name in names]
    return (known[0] if known else max(names, key=lambda name: _median_length(rows, name)),)


def _names(rows: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(name for row in rows[:_NUM_ROWS_READ] for name in row.fields))


def _values(rows: Sequence[Example], name: str) -> list[str]:
    values = (row.fields.get(name, "") for row in rows[:_NUM_ROWS_READ])
    return [value if isinstance(value, str) else " ".join(value) for value in values]


def _median_length(rows: Sequence[Example], name: str) -> float:
    return median(map(len, _values(rows, name)))


def _is_short(rows: Sequence[Example], name: str) -> bool:
    return _median_length(rows, name) <= 40


def _is_text(rows: Sequence[Example], name: str) -> bool:
    """Mostly letters, and not one of a few values that repeat."""
    values = _values(rows, name)
    num_letters = sum(character.isalpha() for value in values for character in value)
    return num_letters > 0.5 * sum(map(len, values)) and (len(set(values)) > len(values) // 4 or name in _TEXT_NAMES)


def _renamed(texts: Sequence[str], rows: Sequence[Example]) -> dict[str, str]:
    """New names for columns whose own name cannot stand in a template."""
    taken, columns = set(_names(rows)), {}
    fresh = (name for name in ("text", "text_b", "text_c", "input_a", "input_b") if name not in taken)
    for name in texts:
        try:
            is_field = Template.parse(f"{{{name}}}").field_names == (name,)
        except PtuneError:
            is_field = False
        if not is_field:
            columns[name] = next(fresh)
    return columns


def _language(rows: Sequence[Example], texts: Sequence[str]) -> str:
    sample = "\n".join(value for name in texts for value in _values(rows, name))
    return "zh" if dominant_script(sample) == "unspaced" else "en"


# -- template and label words ----------------------------------------------------------------------------------------


def _wording(
    labels: Sequence[str], fields: tuple[str, ...], language: str
) -> tuple[Template, dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Template without learned tokens, label words, and what was guessed."""
    polarity = _polarities(labels) if len(fields) == 1 else {}
    if polarity:
        entry = next(entry for entry in templates("sentiment", language) if "decoder" in entry.kinds)
        words: dict[str, tuple[str, ...]] = {label: (_polarity_word(entry, polarity[label], language),) for label in labels}
        remarks = ("labels 0 and 1 were taken for negative and positive; put template and words right if they are not",)
        return _of_fields(entry, fields), words, remarks if set(labels) == {"0", "1"} else ()
    if len(fields) == 2 and set(labels) == {"0", "1"}:
        identity, no, yes = _SAME_MEANING[language]
        remarks = ("labels 0 and 1 were taken for `not the same` and `the same`; put template and words right if they are not",)
        return _of_fields(template(identity), fields), {"0": (no,), "1": (yes,)}, remarks
    for entry in templates(language=language):
        if "decoder" in entry.kinds and set(entry.labels) == set(labels) and len(entry.template.field_names) == len(fields):
            return _of_fields(entry, fields), {label: (entry.labels[label][0],) for label in labels}, ()
    return Template.parse(_GENERIC[language, len(fields)] % fields), _named_words(labels), _remarks_on_names(labels, language)


def _polarities(labels: Sequence[str]) -> dict[str, str]:
    """Each label as positive, negative or neutral; nothing where one is none of them or two are the same."""
    if set(labels) == {"0", "1"}:
        return {"0": "negative", "1": "positive"}
    of_name = {name: polarity for polarity, names in _POLARITY.items() for name in names}
    found = {label: of_name[label.lower()] for label in labels if label.lower() in of_name}
    is_whole = len(found) == len(labels) == len(set(found.values())) and {"positive", "negative"} <= set(found.values())
    return found if is_whole else {}


def _polarity_word(entry: Entry, polarity: str, language: str) -> str:
    return _NEUTRAL_WORD[language] if polarity == "neutral" else entry.labels[polarity][0]


def _of_fields(entry: Entry, fields: tuple[str, ...]) -> Template:
    """A library template with this data's field names."""
    names = dict(zip(entry.template.field_names, fields, strict=True))
    return Template(tuple(Field(names[node.name]) if isinstance(node, Field) else node for node in entry.template.nodes))


def _with_soft(hard: Template) -> Template:
    """The template with learned tokens behind its last field."""
    last = max(number for number, node in enumerate(hard.nodes) if isinstance(node, Field))
    return Template((*hard.nodes[: last + 1], Soft(_NUM_SOFT), *hard.nodes[last + 1 :]))


def _named_words(labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Label names as words: `book_flight` and `BookFlight` are read as `book flight`, unless two become the same."""
    words = [_readable(label) for label in labels]
    if len(set(words)) < len(words):
        words = list(labels)
    return {label: (word,) for label, word in zip(labels, words, strict=True)}


def _readable(label: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).replace("_", " ").replace("-", " ")
    return " ".join(spaced.split()).lower() if spaced.isascii() and spaced.strip() else label


def _remarks_on_names(labels: Sequence[str], language: str) -> tuple[str, ...]:
    if all(label.replace(".", "").isdigit() for label in labels):
        return ("the labels are numbers: replace the words by what they mean",)
    if language == "zh" and all(label.isascii() for label in labels):
        return ("the labels are not Chinese: Chinese words would suit the template better",)
    return ()


def _begins_another(words: Sequence[str]) -> bool:
    return any(first != second and second.startswith(first) for first in words for second in words)
