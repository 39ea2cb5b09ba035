import os

import ptune
from ptune.strategy import nearest_tasks

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
films = [{"text": "A warm, clever film.", "label": "good"}, {"text": "Two wasted hours.", "label": "bad"}]
meals = [{"text": "The soup was cold.", "label": "bad"}, {"text": "Best noodles in town.", "label": "good"}]
words = {"template": "{text}{soft:4} It was{mask}", "labels": {"good": ["great"], "bad": ["terrible"]}, "backbone": backbone}

ptune.fit(train=films, steps=8, **words).save("films-task")

tried = ptune.fit(train=meals, steps=4, seed=1, **words)  # a little training, to have something to compare
nearest = nearest_tasks(tried, ["films-task"])[0]
print(f"{nearest.path}: {nearest.similarity:.2f}")

task = ptune.fit(train=meals, steps=8, method={"name": "p-tuning", "init_bundle": nearest.path}, **words)
print(task.predict(["The rice was burnt."])[0].label)
