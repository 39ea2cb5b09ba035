import os

import ptune

rows = [
    {"text": "The lamp went out", "choices": ["the bulb was old.", "the window was open."], "answer": 0},
    {"text": "She took an umbrella", "choices": ["the shop was shut.", "it looked like rain."], "answer": 1},
    {"text": "The bus was late", "choices": ["the road was icy.", "the driver liked tea.", "it was blue."], "answer": 0},
]
causes = ptune.fit(
    task="choice",
    train=rows,
    template="{text}{soft:4} because{mask}",  # each row's own choices fill the slot
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=4,
)
asked = {"text": "The soup was cold", "choices": ["the stove was broken.", "the spoon was round."]}
found = causes.predict([asked])[0]
print(found.answer, found.choice, [round(value, 2) for value in found.probabilities])
print(causes.evaluate(rows))
