"""What can be compared: anything that learns from labelled rows and gives probabilities for others.

A `Contender` is one method: ptune's own, or a baseline (one file each in `baselines/`), registered by name. `fit` gets rows to
learn from and rows to choose on, never the test rows; it hands back a `Fitted`. All get the same `Setup`, the same number of
`trials` (settings of which the best on validation is taken), and report what they learned, how fast, and how large it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ptune.backbone import Backbone, SharedContexts
from ptune.data import Example, did_you_mean
from ptune.errors import RecipeError
from ptune.template import resolve

__all__ = [
    "ON_TORCH",
    "Contender",
    "Fitted",
    "Needs",
    "Packages",
    "Paradigm",
    "Point",
    "Registry",
    "Setup",
    "look_of",
    "rates",
]

Paradigm = Literal["no learning", "counting", "word vectors", "fine-tuning", "prompting"]
"""The field's four paradigms in their order, after what learns nothing."""

Packages = tuple[tuple[str, str], ...]
"""Each with a module of it that is imported."""

ON_TORCH: Packages = (("torch", "torch"), ("transformers", "transformers"))
"""Of whatever reads a backbone."""

Needs = Literal["nothing", "backbone"]
Language = Literal["en", "zh"]
Probabilities = NDArray[np.float64]

_RATE_FACTORS = (1.0, 1 / 3, 3.0, 0.1, 10.0)
MAX_TRIALS = len(_RATE_FACTORS)


@dataclass(frozen=True)
class Setup:
    """What all contenders are given.

    Args:
        labels: names; a row's class number is the place in it.
        language: of the texts; Chinese is cut into characters.
        recipe: the recipe's keys but for the rows, the backbone, and how ptune's own methods learn.
        backbone: the model, None for contenders that need none.
        steps: number of training rows -> optimiser steps of whatever is trained by steps.
        batch_size: rows of a step.
        unlabelled: texts without labels that a contender may learn from (word vectors and PET do), in an order by chance.
        label_counts: rows of each label in all of the training file, of which the shots are a part.
        kept: contexts that cells share.
    """

    labels: tuple[str, ...]
    language: Language
    recipe: Mapping[str, Any]
    backbone: Backbone | None = None
    steps: Callable[[int], int] = lambda num_rows: 80
    batch_size: int = 8
    unlabelled: tuple[Example, ...] = ()
    label_counts: tuple[int, ...] = ()
    kept: SharedContexts = field(default_factory=SharedContexts)

    def classes(self, rows: Sequence[Example]) -> NDArray[np.int64]:
        """[R] class numbers of labelled rows."""
        return np.array([self.labels.index(row.label or "") for row in rows], dtype=np.int64)

    def fields(self, row: Example) -> tuple[str, ...]:
        """The texts of a row that the template names, in its order."""
        values = (row.fields[name] for name in resolve(self.recipe["template"]).field_names)
        return tuple(value if isinstance(value, str) else " ".join(value) for value in values)

    def texts(self, rows: Sequence[Example]) -> list[str]:
        """Each row as one text."""
        return ["\n".join(self.fields(row)) for row in rows]

    def model(self) -> Backbone:
        """The backbone of a contender that needs one."""
        assert self.backbone is not None
        return self.backbone


@dataclass(frozen=True)
class Point:
    """How a contender did on validation on its way.

    Args:
        step: optimiser steps done.
        seconds: since training began, looks included.
        accuracy, loss: on the validation rows.
    """

    step: int
    seconds: float
    accuracy: float
    loss: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass
