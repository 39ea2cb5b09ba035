"""One stage of a task, training or inference: what of a row is computed when, and what that costs.

In: a model and prepared rows. Out: `Phase`: the segments of a row in reading order with a decision each, and the cost of an
example beside that of the plain way. Decisions are the engine's own (`decide_keeping`, `trunk_start`, `num_shared`,
`num_lead`); counts are taken from the batches that it lays out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from ptune.inputs import Encoded, trunk_start
from ptune.model import Prepared, PromptModel
from ptune.prompt import registration
from ptune.recipe.cost import Computed, Cost, computed, cost, prices
from ptune.recipe.keeping import Keeping, num_shared
from ptune.recipe.recipe import Recipe
from ptune.template import Choice, Demos, Field, Mask, Node, Soft, Text

__all__ = ["Decision", "Phase", "PlannedSegment", "Stage", "plan_inference", "plan_training"]

Decision = Literal["constant for the task", "constant per example", "once for a batch", "live"]
Stage = Literal["training", "inference"]

_LIVE: Decision = "live"
_NAMES = {"": "template words", "soft": "learned tokens", "special": "special token"}
_NOT_FIELDS = tuple(_NAMES)


@dataclass(frozen=True)
class PlannedSegment:
    """Neighbouring tokens of a row that have one origin and one decision.

    Args:
        name: `special token`, `template words`, `learned tokens`, `field NAME`, `answer slot`, or what the answer adds.
        tokens: mean number in a row; those of all live segments, and their share of those of a batch, add up to what is
            computed for one candidate.
        decision: whether they are computed once per task, once per example, once for all rows of a forward pass, or each time.
        reason: why.
    """

    name: str
    tokens: float
    decision: Decision
    reason: str


@dataclass(frozen=True)
class Phase:
    """Training or inference.

    Args:
        stage: which.
        segments: of a row, in reading order.
        cost: means per example, over all candidates.
        plain: the same with nothing kept and all logits at every position, as PEFT computes it.
        num_candidates: prompts that are computed side by side.
        examples_per_step: of an optimiser step; 1 in inference.
        formula: how operations were counted.
    """

    stage: Stage
    segments: tuple[PlannedSegment, ...]
    cost: Cost
    plain: Cost
    num_candidates: int
    examples_per_step: int
    formula: str

    @property
    def gain(self) -> float:
        """How many times fewer operations than the plain way."""
        return self.plain.flops / self.cost.flops

    @property
    def flops_per_step(self) -> float:
        """Of all examples of a step."""
        return self.cost.flops * self.examples_per_step

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        one = self.num_candidates
        return {
            **asdict(self),
            "flops_per_example": self.cost.flops,
            "flops_per_step": self.flops_per_step,
            "plain_flops_per_example": self.plain.flops,
            "gain": self.gain,
            "per_candidate": {"live_tokens": self.cost.live_tokens / one, "flops_per_example": self.cost.flops / one},
        }


def plan_training(model: PromptModel, recipe: Recipe, rows: Prepared, keeping: Keeping, num_train_rows: int) -> Phase:
    """How a run reads its training rows in every step.

    Args:
        model: with all its candidates.
        recipe: of the run.
        rows: those to be counted.
        keeping: what was decided for all of them.
        num_train_rows: how many there are in all.
    """
    num_rows = min(recipe.batch_size, num_train_rows)
    shared = 0 if keeping.is_kept else num_shared(model, recipe, rows.encoded, num_rows)
    skips = [trunk_start(row) if keeping.is_kept else shared for row in rows.encoded]

    def reason(row: Encoded, at: int) -> str:
        if row.owner[at] == "soft":
            return "learned: new in each step"
        if not keeping.is_kept:
            return keeping.reason
        return "read for the answer" if at < row.split else "behind a learned token, which it sees"

    kept: tuple[Decision, str] = ("constant per example", "frozen, in front of the first learned token")
    if shared:
        kept = ("once for a batch", "all rows start with it, and none of it sees what follows")
    return _phase("training", model, rows, skips, kept, reason, num_rows * recipe.accumulate, shared / num_rows)


def plan_inference(model: PromptModel, rows: Prepared) -> Phase:
    """How the trained task reads rows like these."""
    lead = model.num_lead(rows.encoded)
    refusal = model.why_no_lead()

    def reason(row: Encoded, at: int) -> str:
        if refusal:
            return refusal
        if row.owner[at] not in _NOT_FIELDS:
            return "each row's own"
        first = next((number for number, owner in enumerate(row.owner) if owner not in _NOT_FIELDS), len(row))
        if at > first:
            return "behind the row's own text, which it sees"
        return "read for the answer, or not the same in all rows" if lead else "too few tokens that all rows start with"

    kept: tuple[Decision, str] = ("constant for the task", "all rows start with it")
    return _phase("inference", model, rows, [lead] * len(rows), kept, reason, 1)


def _phase(
    stage: Stage,
    model: PromptModel,
    rows: Prepared,
    skips: Sequence[int],
    kept: tuple[Decision, str],
    reason: Callable[[Encoded, int], str],
    num_examples: int,
    shared: float = 0.0,
) -> Phase:
    """Counts and describes; `reason` says of (row, token) why it is live; `shared`: an example's part of a batch's tokens."""
    candidates = model.num_candidates
    counts = [computed(model, rows, number, skip) for number, skip in enumerate(skips)]
    price = prices(model, is_training=stage == "training", columns=counts[0].columns)
    whole = [computed(model, rows, number, 0) for number in range(len(rows))]
    return Phase(
        stage,
        (*_segments(model, rows, skips, counts, kept, reason), *_extras(model, counts)),
        cost(counts, price, candidates, shared=shared),
        cost(whole, price, candidates, all_logits=True),
        candidates,
        num_examples,
        price.formula,
    )


# -- segments --------------------------------------------------------------------------------------------------------


def _segments(
    model: PromptModel,
    rows: Prepared,
    skips: Sequence[int],
    counts: Sequence[Computed],
    kept: tuple[Decision, str],
    reason: Callable[[Encoded, int], str],
) -> list[PlannedSegment]:
    """Runs of tokens by origin and decision, in reading order."""
    order = _order(model)
    found: dict[tuple[int, Decision, str], int] = {}
    for row, skip in zip(rows.encoded, skips, strict=True):
        for at, place in enumerate(_places(row, order)):
            key = (place, *kept) if at < skip else (place, _LIVE, reason(row, at))
            found[key] = found.get(key, 0) + 1
    in_order = [
        (place, PlannedSegment(_name(order[place]), number / len(rows), decision, why))
        for (place, decision, why), number in found.items()
    ]
    if None in order:
        in_order.append((order.index(None), _answer(model, rows, skips, counts)))
    return [segment for _, segment in sorted(in_order, key=lambda one: (one[0], one[1].decision == _LIVE))]


def _order(model: PromptModel) -> list[str | None]:
    """Owners of a row's tokens in reading order, each run once; None is the answer slot."""
    owners = [_owner(node) for node in model.template.nodes]
    lead = registration(model.method).num_lead(model.method)
    return [owner for owner, _ in groupby([*owners[:lead], "special", *owners[lead:], "special"])]


