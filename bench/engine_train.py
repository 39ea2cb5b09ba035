"""Training cases of the engine benchmark: a step against PEFT's, candidates side by side, peak memory, time to an accuracy.

In: a case of the spec. Out: a dictionary of figures for its JSON. Both sides hold the same weights (each its own copy, as PEFT
wraps a model), read the same words and train a prompt of the same length with AdamW; ptune's step includes its layout.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft_peer import Hand, PeerModel, Wording, build_peer
from timing import alternate, matrix_peak, medians, peak_memory, trimmed_rss_mb

import ptune
from ptune.backbone import Backbone, entry, local_folder
from ptune.data import Example, LabelSet, read_examples, sample_shots
from ptune.model import Prepared, PromptModel
from ptune.readout import log_prior

WORDS = {"a": "good", "b": "bad"}
TAIL = "\nIt was"
MAX_LENGTH = 128
"""Of few-shot rows, both sides'."""


def folder_of(name: str) -> Path:
    """Where a catalogue model lies, which is pulled by `ptune models pull`; or a folder itself."""
    if Path(name).is_dir():
        return Path(name)
    folder = local_folder(entry(name))
    if folder is None:
        raise SystemExit(f"pull it first: ptune models pull {name}")
    return folder


def random_texts(backbone: Backbone, num_tokens: int, num_texts: int) -> list[str]:
    """Texts of frequent words with exactly so many tokens (to within the last word's)."""
    generator = torch.Generator().manual_seed(0)
    words = backbone.tokens.frequent_words(3000)
    texts = []
    for _ in range(num_texts):
        ids = [words[i] for i in torch.randint(len(words), (num_tokens,), generator=generator).tolist()]
        again = backbone.tokens.ids(backbone.tokens.tokenizer.decode(ids))[:num_tokens]
        texts.append(backbone.tokens.tokenizer.decode(again))
    return texts


def texts_of(backbone: Backbone, case: dict[str, Any]) -> list[str]:
    """The first texts of the case's file, enough for `batches` steps; or of one step, all of the same length."""
    if "texts" not in case:
        return random_texts(backbone, case["text"], case["batch"])
    rows = read_examples(case["texts"], label=None)[: case["batch"] * case["batches"]]
    return [row.fields["text"] for row in rows]


def batched(rows: Sequence[Any], size: int | None) -> list[Sequence[Any]]:
    """Rows in batches of so many, in their order; None makes one batch of all."""
    return [rows[at : at + (size or len(rows))] for at in range(0, len(rows), size or len(rows))]


def our_step(
    backbone: Backbone, texts: list[str], num_soft: int, placement: str, candidates: int = 1, batch_size: int | None = None
) -> tuple[Callable[[], object], int]:
    """ptune's training step on each batch of the texts (None: all of them at once), and the live tokens that it computes."""
    template = (
        f"{{text}}{{soft:{num_soft}}}{TAIL}{{mask}}" if placement == "behind" else f"{{soft:{num_soft}}}{{text}}{TAIL}{{mask}}"
    )
    model = PromptModel.build(backbone=backbone, template=template, labels=WORDS, method="p-tuning", candidates=candidates)
    rows = model.prepare(
        [Example({"text": text}, "ab"[i % 2]) for i, text in enumerate(texts)], keep_context=placement == "behind"
    )
    optimiser = torch.optim.AdamW(model.parameter_groups())
    batches = batched(range(len(rows)), batch_size)

    def step() -> None:
        for index in batches:
            model(model.batch(rows, index)).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    num_live = sum(model.batch(rows, index).live.ids.numel() for index in batches) * candidates
    return step, num_live


def peer_step(peer: PeerModel, texts: list[str], batch_size: int | None = None) -> Callable[[], object]:
    """PEFT's training step on each batch of the same words, which is padded to its own longest text."""
    wording = Wording("", TAIL, {label: f" {word}" for label, word in WORDS.items()})
    rows = [(text, "ab"[i % 2]) for i, text in enumerate(texts)]
    batches = [
        peer.encode([text for text, _ in some], [label for _, label in some], wording) for some in batched(rows, batch_size)
    ]
    return lambda: [peer.train_step(batch) for batch in batches]


def num_body_parameters(backbone: Backbone) -> int:
    """Parameters outside the embedding table: what each live token is multiplied with."""
    table = backbone.model.get_input_embeddings().weight
    return sum(parameter.numel() for parameter in backbone.model.parameters()) - table.numel()


