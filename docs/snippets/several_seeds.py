import os

import ptune

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
train = [
    {"text": "The soup was hot and the bread was fresh.", "label": "positive"},
    {"text": "Friendly staff and a fair price.", "label": "positive"},
    {"text": "We waited an hour for cold food.", "label": "negative"},
    {"text": "The zip broke on the first day.", "label": "negative"},
]
test = [
    {"text": "I would go again tomorrow.", "label": "positive"},
    {"text": "Nobody answered the phone.", "label": "negative"},
]
with ptune.sharing_contexts(backbone):  # a causal model reads each text once for all of these runs
    for seed in (1, 2, 3):
        task = ptune.fit(
            train=train,
            test=test,
            template="{text}{soft:4} It was{mask}",
            labels={"positive": ["great"], "negative": ["terrible"]},
            backbone=backbone,
            seed=seed,
            steps=4,
        )
        print(seed, task.facts["tuned"]["accuracy"])
