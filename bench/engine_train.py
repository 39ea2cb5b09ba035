"""Training cases of the engine benchmark: a step against PEFT's, candidates side by side, peak memory, time to an accuracy.

In: a case of the spec. Out: a dictionary of figures for its JSON. Both sides hold the same weights (each its own copy, as PEFT
wraps a model), read the same words and train a prompt of the same length with AdamW; ptune's step includes its layout.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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

    Accuracy is taken on the same validation rows for both; the clocks count training (ptune's: computing contexts, taking out
    the prior, steps), not the looks. PEFT's rate is the one with the highest accuracy, then the lowest loss; ptune has as many
    rates, `factors` of its default one, and its time is that of the one that gets there first. PEFT's batches are of 8 texts,
    ptune's of `batch`: a step is so cheap that more texts in each, which make for fewer steps, pay.
    """
    backbone = ptune.load_backbone(case["backbone"])
    labels = LabelSet(tuple(case["words"]))
    rows = sample_shots(read_examples(case["train"], require_label=True), case["shots"], seed=1, labels=labels)
    judged = read_examples(case["validation"], require_label=True)[: case["rows"]]
    start = case["method"]["init_text"] if case.get("peer_init") == "text" else None
    peer = build_peer(str(folder_of(case["backbone"])), case["soft"], "best_hand", 0, init_text=start)
    wording = Wording(case["prefix"], case["tail"], {label: case["space"] + word for label, word in case["words"].items()}, 128)
    pairs = [[(row.fields["text"], row.label) for row in some] for some in (rows, judged)]
    runs = {
        rate: peer.fit(
            pairs[0], case["steps"], rate, validation=pairs[1], wording=wording, evaluate_every=case["every"], seed=1
        )
        for rate in case["rates"]
    }
    best_rate = max(runs, key=lambda rate: (max(look["accuracy"] for look in runs[rate]), -runs[rate][-1]["loss"]))
    target = max(look["accuracy"] for look in runs[best_rate])
    theirs = next(look["train_seconds"] for look in runs[best_rate] if look["accuracy"] >= target)
    ours = _our_looks(backbone, case, rows, judged)
    there = {
        factor: next((look["seconds"] for look in looks if look["accuracy"] >= target), None) for factor, looks in ours.items()
    }
    factor = min((one for one in there if there[one] is not None), key=lambda one: there[one] or 0.0, default=None)
    reached = None if factor is None else there[factor]
    return {
        "target_accuracy": target,
        "peft_rate": best_rate,
        "peft_seconds": round(theirs, 2),
        "ptune_factor": factor,
        "ptune_seconds": None if reached is None else round(reached, 2),
        "ratio": None if reached is None else round(theirs / reached, 1),
        "ptune_best_accuracy": max(look["accuracy"] for looks in ours.values() for look in looks),
        "ptune_looks": {str(one): looks for one, looks in ours.items()},
        "peft_looks": {str(rate): run for rate, run in runs.items()},
    }


def _our_looks(backbone: Backbone, case: dict[str, Any], rows: Any, judged: Any) -> dict[float, list[dict[str, float]]]:
    """For each factor of the rate, accuracy and training seconds: after contexts and prior, then every few steps."""
    template = f"{case['prefix']}{{text}}{{soft:{case['soft']}}}{case['tail']}{{mask}}"
    started = time.perf_counter()
    model = PromptModel.build(
        backbone=backbone,
        template=template,
        labels=case["words"],
        method={"name": "p-tuning", **case.get("method", {})},
        max_length=128,
        seed=1,
    )
    kept = model.prepare(rows, keep_context=True)
    model.prior.copy_(log_prior(model.scores(kept)))
    begun = time.perf_counter() - started
    validation = model.prepare(judged, keep_context=True)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    found = {}
    for factor in case["factors"]:
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
        found[factor] = list(_trained(model, case, kept, validation, factor, begun))
    return found


def _trained(
    model: PromptModel, case: dict[str, Any], kept: Prepared, validation: Prepared, factor: float, clock: float
) -> Iterator[dict[str, float]]:
    """Looks of one run, whose clock goes on from `clock`."""
    truth = torch.tensor(validation.labels)
    groups = [{**group, "lr": group["lr"] * factor} for group in model.parameter_groups()]
    optimiser = torch.optim.AdamW(groups)
    for step in range(case["steps"] + 1):
        started = time.perf_counter()
        if step:
            order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(step))[: case["batch"]].tolist()
            model(model.batch(kept, order)).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            clock += time.perf_counter() - started
        if step % case["every"] == 0:
            num_right = int((model.scores(validation).argmax(1) == truth).sum())
            yield {"step": step, "accuracy": num_right / len(truth), "seconds": clock}


if __name__ == "__main__":
    print(json.dumps(_memory_side(json.loads(sys.argv[1]))))
