"""The same demonstrations in other orders: how far a task's answers hang on the order in which it is shown labelled texts.

In: a task with demonstrations, one set for all texts or the nearest of each, and rows. Out: for each order a task and rows that
are asked so. The prior that is taken out stays the one that was measured in the first order. Source: Lu et al. 2022
(Fantastically Ordered Prompts and Where to Find Them), who found orders that are near chance beside others that are not.
"""

from collections.abc import Callable, Iterator, Sequence

from ptune.compare.stress.perturbation import generator
from ptune.compare.stress.wordings import variant
from ptune.compare.wording import Both
from ptune.data import Example
from ptune.model import with_column
from ptune.task import Task, as_classifier
from ptune.template import Template, Text

__all__ = ["demo_orders"]

Order = Callable[[int, str], list[int]]
"""(how many, text that they are shown to) -> their numbers in another order."""
_NUM_SHUFFLED = 3


def demo_orders(task: Task, rows: Sequence[Example], seed: int) -> Iterator[tuple[Both, Task, Sequence[Example]]]:
    """Each order's title, and the task and rows that are asked in it; none where fewer than two demonstrations are shown.

    Args:
        task: a classification.
        rows: with the fields of its template.
        seed: of the shuffled orders.
    """
    near = as_classifier(task).near_demos
    if near is None:
        for title, other in _set_in_orders(task, seed):
            yield title, other, rows
        return
    chosen = near.nearest(rows)
    if not chosen or len(chosen[0]) < 2:
        return
    for title, order in _orders(seed):
        shown = [[own[at] for at in order(len(own), str(row.fields))] for row, own in zip(rows, chosen, strict=True)]
        yield title, task, [with_column(row, near.text(own)) for row, own in zip(rows, shown, strict=True)]


def _set_in_orders(task: Task, seed: int) -> Iterator[tuple[Both, Task]]:
    """The task with its one set of demonstrations, which stand among its template's words, in each order."""
    noted = task.facts.get("demonstrations", {"texts": [], "separator": ""})
    texts, between = noted["texts"], noted["separator"]
    template, seen = as_classifier(task).template, [texts]
    for title, order in _orders(seed):
        other = [texts[at] for at in order(len(texts), "")]
        if other in seen:
            continue
        seen.append(other)
        before, after = between.join(texts), between.join(other)
        nodes = [Text(node.text.replace(before, after)) if isinstance(node, Text) else node for node in template.nodes]
        for _, changed in variant(task, title[0], {"template": str(Template(tuple(nodes)))}):
            yield title, changed


def _orders(seed: int) -> Iterator[tuple[Both, Order]]:
    """Backwards, then by chance."""
    yield ("reversed", "倒序"), lambda count, text: list(reversed(range(count)))
    for number in range(1, _NUM_SHUFFLED + 1):
        name = f"shuffled {number}"

        def shuffled(count: int, text: str, name: str = name) -> list[int]:
            return generator(name, text, seed).sample(range(count), count)

        yield (name, f"随机 {number}"), shuffled
