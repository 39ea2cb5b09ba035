# 中文情感分类：冻结一个 GPT 式的语言模型，只学习几个提示 token，得到一个 predict(text) 函数。
"""A Chinese sentiment classifier on a frozen GPT-style model: learned prompt tokens, label words, and `predict(text)`.

Two forms of the same program: `with_ptune` leaves the work to `ptune.fit`; `with_torch` writes the training loop out, on
ptune's parts. Run: python examples/01_zh_sentiment.py [--form torch] [--backbone NAME] [--steps N]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

import ptune
from ptune.data import LabelSet, sample_shots

DATA = Path(__file__).parent / "data" / "reviews_zh"
TEMPLATE = "{text}{soft:8} 总体来说，很{mask}"
LABELS = {"positive": ["好"], "negative": ["差"]}

Predict = Callable[[str], str]


def with_ptune(backbone: str, steps: int | None, shots: int, seed: int) -> Predict:
    """The whole program in one call."""
    task = ptune.fit(
        train=DATA / "train.jsonl",
        shots=shots,
        template=TEMPLATE,
        labels=LABELS,
        backbone=backbone,
        steps=steps,
        seed=seed,
    )
    return lambda text: task.predict([text])[0].label


def with_torch(backbone: str, steps: int | None, shots: int, seed: int) -> Predict:
    """The same with a loop of one's own."""
    frozen = ptune.load_backbone(backbone)
    model = ptune.PromptModel.build(backbone=frozen, template=TEMPLATE, labels=LABELS, seed=seed)
    rows = ptune.read_examples(DATA / "train.jsonl", fields=["text"], require_label=True)
    # The eight learned tokens stand behind the text, so a causal model's keys and values of the text never change:
    # keep_context computes them once and not in every step.
    train = model.prepare(
        sample_shots(rows, shots, seed=seed, labels=LabelSet(tuple(LABELS))), keep_context=not model.why_not_keep()
    )

    optimiser = torch.optim.AdamW(model.parameter_groups(), weight_decay=0.0)  # the prompt alone, with its default rate
    step, epoch = 0, 0
    while step < (steps or 60):
        for batch in model.batches(train, 8, seed=seed + epoch):
            loss = model(batch).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            if step == (steps or 60):
                break
        epoch += 1

    def predict(text: str) -> str:
        scores = model.scores(model.prepare([ptune.Example({"text": text})]))
        return model.labels.names[int(scores[0].argmax())]

    return predict


def main(
    backbone: str = "gemma-3-270m-q4", steps: int | None = None, form: str = "ptune", shots: int = 16, seed: int = 1
) -> list[str]:
    """Trains, then labels three new sentences; returns their labels."""
    predict = {"ptune": with_ptune, "torch": with_torch}[form](backbone, steps, shots, seed)
    texts = ["这家店的面特别香，老板人也好。", "等了一个小时，菜还是凉的。", "说不上惊艳，但下次还会来。"]
    labels = [predict(text) for text in texts]
    for text, label in zip(texts, labels, strict=True):
        print(f"{label}\t{text}")
    return labels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="gemma-3-270m-q4", help="catalogue name, folder or hub id")
    parser.add_argument("--steps", type=int, help="optimiser steps; without it, ptune's default")
    parser.add_argument("--form", choices=["ptune", "torch"], default="ptune")
    main(**vars(parser.parse_args()))
