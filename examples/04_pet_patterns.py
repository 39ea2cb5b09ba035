# PET 模板：把分类题写成填空题 “It was [MASK].”，比较 great 和 terrible 哪个更像，不训练任何参数（零样本）。
"""PET's patterns without training: a masked language model fills `It was [MASK].` with great or terrible.

Schick & Schütze (2021) turn classification into a cloze: a pattern with a gap and a word for each label. Method `hard` learns
nothing; the answer is the label whose word the model likes better. One call of Hugging Face's model checks the scores.
Run: python examples/04_pet_patterns.py FOLDER_OR_HUB_ID   (a masked language model such as BERT, RoBERTa or ModernBERT)
"""

import argparse
from pathlib import Path

import torch

import ptune

DATA = Path(__file__).parent / "data" / "reviews_en"
LABELS = {"positive": ["great"], "negative": ["terrible"]}
PATTERNS = (  # PET's four for Yelp, and LM-BFF's for SST-2, which is the same idea
    "It was {mask}. {text}",
    "Just {mask}! {text}",
    "{text} All in all, it was {mask}.",
    "{text} In summary, it was {mask}.",
    "{text} It was {mask}.",
)


def margins(backbone: ptune.Backbone, text: str) -> tuple[float, float]:
    """Score of great minus score of terrible for `text It was [MASK].`: ptune's, and from one call of the model itself."""
    task = ptune.fit(
        template=PATTERNS[-1], labels=LABELS, method="hard", prior="keep", backbone=backbone, train=DATA / "train.jsonl"
    )
    great, terrible = task.scores([ptune.Example({"text": text})])[0].tolist()

    tokenizer = backbone.tokens.tokenizer
    coded = tokenizer(f"{text} It was {tokenizer.mask_token}.", return_tensors="pt").to(backbone.device)
    with torch.no_grad():
        logits = backbone.model(**coded).logits[0]
    at = int((coded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0])
    first, second = (logits[at, tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0]] for (word,) in LABELS.values())
    return great - terrible, (first - second).item()


def main(backbone: str, steps: int = 0, num_test: int = 40) -> dict[str, float]:
    """Accuracy of each pattern, as it is and with the model's own preference for a word taken out, and of their mean.

    `steps` is not used: nothing is trained.
    """
    frozen = ptune.load_backbone(backbone)
    test = ptune.read_examples(DATA / "test.jsonl", fields=["text"], require_label=True)[:num_test]
    train = DATA / "train.jsonl"  # its texts, not its labels, give the prior
    words = {"method": "hard", "labels": LABELS, "backbone": frozen, "max_length": 64, "train": train}

    accuracies: dict[str, float] = {}
    total = torch.zeros(len(test), len(LABELS))
    for pattern in PATTERNS:
        plain = ptune.fit(template=pattern, prior="keep", **words)
        corrected = ptune.fit(template=pattern, **words)
        total += torch.log_softmax(corrected.scores(test), 1)
        accuracies[pattern] = corrected.judge(test).accuracy
        print(f"{plain.judge(test).accuracy:.3f}  prior corrected {accuracies[pattern]:.3f}  {pattern}")
    truth = torch.tensor([list(LABELS).index(row.label or "") for row in test])
    accuracies["all"] = (total.argmax(1) == truth).float().mean().item()
    print(f"mean of all patterns, prior corrected: {accuracies['all']:.3f}")

    if frozen.kind == "encoder" and all(len(frozen.tokens.ids(f" {word}")) == 1 for (word,) in LABELS.values()):
        print("check on one text: ptune {:.4f}, Hugging Face's model itself {:.4f}".format(*margins(frozen, "I liked it.")))
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone", help="folder or hub id of a masked language model")
    parser.add_argument("--steps", type=int, default=0, help="not used: nothing is trained")
    main(**vars(parser.parse_args()))
