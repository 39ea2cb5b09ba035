import os

import ptune

rows = [
    {"first": "How do I reset my password?", "second": "I forgot my password.", "label": "same"},
    {"first": "Where is my parcel?", "second": "Has my order been sent?", "label": "same"},
    {"first": "Where is my parcel?", "second": "I want a refund.", "label": "other"},
    {"first": "Can I pay by card?", "second": "The shop is closed.", "label": "other"},
]
task = ptune.fit(
    train=rows,
    template='"{first max=20}" and "{second max=20}"{soft:4} The same?{mask}',
    labels={"same": ["Yes"], "other": ["No"]},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=4,
    max_length=64,
)
print(task.predict([{"first": "Can I pay by card?", "second": "Do you take cards?"}])[0])
