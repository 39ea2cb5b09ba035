"""Cases of the engine benchmark on a tiny model: they run and agree, and their figures fill the page's tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("peft")

from brute_force import answer_logits, filled
from engine_train import candidates_case, memory_case, step_case
from engine_use import demonstrations_case
from table_engine import _sections

from tiny import EXAMPLES, tiny_backbone, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def rows_file(tmp_path: Path) -> str:
    """Rows of different lengths, as a file in a folder of its own."""
    path = tmp_path / "reviews" / "train.jsonl"
    path.parent.mkdir()
    rows = [{"text": row.fields["text"], "label": row.label} for row in EXAMPLES]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def page(case: dict[str, Any], figures: dict[str, Any]) -> str:
    return "\n".join(_sections([{"case": "tiny", "spec": case, "figures": figures}]))


def test_a_step_over_texts_of_different_lengths(tiny_folder: Callable[[str], str], rows_file: str) -> None:
    case = {"kind": "step", "backbone": tiny_folder("llama"), "texts": rows_file, "batch": 2, "batches": 2, "soft": 3}
    figures = step_case({**case, "placement": "behind"}, 1)
    lengths = [len(tiny_backbone("llama").tokens.ids(row.fields["text"])) for row in EXAMPLES[:4]]
    assert figures["text_tokens"] == {"mean": round(sum(lengths) / 4, 1), "shortest": min(lengths), "longest": max(lengths)}
    assert set(figures["seconds"]) == {"ptune", "ptune_in_front", "documented", "best_hand"}
    assert figures["live_tokens"] == 2 * (3 + 3)  # of a step: its soft tokens and the words behind them, no text
    assert f"| reviews, {min(lengths)} to {max(lengths)}, mean" in page({**case, "placement": "behind"}, figures)


def test_candidates_stand_beside_both_hands_of_peft(tiny_folder: Callable[[str], str]) -> None:
    case = {"kind": "candidates", "backbone": tiny_folder("llama"), "text": 8, "soft": 3, "batch": 2, "candidates": 2}
    figures = candidates_case(case, 1)
    assert set(figures["ratio"]) == {"documented", "best_hand"}
    assert "**against best hand**" in page(case, figures)
    assert candidates_case({**case, "peer": False}, 1)["ratio"] == {}


def showing(folder: str, rows_file: str) -> dict[str, Any]:
    return {
        "kind": "demonstrations",
        "backbone": folder,
        "train": rows_file,
        "test": rows_file,
        "template": "{demos}{text} It was{mask}",
        "labels": {"yes": ["good"], "no": ["bad"]},
        "per_label": 1,
        "rows": 4,
        "max_tokens": 64,
        "max_length": 24,
    }


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_demonstrations_kept_or_not_give_the_same_probabilities(
    kind: str, tiny_folder: Callable[[str], str], rows_file: str
) -> None:
    case = showing(tiny_folder(kind), rows_file)
    figures = demonstrations_case(case, 1)
    assert figures["largest_difference"] < 1e-4 and figures["demonstrations"] == 2 and figures["kept_tokens"] > 5
    assert set(figures["ratio"]) == {"recomputed", "plain"}
    assert "| reviews |" in page(case, figures)


def test_a_side_that_answers_otherwise_is_refused(
    tiny_folder: Callable[[str], str], rows_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine_use.answer_logits", lambda *_, **__: torch.eye(4, 2))
    with pytest.raises(SystemExit, match="probabilities differ"):
        demonstrations_case(showing(tiny_folder("llama"), rows_file), 1)


def test_answer_logits_are_those_of_each_text_alone() -> None:
    model, tokens = tiny_model("llama", attention="sdpa"), tiny_backbone("llama").tokens
    prompts = [[*tokens.start_ids, *tokens.ids(row.fields["text"])] for row in EXAMPLES]
    found = answer_logits(model, prompts, [5, 9], max_tokens=32)
    expected = torch.stack([model(torch.tensor([prompt])).logits[0, -1, [5, 9]] for prompt in prompts])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_batches_are_filled_with_the_longest_first() -> None:
    assert list(filled([3, 9, 4, 20, 4], 9)) == [[3], [1], [2, 4], [0]]


def test_each_side_of_the_memory_case_has_a_process(tiny_folder: Callable[[str], str]) -> None:
    case = {"kind": "memory", "backbone": tiny_folder("llama"), "text": 8, "soft": 2, "batch": 2, "placement": "behind"}
    figures = memory_case(case, 1)
    assert set(figures["sides"]) == {"ptune", "documented", "best_hand"}
    assert all(whole > 100 for whole in figures["whole_process_mb"].values())  # torch alone takes more
    assert "of documented" in page(case, figures)
