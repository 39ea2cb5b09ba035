"""Demonstrations chosen for each text by nearness: every text is shown the labelled rows that are most like it.

In: a recipe with `{demos}` and its labelled rows. Out: a `Task` whose texts bring their own demonstrations, and which keeps the
rows and their states. The model's own preference is measured with the demonstrations that the labelled rows would be shown if
they were new: one prior for the task, because how often a label stands among a text's neighbours is evidence and must stay.
Source: Liu et al. 2022 (What makes good in-context examples for GPT-3?); what is compared, and how, stands in
`model/near_demos.py`.
"""

from collections import Counter
from collections.abc import Sequence

from ptune.backbone import Backbone, BackboneLike, load_backbone
from ptune.data import Example, fingerprint
from ptune.errors import DataError
from ptune.model import NearDemos, embed_rows, with_column
from ptune.recipe import Recipe, calibration_rows, run
from ptune.strategy.demos import demo_text, place_demos, showing
from ptune.task import Task, as_classifier
from ptune.template import Demos, Text

__all__ = ["check_enough", "near_demos", "show_nearest"]

_NUM_CALIBRATED = 16
"""Sets of demonstrations that texts without content are read behind; spread over the rows."""


def check_enough(recipe: Recipe, rows: Sequence[Example], count: int, *, by_label: bool) -> None:
    """Refuses rows so few that every text would be shown all of them.

    Args:
        recipe: with a template whose fields tell rows apart.
        rows: labelled; those that say the same count once.
        count, by_label: see `NearDemos`.

    Raises:
        DataError: the label, or all rows, and how many there are.
    """
    fields = place_demos(recipe.parsed_template()).field_names
    distinct = {(row.label, tuple(row.fields.get(name) for name in fields)) for row in rows}
    have = Counter(label for label, _ in distinct)
    groups = [(f"label {name!r} has", have[name]) for name in recipe.label_names()]
    for what, number in groups if by_label else [("there are", len(distinct))]:
        if number <= count:
            raise DataError(
                f"{what} {number} different rows; of so few, the {count} nearest are chosen for no text in particular",
                where="icl",
                fix="show fewer, give more rows, or set choose: random",
            )


def near_demos(
    recipe: Recipe,
    rows: Sequence[Example],
    backbone: Backbone,
    *,
    count: int,
    by_label: bool,
    separator: str,
    encoder: BackboneLike | None,
) -> NearDemos:
    """The labelled rows, written out and read once by the model that compares texts.

    Args:
        recipe: with label words and a template with `{demos}`.
        rows: labelled.
        backbone: the task's own.
        count, by_label, separator: see `NearDemos`.
        encoder: what compares texts; None takes the backbone.

    Raises:
        BackboneError: no such encoder.
    """
    template, words = recipe.parsed_template(), {name: listed[0] for name, listed in recipe.verbalizer().words.items()}
    fields = place_demos(template).field_names
    reader = backbone if encoder is None else load_backbone(encoder)
    return NearDemos(
        texts=tuple(demo_text(template, row, words[str(row.label)]) for row in rows),
        labels=tuple(str(row.label) for row in rows),
        vectors=embed_rows(reader, rows, fields),
        fields=fields,
        count=count,
        by_label=by_label,
        separator=separator,
        encoder=reader,
        is_own=encoder is None,
    )


def show_nearest(recipe: Recipe, near: NearDemos, backbone: Backbone, rows: Sequence[Example]) -> Task:
    """The task that shows each text its nearest rows, its prior measured (and its prompt, if it has one, trained) so.

    Args:
        recipe: with `{demos}`.
        near: the rows to choose among.
        backbone: loaded.
        rows: the same rows as examples.
    """
    others = near.others()
    shown = [with_column(row, near.text(chosen)) for row, chosen in zip(rows, others, strict=True)]
    template = place_demos(recipe.parsed_template(), Demos(), Text(near.separator))
    sizes = sorted((len(backbone.tokens.ids(text + near.separator)) for text in near.texts), reverse=True)
    chosen = showing(recipe, template, backbone, sum(sizes[: len(others[0])]), shown)
    texts = calibration_rows(chosen)
    if texts is not None:
        behind = _filled(chosen, near, texts, others)
        chosen = chosen.model_copy(update={"calibration": {"name": chosen.calibration_name, "texts": behind}})
    task = run(chosen)
    task.facts["data"]["train_fingerprint"] = fingerprint(rows)
    as_classifier(task).near_demos = near
    return task


def _filled(
    recipe: Recipe, near: NearDemos, texts: Sequence[Example], others: Sequence[tuple[int, ...]]
) -> tuple[Example, ...]:
    """Texts to calibrate by: real ones behind their own neighbours; ones without content, which have none, behind the rows'."""
    if recipe.calibration_name == "batch":
        return near.fill(texts)
    step = max(1, len(others) // _NUM_CALIBRATED)
    sets = [near.text(chosen) for chosen in others[::step][:_NUM_CALIBRATED]]
    return tuple(with_column(text, demos) for demos in sets for text in texts)
