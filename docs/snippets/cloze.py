import os

import ptune

rows = [
    {"text": "A carpenter works with ___ .", "label": "wood"},
    {"text": "A baker works with ___ .", "label": "flour"},
    {"text": "A smith works with ___ .", "label": "iron"},
]
facts = ptune.fit(
    task="cloze",
    train=rows,
    gap="___",
    template="{soft:4} {text}",
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=4,
)
found = facts.predict(["A tailor works with ___ ."])[0]
print(found.answer, found.words)
