import os

import ptune
from ptune.bundle import export_peft, export_prompt_embeds, export_vocabulary, import_prompt

backbone = ptune.load_backbone(os.environ.get("PTUNE_SNIPPET_BACKBONE", "smollm2-135m-q4"))
task = ptune.fit(
    train=[
        {"text": "A story that stays with you.", "label": "positive"},
        {"text": "The plot makes no sense at all.", "label": "negative"},
    ],
    template="{text} It was{mask}",
    labels={"positive": ["great"], "negative": ["terrible"]},
    method={"name": "prompt-tuning", "num_tokens": 8},
    backbone=backbone,
    steps=4,
)

done = export_peft(task.model, "adapter", facts=task.facts)  # opens with peft.PeftModel.from_pretrained
print(done.what, done.lost)

back = import_prompt("adapter", backbone=backbone)  # the whole task, by the card beside the adapter
foreign = import_prompt(  # an adapter of PEFT's own holds the prompt alone: say the rest
    "adapter",
    backbone=backbone,
    template="{text} All in all{mask}",
    labels={"good": ["good"], "bad": ["bad"]},
)
ptune.Task(foreign.model, dict(foreign.facts)).save("foreign-task")

export_prompt_embeds(task.model, {"text": "I would buy it again."}, "prompt.safetensors")  # [T, D] for vLLM
export_vocabulary(task.model, "words")  # a model folder whose tokenizer knows <ptune_0> ... <ptune_7>
