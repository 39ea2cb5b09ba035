"""Recipe keys that keep a run from doing harm: where it starts, how far it goes, and what its scores are worth.

They are for classification; what they do stands in `recipe/caring.py` (calibration, confidence) and `recipe/folds.py`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ptune.data import Augment, did_you_mean
from ptune.model import OUT_OF_SCOPE
from ptune.readout import calibration_names

__all__ = ["CARE_KEYS", "CareKeys"]

_MOST_FOLDS = 16


class CareKeys(BaseModel):
    """Keys of calibration, confidence and careful learning.

    Args:
        learn: what learns: the template's learned `tokens`, or its `words` in front of the answer, so that training starts
            exactly at the hard template; `auto` takes the words where a template for p-tuning has no {soft}.
        folds: prompts to train side by side from one start, each without its share of the rows, which then say how far to go
            from the start; their mean is kept. 1 trains one prompt on all rows; `auto` takes 4 where words learn from few rows
            and nothing else says when to stop.
        pull: share of the target that is the start's own distribution over labels rather than the label.
        r_drop: weight of R-Drop, by which two readings of a row with different dropout are made to agree.
        label_loss: `cross-entropy` of the labels' shares, or `decoupled`: each label's probability among all words (ADAPET).
        label_conditioning: weight of ADAPET's second loss on a masked model: the text's own words given the label.
        contrastive: weight of SetFit's loss: hidden states at {mask} are alike for texts of one label, and unlike for others.
        augment: changed copies of each training text, see `ptune.data.Augment`; None for none.
        calibration: by which texts the model's own preference among labels is measured before it is taken out: `prior` (the
            training texts, until nothing is left over), `batch` (unlabelled texts, once), `contextual` (texts without content),
            `domain` (the template without a text), `none`; or {name: batch, texts: unlabelled.jsonl}.
        temperature: whether probabilities are scaled on the validation rows after training; labels stay as they are.
        abstain_below: highest probability under which the task says `out_of_scope` in place of a label.
        out_of_scope: what it says then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learn: Literal["auto", "tokens", "words"] = "auto"
    folds: Literal["auto"] | int = "auto"
    pull: float = Field(default=0.0, ge=0, lt=1)
    r_drop: float = Field(default=0.0, ge=0)
    label_loss: Literal["cross-entropy", "decoupled"] = "cross-entropy"
    label_conditioning: float = Field(default=0.0, ge=0)
    contrastive: float = Field(default=0.0, ge=0)
    augment: Augment | None = None
    calibration: Any = "prior"
    temperature: bool = False
    abstain_below: float | None = Field(default=None, gt=0, lt=1)
    out_of_scope: str = Field(default=OUT_OF_SCOPE, min_length=1)

    @field_validator("folds", mode="before")
    @classmethod
    def _folds_are_counted(cls, value: Any) -> Any:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value != "auto" and not (is_number and 1 <= value <= _MOST_FOLDS):
            raise ValueError(f"folds is auto, or a number from 1 to {_MOST_FOLDS}")
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _augment_keys_are_known(cls, value: Any) -> Any:
        other = sorted(set(value) - set(Augment.model_fields)) if isinstance(value, Mapping) else ()
        if other:
            fix = did_you_mean(str(other[0]), Augment.model_fields, f"use {', '.join(Augment.model_fields)}")
            raise ValueError(f"{other[0]!r} is no key of augment; {fix}")
        return value

    @field_validator("calibration")
    @classmethod
    def _calibration_is_known(cls, value: Any) -> Any:
        name = value.get("name") if isinstance(value, Mapping) else value
        if name not in calibration_names():
            raise ValueError(
                f"{name!r} is no calibration; {did_you_mean(str(name), calibration_names(), 'see docs/recipe.md')}"
            )
        if isinstance(value, Mapping):
            other = sorted(set(value) - {"name", "texts"})
            if other:
                raise ValueError(f"{other[0]!r} is no key of calibration; use name and texts")
            if name in ("prior", "none") and value.get("texts") is not None:
                raise ValueError(f"{name} takes no texts; use batch, contextual or domain")
        return value

    @model_validator(mode="after")
    def _abstains_with_a_threshold(self) -> "CareKeys":
        if "out_of_scope" in self.model_fields_set and self.abstain_below is None:
            raise ValueError("out_of_scope needs abstain_below; set abstain_below: 0.6, say")
        return self

    @property
    def num_folds(self) -> int | None:
        """Prompts trained side by side, each without its share; None where one learns from all rows, or it is yet to say."""
        return self.folds if isinstance(self.folds, int) and self.folds > 1 else None

    @property
    def calibration_name(self) -> str:
        """The calibration's name."""
        return str(self.calibration["name"] if isinstance(self.calibration, Mapping) else self.calibration)

    @property
    def calibration_texts(self) -> Any:
        """Texts or rows to calibrate by, as given; None where the calibration has its own."""
        return self.calibration.get("texts") if isinstance(self.calibration, Mapping) else None


CARE_KEYS = tuple(CareKeys.model_fields)
