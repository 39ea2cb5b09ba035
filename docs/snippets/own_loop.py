import os

import torch

import ptune
from ptune.readout import log_prior

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
rows = [
    ptune.Example({"text": "A story that stays with you."}, "positive"),
    ptune.Example({"text": "The bread was fresh."}, "positive"),
    ptune.Example({"text": "We waited an hour for cold food."}, "negative"),
    ptune.Example({"text": "The plot makes no sense."}, "negative"),
]

model = ptune.PromptModel.build(
    backbone=backbone,
    template="{text}{soft:6} It was{mask}",
    labels={"positive": ["great"], "negative": ["terrible"]},
    method={"name": "p-tuning", "encoder": "mlp"},
    seed=1,
)

# Tokenise once. What stands in front of the learned tokens is computed once too, where that is exact.
prepared = model.prepare(rows, keep_context=not model.why_not_keep())
model.prior.copy_(log_prior(model.scores(prepared)))  # optional: the model's own preference for a word, taken out

optimiser = torch.optim.AdamW(model.parameter_groups(), weight_decay=0.0)  # each group has its default learning rate
for epoch in range(3):
    for batch in model.batches(prepared, batch_size=2, seed=epoch):
        outcome = model(batch)  # .scores [B, C], .probabilities [B, C], .loss
        optimiser.zero_grad()
        outcome.loss.backward()
        optimiser.step()

print(model.num_trained, "parameters learned")
print(model.scores(model.prepare([ptune.Example({"text": "I would go again."})])))

task = ptune.Task(model.requires_grad_(False))  # predict, evaluate and save as after ptune.fit
print(task.predict(["I would go again."])[0].label)
