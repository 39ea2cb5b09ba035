import os

import ptune

rows = [
    {"text": "The tram strike ends, but fares go up.", "topics": ["transport", "money"]},
    {"text": "A new bridge for cyclists opens in May.", "topics": ["transport"]},
    {"text": "Banks close an hour earlier this week.", "topics": ["money"]},
    {"text": "The choir sang in the rain.", "topics": []},
]
topics = ptune.fit(
    task="multi-label",
    train=rows,
    label="topics",
    labels=["transport", "money"],
    head="linear",
    template="{text}{soft:4}",
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=4,
)
for one in topics.predict(["Parking costs twice as much.", "The lake is frozen."]):
    print(one.labels, {name: round(value, 2) for name, value in one.probabilities.items()})
