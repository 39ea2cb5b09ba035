import os

import ptune

context = "The lighthouse was built in 1902. Its lamp came from Lyon."
rows = [
    {"context": context, "question": "When was it built?", "answers": {"text": ["1902"], "answer_start": [28]}},
    {"context": context, "question": "Where did the lamp come from?", "answers": {"text": ["Lyon"], "answer_start": [53]}},
    {"context": context, "question": "Who keeps it?", "answers": {"text": [], "answer_start": []}},
]
asked = ptune.fit(
    task="qa",
    train=rows,
    template="{question}\n{context}",
    method={"name": "p-tuning-v2", "num_tokens": 8},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "minilm-l6"),
    steps=4,
)
answer = asked.predict([{"context": context, "question": "When was it built?"}])[0]
print(answer.text or "no answer", answer.start, answer.end)
print([one.text for one, _ in answer.n_best])
