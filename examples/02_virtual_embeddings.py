# 虚拟词向量：在冻结模型的输入最前面拼接几个可学习的向量。先用原生 PyTorch 写，再用 ptune 写，并验证两者结果一致。
"""Virtual embeddings in front of a frozen model: first in raw torch, then with method prompt-tuning, and both are equal.

The raw form shows all there is to the idea: learned rows are put in front of the token embeddings, and the attention mask
grows by as many ones. ptune's form adds what the raw one lacks: templates, label words of any length, saving, every kind of
model. Run: python examples/02_virtual_embeddings.py [--backbone NAME] [--steps N]   (a causal model)
"""

import argparse

import torch
from torch import Tensor, nn

import ptune

TEMPLATE = "{text} It was{mask}"
LABELS = {"positive": ["great"], "negative": ["bad"]}
ROWS = [
    ptune.Example({"text": "The soup was hot and the bread was fresh."}, "positive"),
    ptune.Example({"text": "We waited an hour for cold food."}, "negative"),
    ptune.Example({"text": "A story that stays with you."}, "positive"),
    ptune.Example({"text": "The plot makes no sense at all."}, "negative"),
]


class VirtualEmbeddings(nn.Module):
    """P learned rows in front of a frozen causal model's own embeddings.

    Args:
        backbone: frozen; its weights are no parameters of this module.
        start: [P, E] rows to start from.
    """

    def __init__(self, backbone: ptune.Backbone, start: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.rows = nn.Parameter(start.clone())

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask [B, T], padded on the right -> hidden states [B, P + T, D]."""
        num_rows = len(self.rows)
        words = self.backbone.embed(ids)  # the model's own scaling included (Gemma multiplies here)
        embeds = torch.cat([self.rows.expand(len(ids), -1, -1).to(words), words], 1)
        mask = torch.cat([mask.new_ones(len(ids), num_rows), mask], 1)  # forget this, and the last P tokens vanish
        return self.backbone.model.base_model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state


def tokens(backbone: ptune.Backbone, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Start token and text as ids and mask [B, T]."""
    coded = [[*backbone.tokens.start_ids, *backbone.tokens.ids(text)] for text in texts]
    longest = max(map(len, coded))
    ids = torch.tensor([[*row, *[backbone.tokens.pad_id] * (longest - len(row))] for row in coded])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in coded])
    return ids, mask


def main(backbone: str = "smollm2-135m-q4", steps: int = 5, num_tokens: int = 4, rate: float = 1e-3) -> float:
    """Trains both forms side by side; returns the largest difference of their scores, which is rounding."""
    frozen = ptune.load_backbone(backbone)

    # ptune: `front` puts the rows before everything, as in the paper; the default stands behind the start token
    method = {"name": "prompt-tuning", "num_tokens": num_tokens, "placement": "front"}
    model = ptune.PromptModel.build(backbone=frozen, template=TEMPLATE, labels=LABELS, method=method)
    batch = model.batch(model.prepare(ROWS), range(len(ROWS)))

    # raw torch, from the same rows
    raw = VirtualEmbeddings(frozen, model.prompt().rows.detach())
    ids, mask = tokens(frozen, [f"{row.fields['text']} It was" for row in ROWS])
    words = torch.tensor([frozen.tokens.ids(" great")[0], frozen.tokens.ids(" bad")[0]])
    labels = torch.tensor([list(LABELS).index(row.label) for row in ROWS])
    last = num_tokens + mask.sum(1) - 1  # the last real token, behind the virtual ones

    def raw_scores() -> Tensor:
        hidden = raw(ids.to(frozen.device), mask.to(frozen.device))
        return frozen.logits(hidden[torch.arange(len(ROWS)), last], words)

    optimisers = [torch.optim.AdamW(form.parameters(), lr=rate, weight_decay=0.0) for form in (raw, model)]
    worst = 0.0
    for step in range(steps + 1):
        scores, outcome = raw_scores(), model(batch)
        worst = max(worst, (scores - outcome.scores).abs().max().item())
        losses = [nn.functional.cross_entropy(scores, labels.to(scores.device)), outcome.loss]
        print(f"step {step}  raw torch {losses[0].item():.6f}  ptune {losses[1].item():.6f}")
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    print(f"largest difference of any score: {worst:.1e}")
    return worst


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="smollm2-135m-q4", help="a causal model: catalogue name, folder or hub id")
    parser.add_argument("--steps", type=int, default=5)
    main(**vars(parser.parse_args()))