def _owner(node: Node) -> str | None:
    """As `Encoded.owner` has it."""
    match node:
        case Text():
            return ""
        case Field(name):
            return name
        case Soft():
            return "soft"
        case Mask():
            return None
        case Choice() | Demos():
            return type(node).__name__.lower()
        case _:
            return "special"


def _places(row: Encoded, order: Sequence[str | None]) -> list[int]:
    """For each token, which entry of `order` it belongs to; a row may lack some."""
    places, at = [], 0
    for number, owner in enumerate(row.owner):
        if number == row.slot:
            at = order.index(None)
        at = order.index(owner, at)
        places.append(at)
    return places


def _name(owner: str | None) -> str:
    return _NAMES.get(owner or "", f"field {owner}")


def _answer(model: PromptModel, rows: Prepared, skips: Sequence[int], counts: Sequence[Computed]) -> PlannedSegment:
    """The answer slot of a masked or encoder-decoder model; a causal model's branches."""
    own = [count.row - (len(row) - skip) for count, row, skip in zip(counts, rows.encoded, skips, strict=True)]
    tokens = sum(own) / len(rows)
    if model.answers is None:
        return PlannedSegment(
            "answer slot", tokens, _LIVE, "the head reads it" if model.pool == "mask" else "nothing is read here"
        )
    num_words = len(model.answers)
    if model.backbone.kind != "decoder":
        return PlannedSegment("answer slot", tokens, _LIVE, f"{num_words} label words are scored for it")
    if not tokens:
        return PlannedSegment("answer slot", 0.0, _LIVE, f"read at the token in front: {num_words} label words' columns")
    reason = f"{num_words} label words branch off"
    if any(row.slot != len(row) for row in rows.encoded):
        reason += ", each with what stands behind the slot (counted once there)"
    return PlannedSegment("label-word branches", tokens, _LIVE, reason)


def _extras(model: PromptModel, counts: Sequence[Computed]) -> list[PlannedSegment]:
    """What is computed beside a row: more rows of the same example, an encoder-decoder's decoder."""
    again = sum(count.all_rows - count.row for count in counts) / len(counts)
    decoder = sum(count.decoder for count in counts) / len(counts)
    extras = []
    if again:
        why = "a pass for each mask and a row for each word" if model.fill == "pet" else "other fillings of the answer slot"
        extras.append(PlannedSegment("the whole row again", again, _LIVE, why))
    if decoder:
        extras.append(PlannedSegment("decoder", decoder, _LIVE, "writes the label words"))
    return extras
