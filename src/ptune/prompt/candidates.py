"""Several candidate prompts of one task, run side by side on the same texts.

In: prompts of one shape, each with its own initialisation and learning rate. Out: one `PromptState` whose rows are [J, P, E].
Parameters: J times those of one prompt. The candidates share nothing but the batch: each one's gradients, and so its whole
training, are those that it would have alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptune.errors import PromptError
from ptune.inputs import PromptState
from ptune.prompt.method import PromptMethod

__all__ = ["CandidatePrompts", "CandidateVariation", "vary"]

_RATE_FACTORS = (1.0, 0.3, 3.0)
_JITTER = 0.1


@dataclass(frozen=True)
class CandidateVariation:
    """How one candidate differs from the recipe's own prompt.

    Args:
        seed: of its initialisation.
        rate_factor: its learning rate over the method's.
        jitter: noise on its initial rows, as a share of the embeddings' root mean square.
    """

    seed: int
    rate_factor: float = 1.0
    jitter: float = 0.0


def vary(num_candidates: int, seed: int) -> tuple[CandidateVariation, ...]:
    """Candidate 0 is the recipe's own; the others start elsewhere and take turns at 1, 0.3 and 3 times its learning rate."""
    return tuple(
        CandidateVariation(seed + number, _RATE_FACTORS[number % len(_RATE_FACTORS)], _JITTER if number else 0.0)
        for number in range(num_candidates)
    )


class CandidatePrompts(PromptMethod):
    """J prompts side by side.

    Args:
        members: prompts of the same shape.
        rate_factors: each one's learning rate over its method's default, or over the recipe's `learning_rate`.

    Raises:
        PromptError: a prompt that has no rows (a hard one) cannot be varied.
    """

    def __init__(self, members: Sequence[PromptMethod], rate_factors: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.rate_factors = tuple(rate_factors)
        if any(member().rows is None for member in members):
            raise PromptError("this method learns no rows, so there are no candidates to try", where="candidates")

    def forward(self) -> PromptState:
        """[J, P, E]."""
        return PromptState(rows=torch.stack([_rows(member()) for member in self.members]))

    @property
    def learning_rate(self) -> float:
        """Of candidate 0."""
        first = self.members[0]
        assert isinstance(first, PromptMethod)
        return first.learning_rate


def _rows(state: PromptState) -> Tensor:
    assert state.rows is not None
    return state.rows
