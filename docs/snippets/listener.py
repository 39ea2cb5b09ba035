import os

import ptune
from ptune.train import TrainEvent

rows = [
    {"text": f"{subject} was {word}.", "label": label}
    for subject in ("The film", "The food", "The hotel")
    for word, label in (("wonderful", "positive"), ("awful", "negative"))
]
losses: list[float] = []


def listen(event: TrainEvent) -> None:
    if event.kind == "step":
        losses.append(event.loss)
    elif event.kind == "validation":
        print(f"step {event.step}: accuracy {event.accuracy:.2f} on held-out rows")


task = ptune.fit(
    out="runs/listener",  # events, the state to resume from, figures and the bundle
    listeners=[listen],
    train=rows,
    hold_out=1,  # one row of each label is kept back to choose the best step
    patience=3,
    template="{text}{soft:4} It was{mask}",
    labels={"positive": ["great"], "negative": ["terrible"]},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"),
    steps=10,
)
print(len(losses), task.facts["training"]["best_step"])
