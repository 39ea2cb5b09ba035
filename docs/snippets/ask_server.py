import os
import socket
import threading
from pathlib import Path

import uvicorn

import ptune
from ptune.serve import Client, ServeSettings, build_app

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
reviews = ptune.fit(
    train=[{"text": "Works like a charm.", "label": "good"}, {"text": "It broke at once.", "label": "bad"}],
    template="{text}{soft:4} It was{mask}",
    labels={"good": ["great"], "bad": ["terrible"]},
    backbone=backbone,
    steps=4,
)
reviews.save("served/reviews")

# A server inside this program; `ptune serve served` is the same in a process of its own.
listening = socket.create_server(("127.0.0.1", 0))
app = build_app(ServeSettings(Path("served")), backbone)
server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
thread.start()

client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}")
print(client.predict("reviews", "The hinge broke in a week."))

client.close()
server.should_exit = True
thread.join()
listening.close()
