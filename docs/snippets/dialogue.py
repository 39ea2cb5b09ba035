import os

import ptune

rows = [
    {"prompt": "Are you open on Sunday?", "response": "Yes, from ten to six."},
    {
        "messages": [
            {"role": "user", "content": "Do you have bikes?"},
            {"role": "assistant", "content": "Yes, three kinds."},
            {"role": "user", "content": "How much is one?"},
            {"role": "assistant", "content": "Ten a day."},
        ]
    },
]
desk = ptune.fit(
    task="dialogue",
    train=rows,
    template="{messages}{soft:8}{mask}",
    chat_template="plain",  # leave it out for a model that was taught a chat
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    max_length=56,
    max_new_tokens=16,
    steps=4,
)
print(desk.predict(["Are you open on Monday?"])[0].text)
print(desk.predict([{"prompt": "And for two?", "history": [["How much is one?", "Ten a day."]]}])[0].text)