def step_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """ptune's step against PEFT's, documented and best hand; in front too where the soft tokens stand behind.

    Texts of a file differ in length: then each call makes `batches` steps, and figures are of the mean step.
    """
    backbone, size = ptune.load_backbone(case["backbone"]), case["batch"]
    texts = texts_of(backbone, case)
    num_steps, lengths = len(texts) // size, [len(backbone.tokens.ids(text)) for text in texts]
    ours, num_live = our_step(backbone, texts, case["soft"], case["placement"], batch_size=size)
    cases = {"ptune": ours}
    if case["placement"] == "behind":
        cases["ptune_in_front"] = our_step(backbone, texts, case["soft"], "front", batch_size=size)[0]
    for hand in case.get("hands", ["documented", "best_hand"]):
        cases[hand] = peer_step(build_peer(str(folder_of(case["backbone"])), case["soft"], hand, 0), texts, size)
    seconds = {name: [one / num_steps for one in calls] for name, calls in alternate(cases, repeats).items()}
    middle, peak = medians(seconds), matrix_peak()
    flops = 4 * num_body_parameters(backbone) * num_live / num_steps
    return {
        "ratio": {name: round(value / middle["ptune"], 2) for name, value in middle.items() if name != "ptune"},
        "same_placement_ratio": {
            hand: round(middle[hand] / middle["ptune_in_front"], 2) for hand in ("documented", "best_hand") if hand in middle
        }
        if "ptune_in_front" in middle
        else None,
        "seconds": seconds,
        "text_tokens": {"mean": round(sum(lengths) / len(lengths), 1), "shortest": min(lengths), "longest": max(lengths)},
        "live_tokens": round(num_live / num_steps, 1),
        "matrix_peak_gflops": round(peak, 1),
        "share_of_peak": round(flops / middle["ptune"] / 1e9 / peak, 3),
    }


def candidates_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """J candidates at once against one, against PEFT, documented and best hand, and the matrix peak of the same minute."""
    backbone = ptune.load_backbone(case["backbone"])
    texts = random_texts(backbone, case["text"], case["batch"])
    together, num_live = our_step(backbone, texts, case["soft"], "behind", case["candidates"])
    square = torch.randn(2048, 2048)
    cases: dict[str, Callable[[], object]] = {
        "together": together,
        "alone": our_step(backbone, texts, case["soft"], "behind")[0],
        "product": lambda: square @ square,
    }
    hands: tuple[Hand, ...] = ("documented", "best_hand") if case.get("peer", True) else ()
    for hand in hands:
        cases[hand] = peer_step(build_peer(str(folder_of(case["backbone"])), case["soft"], hand, 0), texts)
    seconds = alternate(cases, repeats)
    middle = medians(seconds)
    each = middle["together"] / case["candidates"]
    peak = 2 * 2048**3 / middle["product"] / 1e9
    return {
        "seconds_per_candidate": round(each, 4),
        "ratio_to_alone": round(middle["alone"] / each, 2),
        "ratio": {hand: round(middle[hand] / each, 2) for hand in hands},
        "seconds": seconds,
        "live_tokens": num_live,
        "matrix_peak_gflops": round(peak, 1),
        "share_of_peak": round(4 * num_body_parameters(backbone) * num_live / middle["together"] / 1e9 / peak, 3),
    }


def memory_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Peak memory of a training step, each side in a fresh process with its weights loaded and one step made."""
    texts = random_texts(ptune.load_backbone(case["backbone"]), case["text"], case["batch"])
    sides = {}
    for side in ("ptune", "documented", "best_hand"):
        command = [sys.executable, __file__, json.dumps({**case, "side": side, "texts": texts})]
        sides[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    whole = {side: round(one["before_mb"] + one["growth_mb"]) for side, one in sides.items()}
    return {
        "whole_process_mb": whole,
        "sides": sides,
        "share_of": {side: round(whole["ptune"] / whole[side], 3) for side in ("documented", "best_hand")},
    }


def _memory_side(case: dict[str, Any]) -> dict[str, float]:
    """One side, which loads its own model alone."""
    if case["side"] == "ptune":
        step = our_step(ptune.load_backbone(case["backbone"]), case["texts"], case["soft"], case["placement"])[0]
    else:
        step = peer_step(build_peer(str(folder_of(case["backbone"])), case["soft"], case["side"], 0), case["texts"])
    step()
    before = trimmed_rss_mb()
    return {"before_mb": before, "growth_mb": peak_memory(step)}


def few_shot_case(case: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Seconds of training until the accuracy that PEFT's best hand reaches, at its best of its learning rates.

    PEFT's rows start at frequent words, or with `peer_init: text` at the text that ptune's start at.

    First the steps that each needs are found, by accuracy on the same validation rows. PEFT's rate is the one with the highest
    accuracy, then the lowest loss; ptune has as many rates, `factors` of its default one, and takes that which gets there
    first. PEFT's batches are of 8 texts, ptune's of `batch`: a step is so cheap that more texts in each, which make for fewer
    steps, pay. Then these steps alone are timed (ptune's with computing contexts and taking out the prior), both sides in turn.
    """
    backbone = ptune.load_backbone(case["backbone"])
    labels = LabelSet(tuple(case["words"]))
    rows = sample_shots(read_examples(case["train"], require_label=True), case["shots"], seed=1, labels=labels)
    judged = read_examples(case["validation"], require_label=True)[: case["rows"]]
    start = case["method"]["init_text"] if case.get("peer_init") == "text" else None
    peer = build_peer(str(folder_of(case["backbone"])), case["soft"], "best_hand", 0, init_text=start)
    words = {label: case["space"] + word for label, word in case["words"].items()}
    wording = Wording(case["prefix"], case["tail"], words, case.get("max_length", MAX_LENGTH))
    pairs = [[(row.fields["text"], row.label) for row in some] for some in (rows, judged)]

    def theirs(rate: float, validation: list[Any], every: int, until: float | None = None) -> list[dict[str, float]]:
        return peer.fit(
            pairs[0], case["steps"], rate, validation=validation, wording=wording, evaluate_every=every, until=until, seed=1
        )

    runs = {rate: theirs(rate, pairs[1], case["every"]) for rate in case["rates"]}
    best_rate = max(runs, key=lambda rate: (max(look["accuracy"] for look in runs[rate]), -runs[rate][-1]["loss"]))
    target = max(look["accuracy"] for look in runs[best_rate])
    peft_steps = _first(runs[best_rate], target)
    assert peft_steps is not None  # its own best
    ours = _our_looks(backbone, case, rows, judged)
    there = {factor: step for factor, looks in ours.items() if (step := _first(looks, target)) is not None}
    factor = min(there, key=lambda one: there[one], default=None)
    seconds: dict[str, list[float]] = {"ptune": [], "peft": []}
    for _ in range(0 if factor is None else repeats):
        gc.collect()
        seconds["ptune"].append(_timed(backbone, case, rows, factor, there[factor]))
        seconds["peft"].append(theirs(best_rate, pairs[1][:1], peft_steps, until=0.0)[-1]["train_seconds"])
    middle = medians(seconds) if factor is not None else None
    return {
        "target_accuracy": target,
        "peft_rate": best_rate,
        "peft_steps": peft_steps,
        "ptune_factor": factor,
        "ptune_steps": None if factor is None else there[factor],
        "peft_seconds": None if middle is None else round(middle["peft"], 2),
        "ptune_seconds": None if middle is None else round(middle["ptune"], 2),
        "ratio": None if middle is None else round(middle["peft"] / middle["ptune"], 1),
        "seconds": seconds,
        "ptune_best_accuracy": max(look["accuracy"] for looks in ours.values() for look in looks),
        "ptune_looks": {str(one): looks for one, looks in ours.items()},
        "peft_looks": {str(rate): run for rate, run in runs.items()},
    }


