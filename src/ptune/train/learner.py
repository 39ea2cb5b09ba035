"""What the loop asks of whatever it trains: a task's model, or a language model that reads on (`ptune.model.LanguageModel`)."""

from collections.abc import Sequence, Sized
from typing import Any, Protocol, TypeVar

from ptune.backbone import Backbone
from ptune.inputs import Batch
from ptune.model import Look, Outcome

__all__ = ["Learner"]

Rows = TypeVar("Rows", bound=Sized, contravariant=True)


class Learner(Protocol[Rows]):
    """Something with parameters that learn, and rows of its own kind that it learns from; see `TaskModel` for each method."""

    @property
    def backbone(self) -> Backbone:
        """The model that it reads with."""

    @property
    def metric(self) -> str:
        """Name of the figure of its looks."""

    @property
    def has_candidates(self) -> bool:
        """Whether several prompts learn side by side."""

    def __call__(self, batch: Batch, /) -> Outcome:
        """A batch's loss."""

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """Groups for an optimiser."""

    def batch(self, rows: Rows, index: Sequence[int], /) -> Batch:
        """The rows with these numbers; whatever it draws, it draws from torch's generator, which the loop seeds by the step."""

    def live_lengths(self, rows: Rows, /) -> list[int]:
        """Tokens of each row that are computed."""

    def looks(self, rows: Rows, /) -> list[Look]:
        """How it does on rows; one look for each candidate."""

    def keep_candidate(self, number: int, /) -> None:
        """Goes on with one of the candidates alone."""
