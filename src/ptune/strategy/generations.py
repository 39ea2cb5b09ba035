"""iPET's growing training sets: what the other models say of unlabelled texts becomes the next models' labelled rows.

In: scores of the unlabelled texts by every model. Out: for each model the texts that it gets, with labels. Each class gets its
share of the labelled set times the generation's growth; texts are drawn in proportion to the confidence of the models asked.
Source: Schick & Schütze 2021 (Exploiting Cloze Questions), section 3.5. Deviation: a class that no text is predicted for ends
the generations (`EmptyClass`), where their code loops for ever.
"""

import random
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from ptune.strategy.teaching import soft_labels

__all__ = ["EmptyClass", "next_set", "teachers_of"]


class EmptyClass(Exception):
    """A class was predicted for no text, so a set with all classes cannot be made.

    Args:
        label: its number.
    """

    def __init__(self, label: int) -> None:
        super().__init__(label)
        self.label = label


def teachers_of(model: int, num_models: int, share: float, rng: random.Random) -> list[int]:
    """Which of the other models label the texts of this one: a random share of them, at least one."""
    others = [number for number in range(num_models) if number != model]
    return sorted(rng.sample(others, min(len(others), max(1, round(share * len(others))))))


def next_set(
    scores: Float[Tensor, "M U C"], weights: Sequence[float], wanted: Sequence[int], rng: random.Random
) -> list[tuple[int, int]]:
    """Texts with labels, as (number of the text, number of the label).

    Args:
        scores: of the models asked.
        weights: their shares.
        wanted: how many texts of each class; a class with fewer predictions gives all that it has.
        rng: draws the texts.

    Raises:
        EmptyClass: no text has a class as its best label.
    """
    probabilities = soft_labels(scores, weights, temperature=1.0)
    best = probabilities.max(1)
    chosen: list[tuple[int, int]] = []
    for label, number in enumerate(wanted):
        pool = [at for at, predicted in enumerate(best.indices.tolist()) if predicted == label]
        if number and not pool:
            raise EmptyClass(label)
        confidence = {at: float(best.values[at]) for at in pool}
        # the largest u^(1/w) of independent uniform u: draws without replacement in proportion to w (Efraimidis & Spirakis)
        keys = {at: rng.random() ** (1 / max(confidence[at], 1e-9)) for at in pool}
        chosen += [(at, label) for at in sorted(pool, key=lambda at: (-keys[at], at))[:number]]
    return chosen