def _first(looks: Sequence[Mapping[str, float]], accuracy: float) -> int | None:
    """The step of the first look with that accuracy."""
    return next((int(look["step"]) for look in looks if look["accuracy"] >= accuracy), None)


def _our_looks(backbone: Backbone, case: dict[str, Any], rows: Any, judged: Any) -> dict[float, list[dict[str, float]]]:
    """For each factor of the rate, the accuracy after contexts and prior, then every few steps."""
    found: dict[float, list[dict[str, float]]] = {}
    validation = _begun(backbone, case, rows)[0].prepare(judged, keep_context=True)
    truth = torch.tensor(validation.labels)
    for factor in case["factors"]:
        model, kept = _begun(backbone, case, rows)
        optimiser, found[factor] = _optimiser(model, factor), []
        for step in range(case["steps"] + 1):
            if step:
                _step(model, case, kept, optimiser, step)
            if step % case["every"] == 0:
                num_right = int((model.scores(validation).argmax(1) == truth).sum())
                found[factor].append({"step": step, "accuracy": num_right / len(truth)})
    return found


def _begun(backbone: Backbone, case: dict[str, Any], rows: Any) -> tuple[PromptModel, Prepared]:
    """A prompt at its start, contexts computed and prior taken out."""
    template = f"{case['prefix']}{{text}}{{soft:{case['soft']}}}{case['tail']}{{mask}}"
    method = {"name": "p-tuning", **case.get("method", {})}
    model = PromptModel.build(
        backbone=backbone,
        template=template,
        labels=case["words"],
        method=method,
        max_length=case.get("max_length", MAX_LENGTH),
        seed=1,
    )
    kept = model.prepare(rows, keep_context=True)
    model.prior.copy_(log_prior(model.scores(kept)))
    return model, kept


def _optimiser(model: PromptModel, factor: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{**group, "lr": group["lr"] * factor} for group in model.parameter_groups()])


def _step(model: PromptModel, case: dict[str, Any], kept: Prepared, optimiser: torch.optim.Optimizer, step: int) -> None:
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(step))[: case["batch"]].tolist()
    model(model.batch(kept, order)).loss.backward()
    optimiser.step()
    optimiser.zero_grad()


def _timed(backbone: Backbone, case: dict[str, Any], rows: Any, factor: float, steps: int) -> float:
    """Seconds of contexts, prior and so many steps."""
    started = time.perf_counter()
    model, kept = _begun(backbone, case, rows)
    optimiser = _optimiser(model, factor)
    for step in range(1, steps + 1):
        _step(model, case, kept, optimiser, step)
    return time.perf_counter() - started


if __name__ == "__main__":  # a side of the memory case, in a process of its own
    print(json.dumps(_memory_side(json.loads(sys.argv[1]))))
