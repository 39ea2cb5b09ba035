"""Learning that does no harm: several prompts from one start, how far to go from it chosen on rows that each did not see.

Prompt k of K learns from all rows but those of fold k. From the common start s, each goes to e_k. For every step length l in
`STEP_LENGTHS`, the rows of fold k are scored with s + l (e_k - s). Of those l that get no fewer of these rows right than the
start does, the one with the lowest cross-entropy over all rows is taken, and s + l (mean_k e_k - s) is kept: one prompt, no
slower than any other. The cross-entropy is that at each l's own best temperature: a start that is merely too sure of itself
would lose to anything less sure. At l = 0 that is the start: nothing need be learned.
Sources: Stone 1974 (cross-validation); Wortsman et al. 2022 (model soups; WiSE-FT: from the zero-shot to the tuned weights);
Guo et al. 2017 (temperature).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.data import Example
from ptune.errors import DataError
from ptune.model import Prepared, PromptModel, TargetRows, TaskModel, fold_numbers, target_rows
from ptune.prompt import CandidatePrompts, PromptMethod, PromptSetup, StoredPrompt, build_prompt, parse_method
from ptune.readout import best_temperature
from ptune.recipe.recipe import Recipe

__all__ = ["STEP_LENGTHS", "HeldOut", "careful_rows", "same_start", "settle_folds", "with_folds"]

STEP_LENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

_NUM_FOLDS = 4
_MOST_ROWS = 512


@dataclass(frozen=True)
class HeldOut:
    """What the rows that each prompt did not see say.

    Args:
        folds: K.
        step_length: how far was gone from the start; 0 is the start itself.
        losses, accuracies: cross-entropy (at its best temperature) and accuracy over all rows at each step length; the accuracy
            at the chosen one is an estimate for new texts, a little too high because the length was chosen on these rows.
    """

    folds: int
    step_length: float
    losses: dict[float, float]
    accuracies: dict[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {
            name: {str(length): value for length, value in getattr(self, name).items()} for name in ("losses", "accuracies")
        }

    def __str__(self) -> str:
        before, after = self.accuracies[0.0], self.accuracies[self.step_length]
        gone = f"went {self.step_length:g} of the way" if self.step_length else "kept the start, which nothing learned beats"
        return f"on rows held out in {self.folds} folds: accuracy {before:.3f} at the start, {after:.3f} now; {gone}"


def with_folds(recipe: Recipe, rows: Sequence[Example], validation: Sequence[Example]) -> Recipe:
    """The recipe with `folds: auto` as a number, where it is one.

    Folds are for words that learn from few rows, with no validation rows to choose by; where the recipe asks for something that
    folds do not go with, one prompt learns from all rows.

    Args:
        recipe: checked.
        rows: training rows.
        validation: those to choose by, perhaps none.
    """
    if recipe.folds != "auto":
        return recipe
    goes_with = recipe.candidates == 1 and recipe.keep_candidates is None and recipe.augment is None
    is_plain = recipe.head is None and recipe.tune == "frozen" and recipe.label_loss == "cross-entropy"
    fewest = min(Counter(row.label for row in rows).values(), default=0)
    is_for_folds = recipe.learns_words and goes_with and is_plain and not validation and len(rows) <= _MOST_ROWS
    return recipe.model_copy(update={"folds": min(_NUM_FOLDS, fewest)}) if is_for_folds and fewest > 1 else recipe


def same_start(model: TaskModel, recipe: Recipe) -> Float[Tensor, "P E"] | None:
    """Gives all folds' prompts the first one's start and learning rate, and returns its rows; None without folds."""
    if recipe.num_folds is None:
        return None
    assert isinstance(model.prompt, CandidatePrompts)
    first = model.prompt.members[0]
    for member in model.prompt.members[1:]:
        member.load_state_dict(first.state_dict())
    model.prompt.rate_factors = (1.0,) * recipe.num_folds
    return _rows(first).clone()


def careful_rows(model: TaskModel, recipe: Recipe, rows: Prepared) -> Prepared:
    """Training rows with their folds, and with the start's distributions mixed into their targets, where the recipe says so.

    Raises:
        DataError: a class has a single row, which no prompt would both see and be judged by.
    """
    if recipe.num_folds is None and not recipe.pull:
        return rows
    assert isinstance(model, PromptModel)
    folds: Sequence[int] = ()
    if recipe.num_folds is not None:
        folds = fold_numbers(rows.labels, recipe.num_folds)
        for number, name in enumerate(model.labels.names):
            if rows.labels.count(number) < 2:
                raise DataError(
                    f"label {name!r} has one row, too few for folds", where="folds", fix="add rows or leave folds out"
                )
    targets = None
    if recipe.pull:
        true = torch.nn.functional.one_hot(torch.tensor(rows.labels), len(model.labels)).float()
        targets = (1 - recipe.pull) * true + recipe.pull * torch.softmax(model.scores(rows), 1)
    return target_rows(rows, targets=targets, folds=folds)


def settle_folds(model: TaskModel, rows: Prepared, start: Float[Tensor, "P E"] | None) -> HeldOut | None:
    """After training: chooses the step length on the folds and leaves the one prompt that it gives.

    Args:
        model: with the folds' prompts as candidates.
        rows: training rows with their folds.
        start: what `same_start` returned.
    """
    if start is None:
        return None
    assert isinstance(model, PromptModel) and isinstance(rows, TargetRows) and isinstance(model.prompt, CandidatePrompts)
    ends = torch.stack([_rows(member) for member in model.prompt.members])
    model.keep_candidate(0)  # all start as one prompt, so that they have one prior
    labels = torch.tensor(rows.labels)
    losses, accuracies = {}, {}
    for length in STEP_LENGTHS:
        unseen = _unseen_scores(model, rows, start + length * (ends - start))
        losses[length] = torch.nn.functional.cross_entropy(unseen / best_temperature(unseen, labels), labels).item()
        accuracies[length] = (unseen.argmax(1) == labels).float().mean().item()
    best = min((one for one in STEP_LENGTHS if accuracies[one] >= accuracies[0.0]), key=losses.__getitem__)
    model.prompt = _plain(model, start + best * (ends.mean(0) - start))
    return HeldOut(len(ends), best, losses, accuracies)


def _unseen_scores(model: PromptModel, rows: TargetRows, prompts: Float[Tensor, "K P E"]) -> Float[Tensor, "B C"]:
    """Each row's label scores by the prompt of its own fold, which has not seen it."""
    scores = torch.zeros(len(rows), model.num_outputs)
    for number, prompt in enumerate(prompts):
        mine = [at for at, fold in enumerate(rows.folds) if fold == number]
        model.prompt = StoredPrompt(prompt)
        scores[mine] = model.scores(replace(rows.some(mine), folds=()))
    return scores


def _plain(model: PromptModel, rows: Tensor) -> PromptMethod:
    """These rows as a prompt that could learn on, whatever encoder made them."""
    return build_prompt(parse_method("p-tuning"), PromptSetup(model.backbone.spec, model.layout, rows, model.seed))


def _rows(member: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        rows = member().rows
    assert isinstance(rows, Tensor)
    return rows.detach()
