import os

from sklearn.model_selection import GridSearchCV

from ptune.sklearn import PromptClassifier

texts = [
    "The soup was hot and the bread was fresh.",
    "A story that stays with you.",
    "Friendly staff and a fair price.",
    "We waited an hour for cold food.",
    "The plot makes no sense at all.",
    "The zip broke on the first day.",
]
labels = ["positive"] * 3 + ["negative"] * 3

classifier = PromptClassifier(
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    template="{text}{soft:4} It was{mask}",
    labels={"positive": ["great"], "negative": ["terrible"]},
    steps=4,
)
search = GridSearchCV(classifier, {"method": ["p-tuning", {"name": "p-tuning", "encoder": "mlp"}]}, cv=3)
search.fit(texts, labels)  # clones share one loaded backbone
print(search.best_params_)
print(search.predict_proba(["I would go again."]), search.classes_)
