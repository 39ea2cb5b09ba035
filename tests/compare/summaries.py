"""Comparisons that take a second, and summaries made by hand for tests of what is said about them."""

import random
from typing import Any

import numpy as np

from ptune.compare.calibration import Bin
from ptune.compare.results import Row, Summary, TextRow
from ptune.compare.run import Outcome
from ptune.compare.spec import Spec, make_spec
from ptune.compare.statistics import Difference, estimate
from tiny import tiny_backbone

__all__ = ["METHODS", "NUM_ROWS", "figures", "make_row", "make_rows", "make_summary", "spec_of"]

METHODS = ["majority", "tfidf-logistic", "textcnn", "zero-shot", "p-tuning", "linear-probe"]
Rows = list[dict[str, str]]

NUM_ROWS = 200
_BETTER = Difference(0.2, 0.1, 0.3, 0.0)


def right_of(accuracy: float, num_seeds: int = 3) -> np.ndarray[Any, Any]:
    """[S, R] of answers, the first ones right."""
    return np.tile((np.arange(NUM_ROWS) < round(accuracy * NUM_ROWS)).astype(float), (num_seeds, 1))


def make_row(method: str, accuracy: float, *, shots: int = 16, num_seeds: int = 3, **changes: Any) -> Row:
    """A row with figures that fit together; `from_majority` says that it has learned something."""
    right = right_of(accuracy, num_seeds)
    half = round(100 * accuracy)
    values: dict[str, Any] = {
        "title": method,
        "paradigm": "prompting",
        "backbone": "small-model",
        "seeds": tuple(range(1, num_seeds + 1)),
        "accuracy": estimate(right),
        "macro_f1": accuracy,
        "macro_f1_deviation": 0.01,
        "calibration_error": 0.05,
        "loss": 0.5,
        "from_best": Difference(-0.05, -0.1, -0.01, 0.01),
        "from_majority": _BETTER,
        "validation": accuracy,
        "num_trials": 3,
        "settings": (("rate_factor", 1.0),),
        "num_trained": 100,
        "num_bytes": 4000,
        "train_seconds": 20.0,
        "predict_seconds": 5.0,
        "memory_mb": 600,
        "curve": ((10, 0.5), (20, 0.6), (30, 0.7), (40, accuracy)),
        "confusion": ((half, 100 - half), (100 - half, half)),
        "bins": (Bin(0.9, 1.0, NUM_ROWS, 0.95, accuracy),),
        "right": tuple((seed, "".join(str(int(one)) for one in right[0])) for seed in range(1, num_seeds + 1)),
    }
    return Row(method, shots=shots, **{**values, **changes})


def make_summary(*rows: Row, **changes: Any) -> Summary:
    """A summary of these rows."""
    values: dict[str, Any] = {
        "name": "reviews",
        "spec": {"seeds": [1, 2, 3], "tune_on": "first", "trials": 3},
        "labels": ("yes", "no"),
        "language": "en",
        "rows": rows,
        "texts": (TextRow("a <b>bold</b> text", "yes", tuple((at, "yes" if at % 2 else "no") for at in range(len(rows)))),),
        "data": {
            "train_rows": 64,
            "validation_rows": 0,
            "test_rows": {"test": NUM_ROWS},
            "train_fingerprint": "a" * 64,
            "test_fingerprint": "b" * 64,
            "test_labels": {"yes": 100, "no": 100},
        },
        "remarks": (),
        "seconds": 600.0,
        "machine": {"machine": "x86_64, 2 threads, Linux", "python": "3.11"},
    }
    return Summary(**{**values, **changes})


def make_rows(number: int, seed: int = 0) -> Rows:
    """Rows whose label two words tell, every one different."""
    draw = random.Random(seed)
    things, good, bad = ["the film", "a story", "this place", "the food"], ["great", "good"], ["bad", "terrible"]
    labels = [("yes", good), ("no", bad)] * (number // 2)
    return [
        {"text": f"{draw.choice(things)} is {draw.choice(words)} on day {seed}{at}", "label": label}
        for at, (label, words) in enumerate(labels)
    ]


def spec_of(words: dict[str, Any], **settings: Any) -> Spec:
    """A comparison of a few methods on a tiny model."""
    given = {"methods": METHODS, "backbones": [tiny_backbone("gpt2")], "shots": [6], "seeds": [1, 2], "trials": 2} | settings
    return make_spec(words, given, name="tiny")


def figures(outcome: Outcome) -> dict[tuple[str, int], list[list[float]]]:
    """Probabilities by method and seed."""
    return {(cell.method, cell.seed): cell.probabilities["test"].tolist() for cell in outcome.cells if cell.fit}
