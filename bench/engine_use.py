"""Inference cases of the engine benchmark: many labels of several tokens, classification throughput, batches that mix tasks.

In: a case of the spec. Out: a dictionary of figures for its JSON, with the largest difference of the scores compared.
"""

from collections.abc import Callable
from typing import Any

import torch
from brute_force import brute_force_scores
from engine_train import folder_of
from peft_peer import Wording, build_peer
from timing import alternate, medians
from transformers import AutoModelForCausalLM

import ptune
from ptune.data import read_examples
from ptune.model import PromptModel
from ptune.readout import Verbalizer
from ptune.task import Task

__all__ = ["labels_case", "mixed_case", "throughput_case"]


def labels_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """All labels of a text in one pass against one sequence for each text and label, both in batches by tokens."""
    backbone = ptune.load_backbone(case["backbone"])
    rows = read_examples(case["test"], require_label=True)
    names = sorted({row.label for row in rows if row.label})
    words = Verbalizer.parse({name: name.replace("_", " ") for name in names}, length="sum", terminator=case["terminator"])
    model = PromptModel.build(backbone=backbone, template=case["template"], labels=words, method="hard")
    prepared = model.prepare(rows[: case["rows"]])
    plain = AutoModelForCausalLM.from_pretrained(folder_of(case["backbone"]), dtype=torch.float32).eval()
    assert model.answers is not None
    prompts, answers = [row.ids for row in prepared.encoded], list(model.answers.ids)
    kept: dict[str, torch.Tensor] = {}

    def ours() -> None:
        kept["ptune"] = model.scores(prepared)

    def theirs() -> None:
        kept["brute force"] = brute_force_scores(plain, prompts, answers, max_tokens=case["max_tokens"])

    seconds = alternate({"ptune": ours, "brute_force": theirs}, repeats)
    middle = medians(seconds)
    return {
        "ratio": round(middle["brute_force"] / middle["ptune"], 2),
        "largest_difference": float((kept["ptune"] - kept["brute force"]).abs().max()),
        "labels": len(answers),
        "tokens_per_label": round(sum(map(len, answers)) / len(answers), 2),
        "rows": len(prompts),
        "seconds": seconds,
    }


def throughput_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Classifying the same texts with soft tokens in front: ptune against PEFT with dynamic padding, and its best hand."""
    backbone = ptune.load_backbone(case["backbone"])
    texts = [row.fields["text"] for row in read_examples(case["test"], require_label=True)[: case["rows"]]]
    template = f"{{soft:{case['soft']}}}{case['prefix']}{{text}}{case['tail']}{{mask}}"
    model = PromptModel.build(
        backbone=backbone, template=template, labels=case["words"], method="p-tuning", max_length=case["max_length"]
    )
    task = Task(model.requires_grad_(False))
    wording = Wording(
        case["prefix"], case["tail"], {label: f" {word}" for label, word in case["words"].items()}, case["max_length"]
    )
    cases: dict[str, Callable[[], object]] = {"ptune": lambda: task.predict(texts)}
    for hand in ("documented", "best_hand"):
        peer = build_peer(str(folder_of(case["backbone"])), case["soft"], hand, 0)
        cases[hand] = lambda peer=peer: peer.predict(texts, wording, batch_size=case["batch"])
    seconds = alternate(cases, repeats)
    middle = medians(seconds)
    return {
        "ratio": {hand: round(middle[hand] / middle["ptune"], 2) for hand in ("documented", "best_hand")},
        "texts_per_second": {name: round(len(texts) / value, 1) for name, value in middle.items()},
        "rows": len(texts),
        "seconds": seconds,
    }


def mixed_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Texts spread over many tasks (lengths of prompt and label words differ) against all of them given to one.

    With `deep`, every other task has learned keys and values in each layer, and "one" is one task of either sort, each with
    half the texts.
    """
    backbone = ptune.load_backbone(case["backbone"])
    texts = [row.fields["text"] for row in read_examples(case["test"], require_label=True)[: case["rows"]]]
    words = [{"a": "World", "b": "Sports"}, {"a": "good", "b": "bad", "c": "new"}, {"a": "yes", "b": "no"}]
    tasks = []
    for number in range(case["tasks"]):
        size = 5 + number % 26
        is_deep = case.get("deep", False) and number % 2 == 0
        template = "News: {text}\nTopic:{mask}" if is_deep else f"{{soft:{size}}}News: {{text}}\nTopic:{{mask}}"
        method = {"name": "p-tuning-v2", "num_tokens": size} if is_deep else {"name": "p-tuning"}
        model = PromptModel.build(backbone=backbone, template=template, labels=words[number % 3], method=method, seed=number)
        tasks.append(Task(model.requires_grad_(False)))
    half = len(texts) // 2

    def one() -> None:
        tasks[14 if case.get("deep") else 15].predict(texts[:half])
        tasks[15].predict(texts[half:])

    spread = [(tasks[number % len(tasks)], text) for number, text in enumerate(texts)]
    seconds = alternate({"one": one, "mixed": lambda: ptune.predict_mixed(spread)}, repeats)
    middle = medians(seconds)
    worst = 0.0
    for (task, text), got in list(zip(spread, ptune.predict_mixed(spread), strict=True))[: case["tasks"]]:
        alone = task.predict([text])[0]
        worst = max(worst, *(abs(alone.probabilities[name] - value) for name, value in got.probabilities.items()))
    return {
        "rate_of_one": round(middle["one"] / middle["mixed"], 3),
        "texts_per_second": {name: round(len(texts) / value, 1) for name, value in middle.items()},
        "largest_difference": worst,
        "tasks": len(tasks),
        "rows": len(texts),
        "seconds": seconds,
    }
