"""The few-shot case of the engine benchmark on a tiny model: the steps found are those that are timed, both sides in turn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

import engine_train

from tiny import EXAMPLES

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def case(tiny_folder: Callable[[str], str], tmp_path: Path) -> dict[str, Any]:
    rows = "\n".join(json.dumps({"text": row.fields["text"], "label": row.label}) for row in EXAMPLES)
    (tmp_path / "rows.jsonl").write_text(rows + "\n", encoding="utf-8")
    data, words = str(tmp_path / "rows.jsonl"), {"yes": "good", "no": "bad"}
    place = {"backbone": tiny_folder("llama"), "train": data, "validation": data, "shots": 2, "rows": 4, "max_length": 40}
    asks = {"soft": 2, "prefix": "", "tail": "", "space": " ", "words": words, "method": {"init_text": "It was"}}
    return {**place, **asks, "rates": [0.01], "factors": [1, 100], "batch": 2, "steps": 4, "every": 2}


def test_the_steps_to_the_accuracy_are_timed_in_turn(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_train.PeerModel, "accuracy", lambda *_: 0.0)  # which ptune reaches at its start
    timed: list[int] = []
    plain = engine_train._timed
    monkeypatch.setattr(engine_train, "_timed", lambda *words: (timed.append(words[-1]), plain(*words))[1])
    found = engine_train.few_shot_case(case, 3)
    assert found["target_accuracy"] == 0 and found["peft_steps"] == 2 and found["ptune_steps"] == 0
    assert timed == [0, 0, 0] and all(len(seconds) == 3 for seconds in found["seconds"].values())
    middle = {side: sorted(seconds)[1] for side, seconds in found["seconds"].items()}
    assert found["ratio"] == round(middle["peft"] / middle["ptune"], 1)


def test_an_accuracy_that_is_not_reached_has_no_ratio(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_train.PeerModel, "accuracy", lambda *_: 2.0)
    found = engine_train.few_shot_case(case, 3)
    assert found["ratio"] is None and found["ptune_steps"] is None and found["seconds"] == {"ptune": [], "peft": []}
    assert [look["step"] for look in found["ptune_looks"]["1"]] == [0, 2, 4]
