import os

import ptune

task = ptune.fit(
    train=[
        {"text": "The match was close.", "label": "sports"},
        {"text": "The band played until midnight.", "label": "music"},
        {"text": "Rates will rise again.", "label": "business"},
    ],
    template="{text}",  # no {mask}: nothing is filled in
    labels=["sports", "music", "business"],  # names, not words
    head="linear",
    method={"name": "prompt-tuning", "num_tokens": 4},  # `hard` would train the head alone
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "minilm-l6"),
    steps=4,
)
print(task.predict(["A new record."])[0])
