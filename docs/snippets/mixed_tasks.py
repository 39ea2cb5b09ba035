import os

import ptune

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
mood = ptune.fit(
    train=[{"text": "Works like a charm.", "label": "good"}, {"text": "It broke at once.", "label": "bad"}],
    template="{text}{soft:4} It was{mask}",
    labels={"good": ["great"], "bad": ["terrible"]},
    backbone=backbone,
    candidates=3,  # three prompts at once; without validation rows they answer together
    steps=4,
)
topic = ptune.fit(
    train=[{"text": "The striker scored twice.", "label": "sports"}, {"text": "Shares fell.", "label": "business"}],
    template="{text} This text is about{mask}",
    labels={"sports": ["sports"], "business": ["business"]},
    method="prompt-tuning",
    backbone=backbone,
    steps=4,
)
for prediction in ptune.predict_mixed([(mood, "I would buy it again."), (topic, "The match was cancelled.")]):
    print(prediction.label)
