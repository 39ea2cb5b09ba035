import os

import ptune

rows = [
    {"text": "Cold food, and nobody cared.", "stars": 1},
    {"text": "It was all right, nothing more.", "stars": 3},
    {"text": "We will be back next week!", "stars": 5},
]
stars = ptune.fit(
    task="regression",
    train=rows,
    label="stars",
    labels={1: ["terrible"], 2: ["bad"], 3: ["okay"], 4: ["good"], 5: ["great"]},
    template="{text}{soft:4} It was{mask}",
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=4,
)
found = stars.predict(["The soup was fine, the service slow."])[0]
print(round(found.value, 2), {name: round(value, 2) for name, value in found.probabilities.items()})
