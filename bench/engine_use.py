"""Inference cases of the engine benchmark: many labels of several tokens, throughput, demonstrations, batches that mix tasks.

In: a case of the spec. Out: a dictionary of figures for its JSON, with the largest difference of the scores compared.
"""

from collections.abc import Callable
from typing import Any

import torch
from brute_force import answer_logits, brute_force_scores, filled
from engine_train import folder_of
from peft_peer import Wording, build_peer
from timing import alternate, medians
from transformers import AutoModelForCausalLM

import ptune
from ptune.data import Example, read_examples
from ptune.model import PromptModel
from ptune.readout import Verbalizer
from ptune.recipe import Recipe
from ptune.strategy import InContextSettings, run_in_context
from ptune.task import Task, as_classifier

__all__ = ["demonstrations_case", "labels_case", "mixed_case", "throughput_case"]

_SAME = 1e-4
"""Probabilities of fp32 sums in another order differ by less."""


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


def demonstrations_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """In-context learning with the demonstrations kept against reading them again in front of every text.

    ptune forgets the demonstrations before each call, so their one reading is in its time. `recomputed` is ptune with nothing
    kept, `plain` is transformers' own model, whose token ids are ready. Both fill batches of like lengths up to `max_tokens`.
    """
    keys = {key: case[key] for key in ("backbone", "train", "template", "labels", "shots", "max_length") if key in case}
    recipe = Recipe.of({**keys, "method": "hard", "calibration": "none"})
    model = as_classifier(run_in_context(recipe, InContextSettings(per_label=case["per_label"])).tasks[0])
    rows = read_examples(case["test"], label=None)[: case["rows"]]
    prepared, kept = model.prepare(rows), {}
    assert model.answers is not None and model.answers.single, "the plain side scores words of one token"
    prompts, columns = [row.ids for row in prepared.encoded], [ids[0] for ids in model.answers.ids]
    plain = AutoModelForCausalLM.from_pretrained(folder_of(case["backbone"]), dtype=torch.float32).eval()

    def ours() -> None:
        fresh = model.without_prompt()
        kept["ptune"] = fresh.scores(fresh.prepare(rows))

    def recomputed() -> None:
        kept["recomputed"] = _scores_with_nothing_kept(model, rows, case["max_tokens"])

    def theirs() -> None:
        kept["plain"] = answer_logits(plain, prompts, columns, max_tokens=case["max_tokens"])

    seconds = alternate({"ptune": ours, "recomputed": recomputed, "plain": theirs}, repeats)
    middle = medians(seconds)
    mine, *others = (torch.softmax(scores, 1) for scores in kept.values())
    largest = max(float((mine - other).abs().max()) for other in others)
    if largest > _SAME:
        raise SystemExit(f"probabilities differ by {largest:.1e}")
    num_shown = model.num_lead(prepared.encoded)
    return {
        "ratio": {name: round(middle[name] / middle["ptune"], 2) for name in ("recomputed", "plain")},
        "texts_per_second": {name: round(len(rows) / value, 1) for name, value in middle.items()},
        "largest_difference": largest,
        "demonstrations": case["per_label"] * len(model.labels),
        "kept_tokens": num_shown,
        "tokens_per_text": round(sum(map(len, prompts)) / len(prompts) - num_shown, 1),
        "rows": len(rows),
        "seconds": seconds,
    }


@torch.no_grad()
def _scores_with_nothing_kept(model: PromptModel, rows: tuple[Example, ...], max_tokens: int) -> torch.Tensor:
    """[B, C] label scores, every token of every row computed."""
    prepared = model.prepare(rows)
    scores = torch.empty(len(rows), len(model.labels))
    for index in filled([len(row) for row in prepared.encoded], max_tokens):
        scores[index] = model(model.batch(prepared, index)).scores
    return scores


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
