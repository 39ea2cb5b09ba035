import os

import ptune

rows = [
    {"tokens": ["Ada", "Lovelace", "lived", "in", "London", "."], "tags": ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]},
    {"tokens": ["The", "train", "to", "Paris", "is", "late", "."], "tags": ["O", "O", "O", "B-LOC", "O", "O", "O"]},
]
names = ptune.fit(
    task="tagging",
    train=rows,
    method={"name": "p-tuning-v2", "num_tokens": 8},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "minilm-l6"),
    steps=4,
)
found = names.predict(["Grace Hopper went to Paris."])[0]
for span in found.spans:
    print(span.type, span.text, span.start, span.end, round(span.score, 2))
print(found.words, found.tags)
