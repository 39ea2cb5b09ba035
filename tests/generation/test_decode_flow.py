"""Rows of many tasks that come and go: each is written as if alone, whoever stands beside it, with prompts of any kind."""

import random
from typing import Any

import pytest
import torch

from ptune.decode import CausalSteps, Flow
from ptune.inputs import Batch, Context, Live, PromptState, Reads, pad_rows, soft_layout
from ptune.prompt import PromptSetup, build_prompt, parse_method
from ptune.template import Template
from tiny import DECODERS, tiny_backbone

TEXTS = ("The film was great , a good", "bad", "I like this place , it is", "What a day ! The plot")
NEAR = {"atol": 2e-5, "rtol": 1e-4}


def batch_of(backbone: Any, text: str, num_soft: int) -> Batch:
    first = len(backbone.tokens.start_ids)
    ids = [*backbone.tokens.start_ids, *([backbone.tokens.pad_id] * num_soft), *backbone.tokens.ids(text)]
    soft = [at - first if first <= at < first + num_soft else -1 for at in range(len(ids))]
    live_ids = pad_rows([ids], backbone.tokens.pad_id)
    steps = torch.arange(len(ids))[None]
    return batch_with(Live(live_ids, torch.tensor([soft]), torch.ones_like(live_ids, dtype=torch.bool), steps))


def batch_with(live: Live, *contexts: Context) -> Batch:
    reads = Reads(torch.tensor([0]), torch.tensor([live.ids.shape[1] - 1]))
    return Batch(live, reads, 1, torch.tensor([0]), torch.tensor([-1]), contexts=contexts)


def part(live: Live, chosen: slice) -> Live:
    return Live(*(one[:, chosen] for one in (live.ids, live.soft, live.mask, live.positions)))


def prompt_of(backbone: Any, method: str, seed: int) -> tuple[PromptState, int]:
    """A prompt that was never trained, and for how many tokens of the text it stands."""
    generator = torch.Generator().manual_seed(seed)
    if method == "none":
        return PromptState(), 0
    num = 2 + seed % 3
    if method == "soft":
        return PromptState(torch.randn(num, backbone.spec.embedding_size, generator=generator)), num
    layout = soft_layout(Template.parse("{text}{mask}"), backbone.tokens)
    config = parse_method({"name": "p-tuning-v2", "num_tokens": num})
    made = build_prompt(config, PromptSetup(backbone.spec, layout, torch.zeros(0, backbone.spec.embedding_size), seed))
    for parameter in made.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return made(), 0


def scores_of(backbone: Any, state: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(backbone.logits(state[None]), -1)[0]


def alone(backbone: Any, batch: Batch, prompt: PromptState, num: int) -> tuple[list[int], list[torch.Tensor]]:
    """The independent side: one row by itself, `CausalSteps`."""
    steps = CausalSteps(
        backbone, batch.live, prompt, (), lambda hidden, columns: backbone.logits(hidden, columns), max_tokens=num
    )
    scores, ids = [steps.start()[0]], []
    for _ in range(num):
        ids.append(int(scores[-1].argmax()))
        scores.append(steps.step(torch.tensor(ids[-1:]))[0])
    return ids, scores


@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_rows_that_come_and_go_are_written_as_if_alone(kind: str) -> None:
    backbone = tiny_backbone(kind)
    chance = random.Random(3)
    waiting = [(TEXTS[n % len(TEXTS)], ("none", "soft", "deep")[n % 3], n, chance.randint(1, 12)) for n in range(12)]
    flow, rows, num_done = Flow(backbone), list[dict[str, Any]](), 0
    while waiting or rows:
        if waiting and (not rows or chance.random() < 0.5):
            made = []
            for _ in range(min(len(waiting), chance.randint(1, 3))):
                text, method, seed, num = waiting.pop()
                prompt, num_soft = prompt_of(backbone, method, seed)
                batch = batch_of(backbone, text, num_soft)
                ids, expected = alone(backbone, batch, prompt, num)
                made.append((batch, prompt))
                rows.append({"ids": ids, "expected": expected, "at": 0})
            states = flow.join([one for one, _ in made], [one for _, one in made])
            for row, state in zip(rows[-len(made) :], states, strict=True):
                torch.testing.assert_close(scores_of(backbone, state), row["expected"][0], **NEAR)
        states = flow.step([row["ids"][row["at"]] for row in rows])
        for row, state in zip(rows, states, strict=True):
            row["at"] += 1
            torch.testing.assert_close(scores_of(backbone, state), row["expected"][row["at"]], **NEAR)
        for number in reversed(range(len(rows))):
            if rows[number]["at"] == len(rows[number]["ids"]):
                flow.leave(number)
                rows[number] = rows[-1]
                rows.pop()
                num_done += 1
        assert len(flow) == len(rows)
    assert num_done == 12 and flow.num_bytes == 0


@torch.no_grad()
def test_a_context_in_front_goes_with_its_row() -> None:
    """What all texts of a task start with is computed once and joins as a context."""
    backbone = tiny_backbone("llama")
    whole = batch_of(backbone, TEXTS[0], 3)
    prompt = PromptState(torch.randn(3, backbone.spec.embedding_size, generator=torch.Generator().manual_seed(0)))
    ids, expected = alone(backbone, whole, prompt, 4)
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    front = part(whole.live, slice(0, 4))
    backbone.hidden(front, prompt, keep=kept)
    keys, values = (torch.stack([kept[layer][which] for layer in sorted(kept)]) for which in (0, 1))
    rest = batch_with(part(whole.live, slice(4, None)), Context(keys, values, front.mask, front.positions))
    flow = Flow(backbone)
    flow.join([batch_of(backbone, TEXTS[1], 0)], [PromptState()])
    scores = [scores_of(backbone, flow.join([rest], [prompt])[0])]
    for token in ids:
        scores.append(scores_of(backbone, flow.step([token, token])[1]))
    for got, wanted in zip(scores, expected, strict=True):
        torch.testing.assert_close(got, wanted, **NEAR)


@torch.no_grad()
def test_room_grows_with_rows_and_tokens() -> None:
    backbone = tiny_backbone("gpt2")
    flow = Flow(backbone)
    flow.join([batch_of(backbone, TEXTS[1], 0)], [PromptState()])
    before = flow.num_bytes
    for _ in range(5):
        flow.join([batch_of(backbone, TEXTS[0], 0)], [PromptState()])
    assert len(flow) == 6 and flow.num_bytes > before
    for _ in range(6):
        flow.leave(0)
    assert len(flow) == 0 and flow.num_bytes == 0
