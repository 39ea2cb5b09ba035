import os

import ptune
from ptune.task import inspect_task

rows = [
    {"text": "A story that stays with you.", "label": "positive"},
    {"text": "The plot makes no sense at all.", "label": "negative"},
]
task = ptune.fit(
    train=rows,
    template="{text}{soft:3} It was{mask}",
    labels={"positive": ["great"], "negative": ["terrible"]},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=4,
)
examples = ptune.read_examples(rows, fields=["text"], require_label=True)
inspection = inspect_task(task, examples)
print(inspection.drawing)  # each learned token as its number and nearest word
for token in inspection.tokens:
    print(token.row, token.nearest, token.relative_norm, token.drop)  # drop: accuracy lost without this token
