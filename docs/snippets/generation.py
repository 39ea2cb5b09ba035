import os

import ptune

rows = [
    {"input": "name[Blue Door], food[French], area[harbour]", "target": "Blue Door is a French restaurant at the harbour."},
    {"input": "name[Old Mill], food[Chinese]", "target": "At the Old Mill you can eat Chinese food."},
]
describe = ptune.fit(
    task="generation",
    train=rows,
    template="{input}\nDescription:{mask}",
    method={"name": "p-tuning-v2", "num_tokens": 8, "placement": "behind"},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    max_length=56,
    max_new_tokens=20,
    steps=4,
)
asked = "name[Green Cup], food[English], area[city]"
print(describe.predict([asked])[0].text)  # the most probable token each time
print(describe.predict([asked], beams=4, returns=2)[0].alternatives)
print(describe.predict([asked], temperature=0.8, top_p=0.9, seed=1)[0].text)
for piece in describe.stream_text(asked):
    print(piece, end="", flush=True)
