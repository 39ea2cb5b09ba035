import os

import ptune

BACKBONE = os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4")

train = [
    {"text": "The soup was hot and the bread was fresh.", "label": "positive"},
    {"text": "A story that stays with you.", "label": "positive"},
    {"text": "We waited an hour for cold food.", "label": "negative"},
    {"text": "The plot makes no sense at all.", "label": "negative"},
]
test = [
    {"text": "Friendly staff and a fair price.", "label": "positive"},
    {"text": "The zip broke on the first day.", "label": "negative"},
]

task = ptune.fit(
    train=train,  # or a path: "reviews.csv"
    test=test,
    template="Review: {text}{soft:6} It was{mask}",
    labels={"positive": ["great"], "negative": ["terrible"]},
    backbone=BACKBONE,
    steps=20,
)

print(task.facts["tuned"]["accuracy"])  # on the test rows, which were only judged
for prediction in task.predict(["I would buy it again.", "Never again."]):
    print(prediction.label, prediction.probabilities)

print(task.evaluate(test))  # a report: accuracy with its interval, macro-F1, figures of each class

task.save("reviews-task")  # a folder of a few kilobytes: JSON and safetensors
again = ptune.load("reviews-task")
assert again.predict(["Never again."])[0].label == task.predict(["Never again."])[0].label
