import os

import ptune

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))

topics = ptune.fit(
    train=[
        {"text": "The striker scored twice.", "label": "sports"},
        {"text": "Shares fell after the report.", "label": "business"},
    ],
    template="{text}{soft:4} This text is about{mask}",
    labels={"sports": ["sports"], "business": ["business"]},
    backbone=backbone,  # loaded once, frozen, used by as many tasks as you like
    steps=4,
)
topics.save("topics-task")

same = ptune.load("topics-task", backbone=backbone)
print(same.predict(["The match was cancelled."])[0].label)
