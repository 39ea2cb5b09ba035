import os

import ptune

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
labels = {"positive": ["great"], "negative": ["terrible"]}

for method, template in [
    ("hard", "{text} It was{mask}"),
    ({"name": "prompt-tuning", "num_tokens": 6, "init": "labels"}, "{text} It was{mask}"),
    ({"name": "p-tuning", "init_text": "Is this review good or bad?"}, "{text}{soft:6} It was{mask}"),
    ({"name": "p-tuning", "encoder": "lstm"}, "{text}{soft:6} It was{mask}"),
    ({"name": "p-tuning-v2", "num_tokens": 6, "placement": "behind"}, "{text} It was{mask}"),
    ({"name": "prefix-tuning", "num_tokens": 6, "init_text": "Is this review good or bad?"}, "{text} It was{mask}"),
]:
    model = ptune.PromptModel.build(backbone=backbone, template=template, labels=labels, method=method)
    rates = {group["name"]: group["lr"] for group in model.parameter_groups()}
    print(method, model.num_trained, rates, model.template)
