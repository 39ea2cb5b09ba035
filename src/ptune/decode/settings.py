"""How a text is written, and what comes of it.

In: the keywords of `predict`, the options of the command line, or a recipe's keys. Out: `DecodeSettings`, checked before any
work; and `Written`, one text with its log-probability and the reason why it ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ptune.errors import RecipeError

__all__ = ["DecodeSettings", "Reason", "Written"]

Reason = Literal["end", "stop", "length"]


class DecodeSettings(BaseModel):
    """How to write; the defaults take the most probable token at each step.

    Args:
        max_new_tokens: tokens that a text may have, its end token included.
        beams: hypotheses that are followed at once; 1 is no beam search.
        length_penalty: beams are ranked by log-probability / tokens ** length_penalty; above 0 favours longer texts.
        returns: texts for each row: its best beams, or so many samples.
        temperature: 0 takes the most probable token; above 0 draws tokens with probability P ** (1 / temperature).
        top_k: draws only from the k most probable tokens.
        top_p: draws only from the most probable tokens that together hold this share (nucleus sampling).
        seed: of what is drawn; the same row of a call draws the same, whatever stands beside it in a batch.
        stop: texts at which writing ends; they are not part of what is returned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(default=64, ge=1)
    beams: int = Field(default=1, ge=1, le=64)
    length_penalty: float = 1.0
    returns: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    stop: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> "DecodeSettings":
        if self.beams > 1 and self.temperature > 0:
            raise ValueError("beams and temperature exclude each other; set beams: 1 to draw samples")
        if self.returns > 1 and self.temperature == 0 and self.returns > self.beams:
            raise ValueError(f"{self.returns} texts are asked for from beams: {self.beams}; set a temperature or more beams")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise ValueError("top_k and top_p choose what is drawn from; set a temperature, such as 0.8")
        if not all(self.stop):
            raise ValueError("an empty stop text would end every answer at once; leave it out")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any], *, where: str = "predict") -> "DecodeSettings":
        """Checks the words of a call; None keeps a default.

        Args:
            values: settings by name; `stop` may be one text.
            where: what to call the place in an error.

        Raises:
            RecipeError: an unknown key, or values that do not fit.
        """
        given = {key: value for key, value in values.items() if value is not None}
        unknown = next((key for key in given if key not in cls.model_fields), None)
        if unknown is not None:
            raise RecipeError(f"there is no setting {unknown!r}", where=where, fix=f"use {', '.join(cls.model_fields)}")
        if isinstance(given.get("stop"), str):
            given["stop"] = (given["stop"],)
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ", ".join([where, *map(str, first["loc"][:1])])
            got = f" (got {first['input']!r})" if first["loc"] else ""
            raise RecipeError(first["msg"].removeprefix("Value error, ") + got, where=place) from None

    def but(self, values: Mapping[str, Any], *, where: str = "predict") -> "DecodeSettings":
        """These settings with others in the place of some; None changes nothing.

        Raises:
            RecipeError: see `of`.
        """
        return DecodeSettings.of({**self.model_dump(), **{k: v for k, v in values.items() if v is not None}}, where=where)


@dataclass(frozen=True)
class Written:
    """One text that was written.

    Args:
        text: without stop word, end token, special tokens, or white space at its ends.
        ids: its tokens, without the end token.
        log_probability: of all tokens written, the end token included, whatever the temperature.
        score: what beams are ranked by; else the log-probability.
        reason: `end` token, `stop` word, or `length`.
    """

    text: str
    ids: tuple[int, ...]
    log_probability: float
    score: float
    reason: Reason
