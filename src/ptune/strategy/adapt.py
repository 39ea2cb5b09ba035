"""Continued pre-training: the model itself reads unlabelled texts of the field before any task is learned on it.

In: texts, a masked or causal model. Out: a model folder that is a backbone like any other, and its loss before and after on
texts that were held out. All weights learn, by the usual loop; the prompt that is trained afterwards is for the new model only.
Source: Gururangan et al. 2020 (Don't Stop Pretraining). Deviations: texts stand in rows of their own and are not packed.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ptune.backbone import Backbone, BackboneLike, load_backbone, save_backbone
from ptune.data import Example, Source, fingerprint, has_splits, read_examples
from ptune.errors import RecipeError, TrainError
from ptune.model import LanguageModel
from ptune.recipe import trainable_copy
from ptune.train import Listener, RunFolder, TrainSettings, train

__all__ = ["AdaptSettings", "Adapted", "adapt"]

MODEL = "model"
_STATES_PER_RUN = 4


class AdaptSettings(BaseModel):
    """How the model reads on.

    Args:
        column: of the texts.
        max_length: tokens of a row; longer texts are cut into several rows.
        hold_out: share of the texts that is only judged, by which the best step is kept; 0 for none.
        steps: optimiser steps; None for `epochs`.
        epochs: passes over the texts.
        batch_size, accumulate, learning_rate, weight_decay: as in a recipe; the rate is 5e-5 where none is given.
        seed: of the split, the order, and what is hidden.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str = "text"
    max_length: int = Field(default=128, ge=4)
    hold_out: float = Field(default=0.1, ge=0, le=0.5)
    steps: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    seed: int = 1

    def train_settings(self, num_rows: int) -> TrainSettings:
        """Those of the loop. A state holds three times the model, so few are written."""
        bare = TrainSettings(
            steps=self.steps,
            epochs=None if self.steps else self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )
        num_steps = bare.num_steps(num_rows)
        return bare.model_copy(
            update={
                "evaluate_every": max(1, num_steps // _STATES_PER_RUN),
                "save_every": max(1, num_steps // _STATES_PER_RUN),
            }
        )


@dataclass(frozen=True)
class Adapted:
    """A model that has read on.

    Args:
        folder: of the model; `backbone:` in a recipe.
        facts: what was read, and the loss of a token (nats) before and after on texts held out, or else on those read.
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def perplexity(self) -> tuple[float, float]:
        """Before and after."""
        return math.exp(self.facts["loss_before"]), math.exp(self.facts["loss_after"])


def adapt(
    texts: Source,
    *,
    backbone: BackboneLike,
    out: str | Path,
    settings: AdaptSettings | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Adapted:
    """Trains a model on texts and writes it to `out/model`.

    Args:
        texts: a file, a folder or hub data set (its training rows), or rows; labels in them are not looked at.
        backbone: masked or causal; one that is loaded already is copied.
        out: folder of the run, new or empty.
        settings: None for the defaults.
        resume: go on with the run in `out`.
        listeners: called after every step.
        say: told what happens, a line at a time.

    Raises:
        PtuneError: anything wrong with the input, before the model is loaded or anything is written.
    """
    chosen, folder = settings or AdaptSettings(), RunFolder(Path(out))
    rows = _read(texts, chosen.column)
    identity = {"texts": fingerprint(rows), "settings": chosen.model_dump(), "backbone": _name_of(backbone)}
    _check_folder(folder, identity, resume)
    held_out, read = _split(rows, chosen)
    loaded = trainable_copy(backbone, load_backbone(backbone))
    before = loaded.fingerprint
    model = LanguageModel(loaded, seed=chosen.seed)
    train_rows = model.prepare(read, max_length=chosen.max_length)
    judged = model.prepare(held_out, max_length=chosen.max_length) if held_out else None
    plan = chosen.train_settings(len(train_rows))
    num_steps = plan.num_steps(len(train_rows))
    say(f"{len(read)} texts to read ({train_rows.num_tokens:,} tokens), {len(held_out)} to judge by, {num_steps} steps")
    folder.write_json("adapt.json", identity)
    loss_before = model.mean_loss(judged or train_rows)
    result = train(
        model, train_rows, plan, seed=chosen.seed, validation=judged, folder=folder, resume=resume, listeners=listeners
    )
    loaded.model.requires_grad_(False)
    facts = {
        **identity,
        "base_fingerprint": before,
        "objective": "next tokens" if loaded.kind == "decoder" else "hidden tokens",
        "num_texts": len(read),
        "num_tokens": train_rows.num_tokens,
        "judged_on": "texts held out" if judged else "the texts that were read",
        "loss_before": loss_before,
        "loss_after": model.mean_loss(judged or train_rows),
        "steps": len(result.losses),
        "best_step": result.best_step,
        "seconds": round(result.seconds, 2),
    }
    save_backbone(loaded, folder.path / MODEL)
    folder.write_json("summary.json", facts)
    folder.state_path.unlink(missing_ok=True)  # three times the model, and of no use once that is written
    return Adapted(folder.path / MODEL, facts)


def _read(texts: Source, column: str) -> tuple[Example, ...]:
    return read_examples(texts, fields=(column,), label=None, split="train" if has_splits(texts) else None)


def _name_of(backbone: BackboneLike) -> str:
    if isinstance(backbone, Backbone):
        return backbone.spec.name
    return type(backbone[0]).__name__ if isinstance(backbone, tuple) else str(backbone)


def _split(rows: Sequence[Example], settings: AdaptSettings) -> tuple[list[str], list[str]]:
    """Texts to judge by and texts to read; the same text is on one side only.

    Raises:
        RecipeError: too few different texts to hold any out.
    """
    values = (row.fields[settings.column] for row in rows)
    texts = list(dict.fromkeys(value if isinstance(value, str) else " ".join(value) for value in values))
    num = round(len(texts) * settings.hold_out)
    if settings.hold_out and not 0 < num < len(texts):
        what = f"{len(texts)} different texts are too few to hold {settings.hold_out:g} of them out"
        raise RecipeError(what, where="hold_out", fix="give more texts, or hold_out 0")
    random.Random(settings.seed).shuffle(texts)
    return texts[:num], texts[num:]


def _check_folder(folder: RunFolder, identity: dict[str, Any], resume: bool) -> None:
    """A run goes on only on the same texts with the same settings; a new one begins in an empty folder."""
    known = folder.path / "adapt.json"
    where = str(folder.path)
    if not resume:
        if folder.path.exists() and any(folder.path.iterdir()):
            raise TrainError("the run folder is not empty", where=where, fix="name another folder, or resume")
        return
    if not known.is_file():
        raise TrainError("there is no run to resume", where=where, fix="leave resume out")
    if folder.summary_path.exists():
        raise TrainError("the run has finished already", where=where, fix=f"its model is {folder.path / MODEL}")
    before = json.loads(known.read_text(encoding="utf-8"))
    differing = [key for key in identity if before.get(key) != identity[key]]
    if differing:
        raise TrainError(f"the run was begun with other {differing[0]}", where=where, fix="name another folder")
