"""Everything that torch does for the server, on the one thread that may call it: tasks are built, texts are labelled.

In: vetted bundles, then rows of any number of tasks. Out: tasks, and for each row its prediction or the reason why there is
none. Rows of most tasks share batches whatever task they are of (see `predict_mixed`); others take their rows together. A
row that cannot be used never harms the rows beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ptune.backbone import Backbone
from ptune.decode import Written
from ptune.errors import PtuneError
from ptune.model import TextPrediction
from ptune.serve.logs import log
from ptune.serve.refusals import Refusal, fault, of_error
from ptune.serve.vetting import Vetted
from ptune.task import Task, predict_mixed, task_of

__all__ = ["Engine", "InputRow", "as_prediction", "kind_of_task", "refusal_of", "task_bytes"]

InputRow = str | Mapping[str, Any]


class Engine:
    """One frozen model and what it computes; not to be called from two threads at once.

    Args:
        backbone: the model that all tasks share.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._by_start: dict[str | None, Backbone] = {backbone.text_start: backbone}
        _ = backbone.takes_plan, backbone.reads_where_needed  # tried once, before there are two threads

    def build(self, vetted: Vetted) -> Task:
        """A bundle on the backbone.

        Raises:
            PtuneError: it does not fit.
        """
        start = vetted.card["backbone"]["text_start"]
        if start not in self._by_start:  # the same weights, but texts that start with another token
            own = self.backbone
            self._by_start[start] = Backbone(own.model, own.tokens.tokenizer, name=own.spec.name, text_start=start)
        return task_of(vetted.bundle, self._by_start[start])

    def cost(self, task: Task, row: InputRow) -> int:
        """Live tokens of a row.

        Raises:
            PtuneError: the task cannot read it.
        """
        model = task.model
        prepared = model.prepare(task.examples([row]))
        lead = model.num_lead(prepared.encoded) if model.can_share_a_batch else 0
        return max(1, sum(model.live_lengths(prepared)) - lead * len(prepared))

    def predict(self, rows: Sequence[tuple[Task, InputRow]]) -> list[Any]:
        """A prediction, or a `Refusal`, for each row."""
        answers: list[Any] = [None] * len(rows)
        groups: dict[int, list[int]] = {}
        for place, (task, _) in enumerate(rows):
            groups.setdefault(0 if task.model.can_share_a_batch else id(task), []).append(place)
        for places in groups.values():
            self._answer([rows[place] for place in places], places, answers)
        return answers

    def _answer(self, rows: Sequence[tuple[Task, InputRow]], places: Sequence[int], answers: list[Any]) -> None:
        """All at once; one by one where that failed, so that only the row at fault goes without an answer."""
        try:
            found: Sequence[Any] = predict_mixed(rows)
        except Exception as error:
            if len(rows) > 1:
                for row, place in zip(rows, places, strict=True):
                    self._answer([row], [place], answers)
                return
            found = [refusal_of(error)]
        for place, one in zip(places, found, strict=True):
            answers[place] = one


def kind_of_task(card: Mapping[str, Any]) -> str:
    """What kind of task a bundle's card is of; the first bundles were all for classification."""
    return str(card["task"].get("kind") or "classification")


def task_bytes(task: Task) -> int:
    """Memory that a task takes beside the backbone: its own tensors, and what is kept of its texts' common beginning."""
    model = task.model
    own = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if model.tune == "lm":
        own += sum(tensor.nbytes for tensor in model.backbone.model.parameters())
    return own + model.lead_bytes


def as_prediction(written: tuple[Written, ...]) -> TextPrediction:
    """Texts that were written for one row as its prediction."""
    best, *others = written
    return TextPrediction(best.text, best.log_probability, best.reason, tuple(one.text for one in others))


def refusal_of(error: Exception) -> Refusal:
    """What a client is told of an error: a `PtuneError`'s own words, or that there was one; the log has the rest."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, PtuneError):
        return of_error(error)
    log("text_failed", level="error", error=f"{type(error).__name__}: {error}")
    return fault()
