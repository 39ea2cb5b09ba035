"""More training rows from few: copies of each text with small changes that leave its label as it is.

In: labelled rows. Out: the same rows, each followed by its changed copies. A piece of a text is a Chinese, Japanese or Korean
character or a run of other letters; nothing is looked up, so that every language will do. Sources: Wei & Zou 2019 (EDA), random
swap and deletion; Karimi et al. 2021 (AEDA), punctuation put in at random. Not there: synonyms, which need a dictionary.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ptune.data.example import Example

__all__ = ["Augment", "augmented"]

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_PIECES = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_MARKS = {"wide": "。；，、！？", "narrow": ".;?:!,"}


class Augment(BaseModel):
    """The recipe key `augment`.

    Args:
        copies: of each row.
        swap: share of the pieces that change places with another one.
        delete: share of the pieces that are left out; one always stays.
        punctuate: marks that are put in, as a share of the pieces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    copies: int = Field(default=2, ge=1, le=32)
    swap: float = Field(default=0.1, ge=0, le=1)
    delete: float = Field(default=0.1, ge=0, lt=1)
    punctuate: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _changes_something(self) -> "Augment":
        if not (self.swap or self.delete or self.punctuate):
            raise ValueError("swap, delete and punctuate are all 0, so copies would be the same")
        return self

    def change(self, text: str, draw: random.Random) -> str:
        """One text with one change of each kind that is not 0: at least one piece each, where there are two."""
        pieces = [(match.group(), text[match.end() : _next(text, match.end())]) for match in _PIECES.finditer(text)]
        if len(pieces) < 2:
            return text
        lead = text[: _next(text, 0)]
        words, gaps = [word for word, _ in pieces], [gap for _, gap in pieces]
        for _ in range(_how_many(self.swap, len(words))):
            one, other = draw.sample(range(len(words)), 2)
            words[one], words[other] = words[other], words[one]
        for _ in range(min(_how_many(self.delete, len(words)), len(words) - 1)):
            at = draw.randrange(len(words))
            del words[at], gaps[at]
        for _ in range(_how_many(self.punctuate, len(words))):
            at = draw.randrange(len(words))
            is_wide = re.match(rf"[{_CJK}]", words[at]) is not None
            words[at] += ("" if is_wide else " ") + draw.choice(_MARKS["wide" if is_wide else "narrow"])
        return lead + "".join(word + gap for word, gap in zip(words, gaps, strict=True))


def augmented(rows: Sequence[Example], settings: Augment, *, fields: Sequence[str], seed: int) -> tuple[Example, ...]:
    """Each row and then its copies.

    Args:
        rows: labelled.
        settings: how many copies, and how they change.
        fields: whose texts are changed; lists of texts and all other columns stay.
        seed: a row's copies depend on it and on the row's place alone.
    """
    out = []
    for number, row in enumerate(rows):
        out.append(row)
        for copy in range(settings.copies):
            draw = random.Random(f"{seed} {number} {copy}")
            texts = {name: settings.change(value, draw) for name in fields if isinstance(value := row.fields.get(name), str)}
            out.append(replace(row, fields={**row.fields, **texts}))
    return tuple(out)


def _next(text: str, at: int) -> int:
    """Where the white space at a place ends."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _how_many(share: float, num: int) -> int:
    return max(1, round(share * num)) if share else 0
