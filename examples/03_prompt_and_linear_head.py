# 冻结模型 + 提示向量 + 线性分类头。网上的写法常有两个错误：注意力掩码没有加长；取第 0 个位置，而那里是虚拟 token。这里都改对。
"""A frozen model, learned prompt tokens and a linear head, without the two mistakes that are often made with them.

With P virtual tokens in front of a text of T tokens, the article that this program follows
1. hands the model the attention mask of the T tokens only, so that it is P too short (an error, or the text's end is hidden);
2. gives the head the hidden state at position 0, which is no longer [CLS] but the first virtual token.
On a causal model position 0 sees nothing of the text: its state is the same for every text, and the head learns nothing. On
an encoder it sees the text, but it is not the token that the model was trained to sum the text up in. ptune extends the mask
and never counts learned tokens when it pools (`head: linear` with `pool: cls`, `last`, `mean` or `mask`).
Run: python examples/03_prompt_and_linear_head.py [--form torch] [--backbone NAME] [--steps N]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import ptune
from ptune.data import LabelSet, sample_shots

DATA = Path(__file__).parent / "data" / "reviews_en"
NAMES = ("positive", "negative")
METHOD = {"name": "prompt-tuning", "num_tokens": 5, "placement": "front"}  # virtual tokens before everything, as there
POOLS = {"encoder": "cls", "decoder": "last", "encoder-decoder": "mean"}


def with_ptune(backbone: ptune.Backbone, train: Sequence[ptune.Example], test: Sequence[ptune.Example], steps: int) -> float:
    """In one call; returns the accuracy on the test rows."""
    task = ptune.fit(
        train=train,
        template="{text}",
        labels=NAMES,
        method=METHOD,
        head="linear",
        pool=POOLS[backbone.kind],  # what pool: (left out) would choose too
        backbone=backbone,
        steps=steps,
        max_length=64,
    )
    return task.judge(test).accuracy


def with_torch(backbone: ptune.Backbone, train: Sequence[ptune.Example], test: Sequence[ptune.Example], steps: int) -> float:
    """The same with a loop of one's own."""
    model = build(backbone)
    rows = model.prepare(train)
    optimiser = torch.optim.AdamW(model.parameter_groups(), weight_decay=0.0)  # prompt and head, each with its own rate
    done, epoch = 0, 0
    while done < steps:
        for batch in model.batches(rows, 8, seed=epoch):
            if done == steps:
                break
            optimiser.zero_grad()
            model(batch).loss.backward()
            optimiser.step()
            done += 1
        epoch += 1
    chosen = model.scores(model.prepare(test)).argmax(1)
    truth = torch.tensor([NAMES.index(row.label or "") for row in test])
    return (chosen == truth).float().mean().item()


def build(backbone: ptune.Backbone) -> ptune.PromptModel:
    """Prompt and head, untrained."""
    return ptune.PromptModel.build(
        backbone=backbone, template="{text}", labels=NAMES, method=METHOD, pool=POOLS[backbone.kind], max_length=64
    )


def spread(states: Tensor) -> float:
    """How much pooled states differ between texts, against their size: 0 where all texts look the same to the head."""
    return ((states - states.mean(0)).norm(dim=1).mean() / states.norm(dim=1).mean()).item()


def compare_positions(backbone: ptune.Backbone, rows: Sequence[ptune.Example]) -> tuple[float, float]:
    """Spread of what the head would read at position 0 and of what it reads at the right place."""
    model = build(backbone)
    batch = model.batch(model.prepare(rows), range(len(rows)))
    with torch.no_grad():
        hidden = backbone.hidden(batch.live, model.prompt())  # [B, P + T, D]; the mask in batch.live covers P + T
        right = (batch.pool.to(hidden)[:, :, None] * hidden).sum(1)
    return spread(hidden[:, 0]), spread(right)


def main(backbone: str = "smollm2-135m-q4", steps: int = 40, form: str = "ptune", shots: int = 16, num_test: int = 40) -> float:
    """Shows the effect of pooling position 0, then trains; returns the accuracy."""
    frozen = ptune.load_backbone(backbone)
    rows = ptune.read_examples(DATA / "train.jsonl", fields=["text"], require_label=True)
    train = sample_shots(rows, shots, seed=1, labels=LabelSet(NAMES))
    test = ptune.read_examples(DATA / "test.jsonl", fields=["text"], require_label=True)[:num_test]

    wrong, right = compare_positions(frozen, train)
    print(f"pooled states differ between texts by: position 0 {wrong:.4f}, {POOLS[frozen.kind]} {right:.4f} of their size")
    accuracy = {"ptune": with_ptune, "torch": with_torch}[form](frozen, train, test, steps)
    print(f"accuracy on {len(test)} test rows: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="smollm2-135m-q4", help="catalogue name, folder or hub id")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--form", choices=["ptune", "torch"], default="ptune")
    main(**vars(parser.parse_args()))