class Fitted(ABC):
    """What a contender has learned.

    Args:
        num_trained: parameters that learned.
        num_bytes: what has to be stored for the task, beside a backbone that stays as it was.
        curve: looks at validation; empty where learning has no steps.
        facts: anything else worth a line in the report.
    """

    num_trained: int = 0
    num_bytes: int = 0
    curve: tuple[Point, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @abstractmethod
    def predict(self, rows: Sequence[Example]) -> Probabilities:
        """[R, C] probabilities of rows, their labels not looked at; a row's do not depend on the others."""

    def save(self, folder: Path) -> bool:
        """Writes what `Contender.load` reads, and says whether there is such a thing; if not, it is learned again."""
        return False


class Contender(ABC):
    """One method of the comparison.

    Class attributes (or set by `__init__`):
        name: as it is called in specs and reports.
        title: for people.
        paradigm: which of the field's paradigms.
        needs: `nothing`, or a `backbone`.
        version: goes up when the same settings would give other results.
        uses_unlabelled, uses_label_counts: whether `Setup.unlabelled` and `Setup.label_counts` matter.
        most_unlabelled: texts without labels that it reads at most; None for all of them.
        copies_model: whether it learns in a copy of the model, so that the loaded one is in memory for the comparison alone.
        own_fields: of rows, that it reads beside those of the recipe's template.
        wording: keys that a comparison may give it (`wordings`), of a method that asks otherwise than the recipe does.
        packages: what it is made with, other than ptune: their versions decide its results too, and their modules are imported
            before learning is timed.
        load_per_step: how much more a training step costs than reading the same rows; 0 where nothing is trained by steps.
    """

    name: str
    title: str
    paradigm: Paradigm
    needs: Needs = "nothing"
    version: int = 1
    uses_unlabelled: bool = False
    most_unlabelled: int | None = None
    uses_label_counts: bool = False
    copies_model: bool = False
    own_fields: tuple[str, ...] = ()
    wording: tuple[str, ...] = ()
    packages: Packages = ()
    load_per_step: float = 0.0

    @abstractmethod
    def trials(self, count: int) -> list[dict[str, Any]]:
        """The settings to choose from, the default first; fewer than `count` only where there is no more to choose."""

    def num_trials(self, trials: Sequence[Mapping[str, Any]]) -> int:
        """How many settings are tried with these `trials`, those that a fit tries by itself included."""
        return len(trials)

    def carried(self, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """What further seeds take over from the choice of the first: its settings, or what a fit chose by itself.

        Args:
            settings: the trial that did best.
            facts: of what was learned with it.
        """
        return dict(settings)

    def refusal(self, setup: Setup) -> str:
        """Why it cannot run on this backbone or with these label words; empty where it can."""
        return ""

    @abstractmethod
    def fit(
        self, setup: Setup, train: Sequence[Example], validation: Sequence[Example], *, seed: int, settings: Mapping[str, Any]
    ) -> Fitted:
        """Learns.

        Args:
            setup: what all are given.
            train: rows to learn from.
            validation: rows to choose a step on.
            seed: of everything random.
            settings: one of `trials`.

        Raises:
            PtuneError: it cannot run; the comparison keeps the reason.
        """

    def load(self, folder: Path, setup: Setup) -> Fitted | None:
        """What `Fitted.save` wrote."""
        return None

    @property
    def identity(self) -> dict[str, Any]:
        """What, beside data and settings, decides its results; part of the key under which they are kept."""
        return {"name": self.name, "version": self.version}


class Registry:
    """Contenders by name, in the order in which they are compared."""

    contenders: ClassVar[dict[str, Contender]] = {}

    @classmethod
    def add(cls, contender: Contender) -> None:
        """Makes one known."""
        cls.contenders[contender.name] = contender

    @classmethod
    def get(cls, name: str) -> Contender:
        """The one of that name.

        Raises:
            RecipeError: there is none.
        """
        if name not in cls.contenders:
            fix = did_you_mean(name, cls.contenders, f"there are {', '.join(cls.contenders)}")
            raise RecipeError(f"there is no method {name!r} to compare", where="compare.methods", fix=fix)
        return cls.contenders[name]


def rates(base: float, count: int) -> list[dict[str, Any]]:
    """Learning rates around a default, the default first."""
    return [{"learning_rate": float(f"{base * factor:.3g}")} for factor in _RATE_FACTORS[:count]]


def look_of(probabilities: Probabilities, classes: NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and mean negative log-likelihood."""
    right = float((probabilities.argmax(1) == classes).mean())
    own = probabilities[np.arange(len(classes)), classes].clip(1e-12)
    return right, float(-np.log(own).mean())
